import Foundation

/// The root file system of a guest: busybox, the workload, and the agent.
enum Initramfs {
  /// The archive that a guest boots with.
  ///
  /// It loads `modules`, the kernel's, in this order.
  static func make(_ options: GuestOptions, modules: [URL], cache: URL) throws -> [UInt8] {
    var archive = CPIOArchive()
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "lib", "lib64", "modules"] {
      archive.addDirectory(directory)
    }
    archive.addCharacterDevice("dev/console", major: 5, minor: 1)
    let busybox = "/bin/busybox"
    guard let program = FileManager.default.contents(atPath: busybox) else {
      throw LabError("there is no \(busybox); run scripts/setup to install busybox-static")
    }
    archive.addFile("bin/busybox", Array(program), executable: true)
    let own = Set(options.programs.map { URL(fileURLWithPath: $0).lastPathComponent } + ["busybox"])
    for applet in try applets(of: busybox) where !own.contains(applet) {
      archive.addLink("bin/\(applet)", to: "busybox")
    }
    archive.addFile("init", try resource("init.sh"), executable: true)
    archive.addFile("bin/agent", try resource("agent.sh"), executable: true)
    if options.hasDisk {
      archive.addDirectory("disk")
      archive.addFile("etc/agent.service", try resource("agent.service"))
    }
    if let sleepers = options.sleepers {
      archive.addFile("bin/workload", try compiled("workload", cache: cache), executable: true)
      archive.addFile("etc/workload", Array("\(sleepers)\n".utf8))
    }
    if options.isBreakable {
      archive.addFile("bin/breaker", try compiled("breaker", cache: cache), executable: true)
    }
    try add(options.programs, to: &archive)
    for module in modules {
      archive.addFile("modules/\(module.lastPathComponent)", Array(try Data(contentsOf: module)))
    }
    archive.addFile("etc/modules", Array(modules.map { $0.lastPathComponent + "\n" }.joined().utf8))
    if let network = options.network {
      archive.addFile("etc/address", Array("\(network.address)\n".utf8))
      try addVerbsDriver(to: &archive)
    }
    return archive.finished()
  }

  /// Puts kernel modules into /modules, programs into /bin, and what they load into /lib, where the loader looks for it.
  private static func add(_ programs: [String], to archive: inout CPIOArchive) throws {
    var libraries: Set<String> = []
    for program in programs {
      let url = URL(fileURLWithPath: program)
      if url.pathExtension == "ko" {
        archive.addFile("modules/\(url.lastPathComponent)", Array(try Data(contentsOf: url)))
        continue
      }
      archive.addFile("bin/\(url.lastPathComponent)", Array(try Data(contentsOf: url)), executable: true)
      // Lines are "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)" for the loader.
      for line in try String(decoding: Tool.run("/usr/bin/ldd", [program]), as: UTF8.self).split(separator: "\n") {
        if let path = line.split(separator: " ").first(where: { $0.drop { $0 == "\t" }.hasPrefix("/") }) {
          libraries.insert(String(path.drop { $0 == "\t" }))
        }
      }
    }
    for library in libraries.sorted() {
      let name = URL(fileURLWithPath: library).lastPathComponent
      let directory = name.hasPrefix("ld-linux") ? "lib64" : "lib"
      archive.addFile(
        "\(directory)/\(name)", Array(try Data(contentsOf: URL(fileURLWithPath: library))), executable: true)
    }
  }

  /// The software device's half in user space, which libibverbs looks for by itself.
  private static func addVerbsDriver(to archive: inout CPIOArchive) throws {
    let directory = "usr/lib/x86_64-linux-gnu/libibverbs"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/" + directory)) ?? []
    guard let name = names.first(where: { $0.hasPrefix("librxe-") }) else {
      throw LabError("there is no driver for software RDMA in /\(directory); run scripts/setup")
    }
    var parent = ""
    for part in "etc/libibverbs.d".split(separator: "/") + directory.split(separator: "/") {
      if part == "usr" { parent = "" }
      parent += parent.isEmpty ? "\(part)" : "/\(part)"
      if parent != "etc" { archive.addDirectory(parent) }
    }
    archive.addFile("\(directory)/\(name)", Array(try Data(contentsOf: URL(fileURLWithPath: "/\(directory)/\(name)"))))
    archive.addFile("etc/libibverbs.d/rxe.driver", Array("driver rxe\n".utf8))
  }

  private static func applets(of busybox: String) throws -> [String] {
    try String(decoding: Tool.run(busybox, ["--list"]), as: UTF8.self).split(separator: "\n").map(String.init)
  }

  private static func resource(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: resourceURL(name))) }

  static func resourceURL(_ name: String) throws -> URL {
    guard let url = Bundle.module.url(forResource: name, withExtension: nil, subdirectory: "Resources") else {
      throw LabError("the laboratory's resource \(name) is missing; build the package again")
    }
    return url
  }

  /// One of the laboratory's own programs, compiled once for each content of its source.
  private static func compiled(_ name: String, cache: URL) throws -> [UInt8] {
    let source = try resourceURL("\(name).c")
    let text = try Data(contentsOf: source)
    let hash = text.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    let program = cache.appendingPathComponent("\(name)-\(String(hash, radix: 16))")
    if !FileManager.default.fileExists(atPath: program.path) {
      try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
      let unfinished = cache.appendingPathComponent("\(name)-\(UUID().uuidString)")
      _ = try Tool.run("/usr/bin/cc", ["-static", "-O1", "-pthread", "-o", unfinished.path, source.path])
      // Renamed when complete: another test process may be doing the same.
      guard rename(unfinished.path, program.path) == 0 else { throw LabError("cannot write \(program.path)") }
    }
    return Array(try Data(contentsOf: program))
  }
}

/// Runs a program to its end and returns its output.
enum Tool {
  static func run(_ path: String, _ arguments: [String]) throws -> [UInt8] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardInput = FileHandle.nullDevice
    do {
      try process.run()
    } catch {
      throw LabError("cannot run \(path): \(error.localizedDescription); run scripts/setup")
    }
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw LabError("\(path) \(arguments.joined(separator: " ")) ended with status \(process.terminationStatus)")
    }
    return Array(bytes)
  }
}
