import Foundation
import Lab
import Testing

extension GuestTests {
  /// Code for GPUs that this machine need not have: NVIDIA's own assembler takes it, for every kind of processor.
  @Suite(.serialized) struct PTXTests {
    /// The resident program with all monitors, one in Swift among them, and all detectors, as grassd compile writes it.
    @Test func theResidentProgramAssembles() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[1])
      let output = FileManager.default.temporaryDirectory.appendingPathComponent("grass-\(UUID().uuidString).ptx")
      defer { try? FileManager.default.removeItem(at: output) }
      // The assembler takes its time: it works on one while the next is compiled.
      var assemblies: [PTXAssembly] = []
      // What regions with keys need is added for one of them: it is most of such a program.
      for (capability, hasKeys) in [(70, false), (80, false), (90, false), (90, true)] {
        let form: [String] = hasKeys ? ["--keys"] : []
        let compiled = try BuiltTool(name: "grassd").run(
          ["compile"] + (allMonitors + ["swift/ps.swift"]).map(monitorPath) + [
            "--memory", guest.memoryPath, "--detectors", "--target", "sm_\(capability)", "-o", output.path,
          ] + form)
        #expect(compiled.status == 0, "\(compiled.errors)")
        let code = Array(try Data(contentsOf: output))
        let lines = String(decoding: code.prefix(4000), as: UTF8.self).split(separator: "\n")
        #expect(lines.prefix(10).contains("// keys") == hasKeys)
        let head = lines.prefix(4)
        #expect(head.first == "// grass program 2")
        #expect(head.contains("// target sm_\(capability)"))
        #expect(head.last?.hasPrefix("// monitors \(allMonitors.joined(separator: " ")) swift_ps detect_") == true)
        #expect(
          head.last?.contains(" detect_words") == true && !compiled.errors.contains("left out"), "\(compiled.errors)")
        // What it takes depends on the code, not on how well it makes something of it: that is tried for the newest, and takes long.
        assemblies.append(try PTXAssembly(of: code, capability: capability, isOptimized: hasKeys))
      }
      for assembly in assemblies {
        let entries = try assembly.entries()
        #expect(entries.contains("grass_resident"), "sm_\(assembly.capability): \(entries)")
      }
    }
  }
}

/// The monitors in C that come with GRASS, in the order of their names.
let allMonitors: [String] = {
  let folder = URL(filePath: monitorPath("ps")).deletingLastPathComponent().path
  let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  return files.filter { $0.hasSuffix(".c") }.map { String($0.dropLast(2)) }.sorted()
}()

/// A run of NVIDIA's assembler, which scripts/setup fetches.
private final class PTXAssembly {
  let capability: Int
  private let process = Process()
  private let messages = Pipe()
  private let folder: URL

  init(of code: [UInt8], capability: Int, isOptimized: Bool) throws {
    self.capability = capability
    let environment = ProcessInfo.processInfo.environment
    let cache =
      environment["GRASS_CACHE"] ?? (environment["XDG_CACHE_HOME"] ?? NSHomeDirectory() + "/.cache") + "/grass"
    let path = cache + "/ptxas"
    try #require(
      FileManager.default.isExecutableFile(atPath: path),
      "there is no \(path); run scripts/setup, which takes it out of NVIDIA's package for Python")
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-ptx-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let source = folder.appendingPathComponent("program.ptx")
    try Data(code).write(to: source)
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = [
      "--gpu-name", "sm_\(capability)", "--opt-level", isOptimized ? "3" : "1", "--verbose", "-o",
      folder.appendingPathComponent("program.cubin").path,
      source.path,
    ]
    process.standardError = messages
    process.standardOutput = messages
    try process.run()
  }

  deinit {
    if process.isRunning { process.terminate() }
    try? FileManager.default.removeItem(at: folder)
  }

  /// Waits for its end.
  ///
  /// - Returns: the names of the kernels that it assembled.
  func entries() throws -> [String] {
    let text = String(decoding: messages.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "ptxas for sm_\(capability): \(text)")
    return text.split(separator: "\n").compactMap { line in
      guard line.contains("Compiling entry function") else { return nil }
      return line.split(separator: "'").dropFirst().first.map(String.init)
    }
  }
}
