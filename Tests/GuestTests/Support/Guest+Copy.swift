import Foundation
import Lab

extension Guest {
  /// Copies the guest's memory as it was at one moment: meanwhile the guest stands still.
  func copyMemory(to copy: URL) throws {
    kill(processID, SIGSTOP)
    defer { kill(processID, SIGCONT) }
    let copying = Process()
    copying.executableURL = URL(fileURLWithPath: "/bin/cp")
    copying.arguments = ["--sparse=always", memoryPath, copy.path]
    try copying.run()
    copying.waitUntilExit()
    guard copying.terminationStatus == 0 else {
      throw LabError("the memory of a guest cannot be copied to \(copy.path)")
    }
  }
}
