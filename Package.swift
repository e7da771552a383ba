// swift-tools-version: 6.2
import PackageDescription

// The rooms, as DESIGN.md tells them: what is watched, what lies between, the device, the remote side, the tools. Each
// function makes a target in its room; its tests lie in the same room of `Tests`.

/// A module of `room` and, by convention, its tests.
func module(
  _ name: String, in room: String, path folder: String? = nil, _ dependencies: [Target.Dependency] = [],
  tests: [Target.Dependency]? = nil
) -> [Target] {
  let path = "\(room.isEmpty ? "" : "\(room)/")\(folder ?? name)"
  let target = Target.target(name: name, dependencies: dependencies, path: "Sources/\(path)")
  guard let tests else { return [target] }
  return [
    target,
    .testTarget(
      name: "\(name)Tests", dependencies: [.init(stringLiteral: name)] + dependencies + tests,
      path: "Tests/\(room.isEmpty ? "" : "\(room)/")\(name)Tests"),
  ]
}

/// A module in C.
func c(_ name: String, in room: String = "", _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, path: "Sources/\(room.isEmpty ? "" : "\(room)/")\(name)")
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

var targets: [Target] = []

// What all rooms stand on: Linux calls that Swift's importer does not see; threads, locks and calls.
targets += [c("CLinux")]
targets += module("Host", in: "", ["CLinux"])

// MARK: The watched side: bytes become values

// Layouts and numbers that C and Swift share: pieces of memory, faults, page tables.
targets += [c("CLayouts", in: "Watched")]
let kernel: [Target.Dependency] = ["Memory", "Paging", "KernelInfo", "Binding", "LinuxKernel"]
targets += module("Memory", in: "Watched", ["CLayouts", "CLinux", "CCompression"], tests: ["Samples"])
targets += module("Paging", in: "Watched", ["CLayouts", "Memory"], tests: ["Samples", "CPageWalk"])
targets += module("KernelInfo", in: "Watched", ["Memory"])
targets += module("Binding", in: "Watched", ["Memory", "Paging", "KernelInfo"])
targets += module(
  "LinuxKernel", in: "Watched", ["Memory", "Paging", "KernelInfo", "Binding"], tests: ["Samples"])
// A kernel's own file, as a vendor's package has it, as memory.
targets += [
  .systemLibrary(
    name: "CCompression", path: "Sources/Watched/CCompression",
    providers: [.apt(["liblzma-dev", "libzstd-dev", "zlib1g-dev"])])
]
targets += module(
  "KernelFile", in: "Watched", ["CLinux", "CCompression", "Memory"], tests: [])
// What a view is.
targets += module(
  "Views", in: "Watched/Views", path: "Base", ["Memory", "Paging", "Binding", "LinuxKernel"], tests: [])
// Views, base first: each may stand on those above it.
targets += module("TaskViews", in: "Watched/Views", path: "Tasks", kernel + ["Views"])
targets += module("CodeViews", in: "Watched/Views", path: "Code", kernel + ["Views", "TaskViews"])
targets += module("StorageViews", in: "Watched/Views", path: "Storage", kernel + ["Views", "TaskViews"])
targets += module("NetworkViews", in: "Watched/Views", path: "Network", kernel + ["Views", "TaskViews"])
targets += module(
  "ProcessViews", in: "Watched/Views", path: "Processes",
  kernel + ["Views", "TaskViews", "StorageViews", "NetworkViews"])
targets += module(
  "WaitingViews", in: "Watched/Views", path: "Waiting", kernel + ["Views", "TaskViews", "CodeViews", "StorageViews"])
targets += module("MachineViews", in: "Watched/Views", path: "Machine", kernel + ["CLayouts", "Views", "TaskViews"])
targets += module("HookViews", in: "Watched/Views", path: "Hooks", kernel + ["Views", "CodeViews", "NetworkViews"])
let views: [Target.Dependency] = [
  "TaskViews", "CodeViews", "StorageViews", "NetworkViews", "ProcessViews", "WaitingViews", "MachineViews", "HookViews",
]
targets += module(
  "KernelViews", in: "Watched/Views", path: "All", ["Memory", "Paging", "KernelInfo", "LinuxKernel", "Views"] + views)
// Code of x86-64 as bytes, in C, since whole texts are looked through.
targets += [
  .target(name: "CCode", path: "Sources/Watched/CCode", cSettings: [.unsafeFlags(["-O2"])])
]
// What is wrong with a host, found by itself.
targets += module(
  "Detection", in: "Watched",
  [
    "CCode", "Memory", "Paging", "KernelInfo", "Binding", "LinuxKernel", "Views", "TaskViews", "CodeViews",
    "KernelViews", "CRegion",
    "Records",
  ],
  tests: ["Samples"])
