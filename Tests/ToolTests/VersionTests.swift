import Foundation
import Host
import Testing

enum BuiltTools {
  /// Where the build put the tools: beside the test bundle, whose path is among the runner's arguments.
  static var directory: URL? {
    (CommandLine.arguments + [Bundle.main.executablePath ?? "", ".build/debug/."]).lazy
      .map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      .first { FileManager.default.isExecutableFile(atPath: $0.appendingPathComponent("grassctl").path) }
  }
}

struct VersionTests {
  @Test(arguments: ["grassd", "grassctl", "grass-compile", "grasslab", "linkcheck", "grass-fleet"])
  func everyToolSaysTheOneVersion(tool: String) throws {
    let process = Process()
    process.executableURL = try #require(BuiltTools.directory).appendingPathComponent(tool)
    process.arguments = ["--version"]
    process.standardInput = FileHandle.nullDevice
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(text == "\(tool) \(Version.current)\n")
    #expect(process.terminationStatus == 0)
  }

  @Test func theVersionIsASemanticOne() {
    #expect(Version.current.wholeMatch(of: /\d+\.\d+\.\d+(-dev)?/) != nil)
  }
}
