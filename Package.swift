// swift-tools-version: 6.2
import PackageDescription

/// A module and, by convention, its tests in `Tests/<name>Tests`.
func module(_ name: String, _ dependencies: [Target.Dependency] = [], tests: [Target.Dependency] = []) -> [Target] {
  [
    .target(name: name, dependencies: dependencies),
    .testTarget(name: "\(name)Tests", dependencies: [.init(stringLiteral: name)] + dependencies + tests),
  ]
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

var targets: [Target] = [
  // The layout of the shared region, once, for the device program and for Swift.
  .target(name: "CMailbox"),
  // Linux calls that Swift's importer does not see.
  .target(name: "CLinux"),
  // The program that runs on the device: freestanding C.
  .target(
    name: "CMonitor", dependencies: ["CMailbox", "CRuntime"], exclude: ["gpu"],
    cSettings: [.unsafeFlags(["-ffreestanding", "-O2"])]),
  // What monitors stand on, wherever they run.
  .target(name: "CRuntime"),
]

// In the order in which data flows: bytes, addresses, symbols and types, views, findings.
targets += module("Memory", ["CLinux"], tests: ["Samples"])
targets += module("Paging", ["Memory"], tests: ["Samples"])
targets += module("KernelInfo", ["Memory"], tests: ["Samples"])
targets += module("KernelViews", ["Memory", "Paging", "KernelInfo"], tests: ["Samples"])
// Kernels written in code, for tests and fuzzers.
targets += [.target(name: "Samples", dependencies: ["Memory", "KernelInfo", "KernelViews"], path: "Tests/Samples")]

// How a remote host reaches that memory.
targets += module("Mailbox", ["CMailbox"])
// NVIDIA's driver, loaded at run time where there is one.
targets += module("CUDA", ["CLinux"])
targets += module("Monitor", ["CLinux", "Memory", "Paging", "Mailbox", "CMailbox", "CMonitor", "CRuntime", "CUDA"])
// RDMA devices: rdma-core's libraries, and Swift types that own what they make.
targets += [
  .systemLibrary(name: "CVerbs", providers: [.apt(["libibverbs-dev", "librdmacm-dev"])])
]
targets += module("Verbs", ["CVerbs", "Mailbox"])
targets += module("Links", ["Memory", "Mailbox", "CMailbox", "Verbs"], tests: ["LinkConformance"])
// What every link promises, as checks that run wherever the link does.
targets += [.target(name: "LinkConformance", dependencies: ["Links", "Mailbox", "CMailbox"])]
targets += module(
  "RemoteHost", ["Memory", "Paging", "Mailbox", "CMailbox", "Links", "Monitor"], tests: ["LinkConformance"])

// How fast that is.
targets += module("Bench", ["Memory", "Mailbox", "CMailbox", "Links", "RemoteHost"], tests: ["Monitor"])

// The compiler that binds monitors to a kernel.
targets += [
  .systemLibrary(name: "CLLVM", providers: [.apt(["llvm-19-dev"])])
]
targets += module(
  "LLView", ["Memory", "Paging", "KernelInfo", "Monitor", "CMailbox", "CMonitor", "CRuntime", "CLLVM"],
  tests: ["Samples", "KernelViews", "Mailbox", "Links", "RemoteHost"])
for target in targets where target.name == "LLView" {
  target.resources = [
    "grass_run.h", "runtime.c", "resident.c", "grass_gpu.h", "grass_monitor.h", "grass_mailbox.h",
  ].map { .embedInCode("Runtime/\($0)") }
}

// Real guests to watch.
targets += module("Lab", ["CLinux"])
for target in targets where target.name == "Lab" { target.resources = [.copy("Guest/Resources")] }

// The tools: parse, call one library function, print.
targets += [
  .executableTarget(
    name: "grassd",
    dependencies: [
      "Memory", "Paging", "KernelInfo", "KernelViews", "CUDA", "Monitor", "Links", argumentParser, logging,
    ]),
  // What `grassd compile` runs: the one program that needs LLVM.
  .executableTarget(
    name: "grass-compile",
    dependencies: ["Memory", "KernelInfo", "KernelViews", "Monitor", "LLView", argumentParser]),
  .executableTarget(
    name: "grassctl",
    dependencies: [
      "Memory", "Paging", "KernelInfo", "KernelViews", "Links", "Monitor", "RemoteHost", "Bench", argumentParser,
    ]),
  .executableTarget(name: "grasslab", dependencies: ["Lab", argumentParser]),
  // The conformance suite as a program, to be run inside guests.
  .executableTarget(
    name: "linkcheck", dependencies: ["CLinux", "Links", "LinkConformance", "Mailbox", "Verbs", argumentParser]),

  // End to end: real kernels in QEMU guests, the guest's own /proc as the oracle.
  .testTarget(
    name: "GuestTests",
    dependencies: [
      "Memory", "Paging", "KernelInfo", "KernelViews", "Monitor", "Mailbox", "Links", "LinkConformance", "RemoteHost",
      "Lab", "Samples",
      "LLView", "grassd", "grass-compile", "grassctl", "linkcheck",
    ]),
]

// Built by scripts/fuzz alone: everything in it needs the sanitizers.
let isFuzzing = Context.environment["GRASS_FUZZ"] != nil
if isFuzzing {
  targets += [
    .executableTarget(
      name: "grassfuzz",
      dependencies: [
        "Memory", "Paging", "KernelInfo", "KernelViews", "Samples", "Mailbox", "Links", "RemoteHost", "CMailbox",
        "CMonitor", "CRuntime", "CLinux", "Monitor", "Lab",
      ],
      path: "Fuzz", exclude: ["Corpus"])
  ]
}

for target in targets where target.name.first != "C" {
  target.swiftSettings = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
  ]
}

// Debian keeps LLVM's headers and libraries apart, by version.
for target in targets where ["LLView", "LLViewTests", "grass-compile", "GuestTests"].contains(target.name) {
  target.swiftSettings?.append(.unsafeFlags(["-Xcc", "-I/usr/lib/llvm-19/include"]))
  target.linkerSettings = [.unsafeFlags(["-L/usr/lib/llvm-19/lib"])]
}

// A fuzzer finds its way by what of the code an input reaches, which Swift's compiler counts only where it is asked to.
for target in targets where isFuzzing && target.name.first != "C" {
  target.swiftSettings?.append(.unsafeFlags(["-sanitize=fuzzer"]))
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
    // The modules as a library, for benchmarks and for views of one's own.
    .library(
      name: "GrassKit",
      targets: ["Memory", "Paging", "KernelInfo", "KernelViews", "Links", "RemoteHost", "Bench", "Lab"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
  ],
  targets: targets
)
