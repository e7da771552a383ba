import Foundation
import Glibc
import Lab

/// A program that runs beside a test, and ends with it.
package final class RunningProgram {
  private let process = Process()
  private let log: String

  /// Starts it; what it says goes to a file.
  package init(_ program: String, _ arguments: [String], log: String) throws {
    self.log = log
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments = ["--pdeathsig", "KILL", "--", program] + arguments
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    let output = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
    process.standardOutput = output
    process.standardError = output
    process.standardInput = FileHandle.nullDevice
    try Spawner.shared.start(process)
  }

  /// What it said.
  package var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

  package var isRunning: Bool { process.isRunning }

  package func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  /// Ends it without a warning: not every program unblocks the signals that the lab's own threads block.
  package func stop() {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }

  /// A port of this machine's that nobody has now, for programs that choose none themselves.
  package static func freePort() -> Int {
    guard let one = try? loopbackListener() else { return 0 }
    close(one.socket)
    return Int(one.port)
  }
}
