public import Foundation

/// A grassd over a memory, with a shared-memory and a TCP link, until it is stopped.
public final class Daemon {
  /// Where it answers: shared memory, then TCP.
  public let urls: [String]
  private let process = Process()
  private let directory: URL

  /// Starts it, and waits until it answers.
  ///
  /// `slots` are its options of slots.
  public init(bin: URL, memory: String, slots: [String] = []) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("grass-bench-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    process.executableURL = bin.appendingPathComponent("grassd")
    process.arguments = ["--memory", memory, "--listen", "shm://\(directory.path)/region", "tcp://127.0.0.1:0"] + slots
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
    urls = text.split(separator: "\n").map { String($0.dropFirst("ready ".count)) }
  }

  /// How many threads and descriptors it has, and its memory in KiB.
  public var usage: (threads: Int, descriptors: Int, kibibytes: Int) {
    let folder = "/proc/\(process.processIdentifier)"
    let status = (try? String(contentsOfFile: "\(folder)/status", encoding: .utf8)) ?? ""
    func number(_ name: String) -> Int {
      let line = status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
      return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }
    let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/fd"))?.count ?? 0
    return (number("Threads"), descriptors, number("VmRSS"))
  }

  public func stop() {
    process.terminate()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: directory)
  }
}