targets += [
  .testTarget(
    name: "KernelViewsTests", dependencies: kernel + views + ["KernelViews", "Samples"],
    path: "Tests/Watched/KernelViewsTests")
]
// Kernels written in code, for tests and fuzzers.
targets += [
  .target(name: "Samples", dependencies: ["Memory", "KernelInfo", "KernelViews"], path: "Tests/Support/Samples")
]

// A folder for a test's files, and programs that run beside it.
targets += [.target(name: "Scratch", dependencies: ["Lab"], path: "Tests/Support/Scratch")]
// The walk through page tables in C, as devices have it, over bytes that a test gives.
targets += [.target(name: "CPageWalk", dependencies: ["CLayouts"], path: "Tests/Support/CPageWalk")]

// MARK: What lies between: what both sides share

// The layout of the shared region, once, for the device program and for Swift.
targets += [c("CRegion", in: "Between", ["CLayouts"])]
targets += module("Region", in: "Between", ["CLinux", "Host", "CRegion"], tests: [])
// What sessions' keys stand on: freestanding C, one source for Swift, for the device program, and for GPUs.
targets += [
  .target(
    name: "CSeal", path: "Sources/Between/CSeal", cSettings: [.unsafeFlags(["-ffreestanding", "-O2"])]),
  // Published vectors as cases that run wherever the core does.
  .target(name: "CSealCases", dependencies: ["CSeal"], path: "Tests/Support/CSealCases"),
  .testTarget(
    name: "SealTests", dependencies: ["CSeal", "CSealCases"], path: "Tests/Between/SealTests",
    resources: [.copy("Resources")]),
]
// Keys of people and devices, their files, who may do what, certificates, and the handshake's end that begins it.
targets += module("Keys", in: "Between", ["CSeal", "Host", crypto], tests: ["Scratch"])
// The records that monitors emit: a header for each monitor, which its source includes, and a Swift type over it.
targets += [c("CRecords", in: "Between")]
targets += module("Records", in: "Between", ["CLayouts", "CRegion", "CRecords", "CSeal", "Memory"], tests: [])
// RDMA devices: rdma-core's libraries, and Swift types that own what they make.
targets += [
  .systemLibrary(
    name: "CVerbs", path: "Sources/Between/CVerbs", providers: [.apt(["libibverbs-dev", "librdmacm-dev"])])
]
targets += module("Verbs", in: "Between", ["CVerbs", "Host"], tests: [])
targets += module(
  "Links", in: "Between", ["Host", "Region", "CRegion", "Verbs"], tests: ["LinkConformance", "linkcheck"])
// What every link promises, as checks that run wherever the link does.
targets += module("LinkConformance", in: "Between", ["Links", "Region"])

// MARK: The device: what runs beside the watched machine

// What monitors stand on, wherever they run.
targets += [c("CRuntime", in: "Device", ["CLayouts", "CRegion"])]
// The program that serves the region's slots: freestanding C.
targets += [
  .target(
    name: "CMailbox", dependencies: ["CLayouts", "CRegion", "CRuntime", "CSeal"], path: "Sources/Device/CMailbox",
    exclude: ["gpu"],
    cSettings: [.unsafeFlags(["-ffreestanding", "-O2"])])
]
// NVIDIA's driver, loaded at run time where there is one.
targets += module("CUDA", in: "Device", ["CLinux"], tests: [])
targets += module(
  "Devices", in: "Device",
  ["CLinux", "Host", "Memory", "Paging", "Region", "CRegion", "CMailbox", "CRuntime", "CUDA"],
  tests: ["Records"])
// The compiler that binds monitors to a kernel.
targets += [
  .systemLibrary(name: "CLLVM", path: "Sources/Device/CLLVM", providers: [.apt(["llvm-19-dev"])])
]
// The texts of what runs on devices, which the compiler has with it.
targets += [
  .target(
    name: "CDeviceSources", path: "Sources/Device/CDeviceSources", cSettings: [.unsafeFlags(["-std=gnu23"])])
]
targets += module(
  "LLView", in: "Device",
  [
    "Memory", "Paging", "KernelInfo", "LinuxKernel", "Devices", "Records", "CRegion", "CMailbox", "CRuntime",
    "CDeviceSources", "CLLVM",
  ],
  tests: ["Host", "Region", "Samples", "Links", "Remote"])
// What grassd decides: finding, loading, reloading, reporting.
targets += module(
  "Daemon", in: "Device",
  [
    "Host", "Memory", "LinuxKernel", "Detection", "CUDA", "Devices", "CRegion", "Region", "Records", "Links", "Keys",
  ], tests: ["Samples"])

// MARK: The remote side: the side that asks

// What a user knows of hosts: their keys, their names.
targets += module("Hosts", in: "Remote", ["Keys"], tests: ["Scratch"])
targets += module(
  "Remote", in: "Remote",
  ["Host", "Memory", "Paging", "Region", "CRegion", "CSeal", "Keys", "Records", "Links", "Hosts"],
  tests: ["Devices", "LinkConformance"])

