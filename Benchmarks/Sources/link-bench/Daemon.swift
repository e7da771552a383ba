import Foundation

/// A grassd over 64 MiB of a file, with a shared-memory and a TCP link, until it is stopped.
final class Daemon {
  let sharedMemory: String
  let tcp: String
  private let process = Process()
  private let directory: URL

  init(bin: URL) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("link-bench-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let memory = directory.appendingPathComponent("memory.raw")
    try Data(repeating: 0x5a, count: 64 << 20).write(to: memory)
    process.executableURL = bin.appendingPathComponent("grassd")
    process.arguments =
      [
        "--memory", memory.path, "--listen", "shm://\(directory.path)/region", "tcp://127.0.0.1:0",
      ] + Daemon.slots
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    var text = ""
    while text.split(separator: "\n").count < 2 {
      let data = output.fileHandleForReading.availableData
      guard !data.isEmpty else { throw BenchmarkError("grassd ended: \(text)") }
      text += String(decoding: data, as: UTF8.self)
    }
    let urls = text.split(separator: "\n").map { String($0.dropFirst("ready ".count)) }
    sharedMemory = urls[0]
    tcp = urls[1]
  }

  /// Slots that hold the longest request and result whole, for the paper's sequence, which has one buffer for each.
  static let slots = ["--slots", "8", "--request-size", "4100", "--response-size", "4100"]

  func stop() {
    process.terminate()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: directory)
  }
}
