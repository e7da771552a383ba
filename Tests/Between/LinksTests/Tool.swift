import Foundation

/// `linkcheck` in a process of its own, found beside the test bundle.
final class Tool {
  private let running = Process()
  private let output = Pipe()
  private var rest = Data()

  /// Starts it, with no more than so many descriptors.
  init(_ arguments: [String], descriptors: Int? = nil) throws {
    let folder = (CommandLine.arguments + [Bundle.main.executablePath ?? "", ".build/debug/."]).lazy
      .map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      .first { FileManager.default.isExecutableFile(atPath: $0.appendingPathComponent("linkcheck").path) }
    guard let folder else { throw CocoaError(.fileNoSuchFile) }
    let path = folder.appendingPathComponent("linkcheck")
    running.executableURL = descriptors == nil ? path : URL(fileURLWithPath: "/bin/sh")
    running.arguments =
      descriptors.map { ["-c", "ulimit -n \($0) && exec \"$0\" \"$@\"", path.path] + arguments } ?? arguments
    running.standardInput = FileHandle.nullDevice
    running.standardOutput = output
    try running.run()
  }

  var process: pid_t { running.processIdentifier }

  /// The next line that it prints, or nil where it has ended.
  func line() -> String? {
    while true {
      if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
        defer { rest.removeSubrange(...end) }
        return String(decoding: rest[..<end], as: UTF8.self)
      }
      let more = output.fileHandleForReading.availableData
      if more.isEmpty { return nil }
      rest += more
    }
  }

  /// Ends it, and waits until it has.
  ///
  /// A second call does nothing.
  func end() {
    guard running.isRunning else { return }
    kill(process, SIGKILL)
    running.waitUntilExit()
  }
}