// Images of a host's memory, written.
targets += module(
  "Acquisition", in: "Remote",
  ["Host", "CCompression", "Memory", "Paging", "KernelInfo", "LinuxKernel", "MachineViews", crypto], tests: ["Scratch"])

// Images of hosts, of which each costs what changed since the one before.
targets += module(
  "ImageStore", in: "Remote", ["Host", "CCompression", "Memory", "Keys", "Acquisition", crypto], tests: ["Scratch"])

// What a watched kernel's /proc shows, as a tree of files; libfuse, and that tree mounted.
targets += module(
  "Shadow", in: "Remote",
  kernel + ["TaskViews", "CodeViews", "StorageViews", "NetworkViews", "ProcessViews", "MachineViews"], tests: [])
targets += [
  .systemLibrary(name: "CFuse", path: "Sources/Remote/CFuse", providers: [.apt(["libfuse3-dev"])])
]
targets += module("ShadowMount", in: "Remote", ["CFuse", "Host", "StorageViews", "Shadow"])
// A program in namespaces of its own, whose calls are answered for the watched host.
targets += [c("CSandbox", in: "Remote")]
targets += module(
  "ShadowExec", in: "Remote",
  ["CLinux", "CSandbox", "Host", "LinuxKernel", "Memory", "NetworkViews", "StorageViews", "Shadow", "ShadowMount"],
  tests: [])

// The service that watches many hosts: its configuration, their states, what lasts, the page.
targets += [
  .target(
    name: "CFleetFiles", path: "Sources/Remote/CFleetFiles", exclude: ["pages"],
    cSettings: [.unsafeFlags(["-std=gnu23"])])
]
targets += module(
  "Fleet", in: "Remote",
  [
    "CFleetFiles",
    "Host", "Memory", "Paging", "LinuxKernel", "KernelViews", "StorageViews", "Detection", "Records", "Keys", "Links",
    "Hosts", "Remote", "Shadow", "Output", "Acquisition", "ImageStore",
    .product(name: "HTTPTypes", package: "swift-http-types"),
    .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdTLS", package: "hummingbird"),
    .product(name: "Mustache", package: "swift-mustache"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
    .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
    .product(name: "NIOCore", package: "swift-nio"), .product(name: "GRDB", package: "GRDB.swift"), "Yams", logging,
    crypto,
    cryptoExtras,
  ], tests: ["Scratch", "CRegion", "Region", "grass-fleet"])

// MARK: Figures, guests, tools

targets += module(
  "LinkBench", in: "", ["Memory", "Region", "CRegion", "Links", "Remote"], tests: ["Devices"])

// Real guests to watch.
targets += module("Lab", in: "", ["CLinux"], tests: [])
for target in targets where target.name == "Lab" { target.resources = [.copy("Guest/Resources")] }

// The tools: parse, call one library function, print.
// What they print: tables, JSON, and the rows of any view as one of these.
targets += module("Output", in: "Tools", ["Views"], tests: ["Memory", "LinuxKernel"])
// Options that several tools take.
targets += [.target(name: "ToolOptions", dependencies: ["LinuxKernel", argumentParser], path: "Sources/Tools/Options")]
func tool(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(name: name, dependencies: dependencies + [argumentParser], path: "Sources/Tools/\(name)")
}
targets += [
  tool("grassd", ["Host", "ToolOptions", "LinuxKernel", "Daemon", "CUDA", "Keys", "Region", "Links", logging]),
  // What `grassd compile` runs: the one program that needs LLVM.
  tool(
    "grass-compile", ["Host", "ToolOptions", "Memory", "KernelInfo", "LinuxKernel", "Records", "Devices", "LLView"]),
  tool(
    "grassctl",
    [
      "Host", "ToolOptions", "Memory", "Paging", "KernelInfo", "KernelFile", "LinuxKernel", "Views", "KernelViews",
      "Detection", "Output", "Records", "Links", "Keys", "Hosts",
      "Remote", "Acquisition", "ImageStore", "LinkBench", "Shadow", "ShadowMount", "ShadowExec",
    ]),
  tool(
    "grass-fleet",
    [
      "Host", "Fleet", logging, .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      .product(name: "UnixSignals", package: "swift-service-lifecycle"),
    ]),
  tool("grasslab", ["Host", "Lab"]),
  // The conformance suite as a program, to be run inside guests.
  tool("linkcheck", ["CLinux", "Host", "Keys", "Links", "LinkConformance", "Memory", "Region", "Remote", "Verbs"]),

  // What all of them have in common.
  .testTarget(
    name: "ToolTests",
    dependencies: ["Host", "Scratch", "grassd", "grass-compile", "grassctl", "grass-fleet", "grasslab", "linkcheck"]),

  // End to end: real kernels in QEMU guests, the guest's own /proc as the oracle.
  .testTarget(
    name: "GuestTests",
    dependencies: [
      "Memory", "Paging", "KernelInfo", "Binding", "LinuxKernel", "KernelViews", "Detection", "Devices", "Host",
      "Records", "Links", "LinkConformance", "Keys", "Remote", "Lab", "Samples", "Scratch", "LLView", "grassd",
      "grass-compile", "grassctl", "grass-fleet", "linkcheck",
    ]),
]

// Built only by scripts/fuzz: everything in it needs the sanitizers.
let isFuzzing = Context.environment["GRASS_FUZZ"] != nil
if isFuzzing {
  targets += [
    .target(name: "CFuzz", dependencies: ["CSeal"], path: "Fuzz/CFuzz"),
    .executableTarget(
      name: "grassfuzz",
      dependencies: [
        "Memory", "Paging", "KernelInfo", "KernelViews", "Detection", "Samples", "Region", "Records", "Links", "Remote",
        "CRegion", "CMailbox", "CRuntime", "CSeal", "CFuzz", "CLinux", "Devices", "Lab", "Keys", "Hosts",
      ],
      path: "Fuzz", exclude: ["Corpus", "CFuzz"],
      // What takes most of a handshake's time is done once and remembered.
      linkerSettings: [
        .unsafeFlags(["-Xlinker", "--wrap=grass_x25519", "-Xlinker", "--wrap=grass_make_key_pair"])
      ]),
  ]
}

// Who handles keys binds all functions at its start: the dynamic linker, where it finds one at the first call, saves the processor's
// registers on the stack, and with them what was copied through them last.
for target in targets where target.name == "grassd" {
  target.linkerSettings = (target.linkerSettings ?? []) + [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]
}

for target in targets where target.name.first != "C" || ["CodeViews", "CUDA"].contains(target.name) {
  target.swiftSettings = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
  ]
}

