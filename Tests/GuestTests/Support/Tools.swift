import Foundation
import Testing

/// Runs the built tools, as a user would.
struct BuiltTool {
  let name: String

  struct Result {
    let status: Int32
    let output: [UInt8]
    let errors: String
    var text: String { String(decoding: output, as: UTF8.self) }
  }

  /// Where the build put the tools: beside the test bundle.
  static var directory: URL {
    // The test runner's own path lies in the toolchain or in the build, by sanitizer and version; the bundle's does not.
    let candidates = [CommandLine.arguments[0]] + CommandLine.arguments + [Bundle.main.executablePath ?? ""]
    for path in candidates {
      let directory = URL(fileURLWithPath: path).deletingLastPathComponent()
      if FileManager.default.isExecutableFile(atPath: directory.appendingPathComponent("grassctl").path) {
        return directory
      }
    }
    return URL(fileURLWithPath: FileManager.default.currentDirectoryPath).appendingPathComponent(".build/debug")
  }

  /// Runs the tool to its end; one that does not come to an end is killed after two minutes, which its status shows.
  @discardableResult
  func run(_ arguments: [String]) throws -> Result {
    let process = Process()
    process.executableURL = Self.directory.appendingPathComponent(name)
    process.arguments = arguments
    let output = Pipe()
    let errorFile = FileManager.default.temporaryDirectory.appendingPathComponent("grass-stderr-\(UUID().uuidString)")
    _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
    defer { try? FileManager.default.removeItem(at: errorFile) }
    process.standardOutput = output
    process.standardError = try FileHandle(forWritingTo: errorFile)
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let watchdog = DispatchWorkItem { kill(process.processIdentifier, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + 120, execute: watchdog)
    defer { watchdog.cancel() }
    let bytes = Array(output.fileHandleForReading.readDataToEndOfFile())
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus, output: bytes,
      errors: String(decoding: try Data(contentsOf: errorFile), as: UTF8.self))
  }

  /// The objects that the tool prints with `--json`.
  func json(_ arguments: [String]) throws -> [[String: Any]] {
    let result = try run(arguments + ["--json"])
    try #require(result.status == 0, "\(name) \(arguments.joined(separator: " ")): \(result.errors)")
    // JSONSerialization refuses lone surrogates; a private-use character stands for each byte that is not UTF-8.
    let text = result.text.replacingOccurrences(of: "\\udc", with: "\\ue0")
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
  }
}

extension String {
  /// The bytes that a string in a tool's JSON stands for.
  var documentedBytes: [UInt8] {
    unicodeScalars.flatMap { scalar -> [UInt8] in
      (0xe080...0xe0ff).contains(scalar.value) ? [UInt8(scalar.value & 0xff)] : Array(String(scalar).utf8)
    }
  }
}
