import Foundation
import Lab
import Testing

/// A running grassd over a memory, with a shared-memory and a TCP link.
final class GrassDaemon {
  /// The URLs at which it answers: shared memory first.
  let urls: [String]
  let processID: Int32
  private let process: Process
  private let directory: URL

  /// Starts it, with `monitors` for its device, and waits until it answers.
  init(memory: String, monitors: [String] = [], options: [String] = []) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("grassd-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    process = Process()
    // A daemon of a test that crashed ends with it.
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments =
      [
        "--pdeathsig", "KILL", "--", BuiltTool.directory.appendingPathComponent("grassd").path, "--memory", memory,
        "--listen", "shm://\(directory.path)/region", "tcp://127.0.0.1:0",
      ] + (monitors.isEmpty ? [] : ["--monitors"] + monitors) + options
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try Spawner.shared.start(process)
    processID = process.processIdentifier
    var text = ""
    while text.split(separator: "\n").count < 2 {
      let data = output.fileHandleForReading.availableData
      try #require(!data.isEmpty, "grassd ended: \(text)")
      text += String(decoding: data, as: UTF8.self)
    }
    urls = text.split(separator: "\n").map { String($0.dropFirst("ready ".count)) }
  }

  /// The processes that it has started and that live.
  func children() throws -> [Int32] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(processID)/task").flatMap { task in
      let path = "/proc/\(processID)/task/\(task)/children"
      return (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: " ").compactMap { Int32($0) } ?? []
    }
  }

  /// Sends a signal to grassd itself.
  func signal(_ number: Int32) { kill(processID, number) }

  /// Stops it, and waits until its last thread has stopped: a signal takes a moment to reach those that run.
  func pause() throws {
    signal(SIGSTOP)
    let tasks = "/proc/\(processID)/task"
    for _ in 0..<1000 {
      let states = try FileManager.default.contentsOfDirectory(atPath: tasks).map { task in
        try String(contentsOfFile: "\(tasks)/\(task)/stat", encoding: .utf8).split(separator: ") ").last?.first
      }
      if states.allSatisfy({ $0 == "T" }) { return }
      usleep(5000)
    }
    Issue.record("grassd does not stop")
  }

  /// Waits for its end after ``signal(_:)`` killed it, and removes what it could not.
  func bury() {
    signal(SIGKILL)
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: directory)
  }

  /// Ends it as an operator would, and checks that it leaves nothing behind.
  func stop() {
    process.terminate()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(!FileManager.default.fileExists(atPath: directory.path + "/region"), "grassd left its region behind")
    try? FileManager.default.removeItem(at: directory)
  }
}