// Tests look at whole kernels, most of them several times: code that is not optimized takes them ten times as long. Whoever
// wants to step through it sets GRASS_DEBUG. Some are quick as they are, and take the optimizer longer than it saves their tests.
let quickAnyway = ["Daemon", "Fleet", "Hosts", "Shadow", "ShadowExec", "ShadowMount", "grass-fleet", "grassctl"]
for target in targets
where target.type != .test && target.swiftSettings != nil && Context.environment["GRASS_DEBUG"] == nil
  && !quickAnyway.contains(target.name)
{
  target.swiftSettings?.append(.unsafeFlags(["-O"], .when(configuration: .debug)))
}

// Debian keeps LLVM's headers and libraries apart, by version.
for target in targets where ["LLView", "LLViewTests", "grass-compile", "GuestTests"].contains(target.name) {
  target.swiftSettings?.append(.unsafeFlags(["-Xcc", "-I/usr/lib/llvm-19/include"]))
  target.linkerSettings = [.unsafeFlags(["-L/usr/lib/llvm-19/lib"])]
}

// A fuzzer finds its way by what of the code an input reaches, which Swift's compiler counts only where it is asked to.
for target in targets where isFuzzing && (target.name.first != "C" || target.name == "CodeViews") {
  target.swiftSettings?.append(.unsafeFlags(["-sanitize=fuzzer"]))
}
// Swift's compiler does not know this sanitizer here, the one of C does; its messages come with the address sanitizer's.
for target in targets where isFuzzing && ["CRegion", "CMailbox", "CRuntime", "CSeal"].contains(target.name) {
  let undefined = ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"]
  target.cSettings = (target.cSettings ?? []) + [.unsafeFlags(undefined)]
}

// A fuzzer's main function is libFuzzer's.
for target in targets where target.name == "grassfuzz" {
  target.swiftSettings?.append(.unsafeFlags(["-parse-as-library"]))
}

let package = Package(
  name: "grass",
  products: [
    .executable(name: "grassd", targets: ["grassd"]),
    .executable(name: "grass-compile", targets: ["grass-compile"]),
    .executable(name: "grassctl", targets: ["grassctl"]),
    .executable(name: "grasslab", targets: ["grasslab"]),
    .executable(name: "grass-fleet", targets: ["grass-fleet"]),
    // The modules as a library, for benchmarks and for views of one's own.
    .library(
      name: "GrassKit",
      targets: [
        "Memory", "Paging", "KernelInfo", "LinuxKernel", "KernelViews", "Links", "Remote", "LinkBench", "Lab",
      ]),
    // What it takes to stand for a device, for benchmarks.
    .library(name: "GrassDevice", targets: ["Memory", "CRegion", "Region", "CMailbox", "Links", "Remote"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    // What grass-fleet stands on: HTTP, pages, a database, its configuration.
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0", traits: []),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: targets
)
