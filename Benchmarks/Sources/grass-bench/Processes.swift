import Foundation

/// A program run to its end, with what it cost.
struct Cost {
  let microseconds: Double
  /// The most memory that was resident at once, in KiB.
  let residentKiB: Int

  /// Runs a program with its output thrown away.
  static func run(_ path: String, _ arguments: [String]) throws -> Cost {
    let clock = ContinuousClock()
    var child = pid_t()
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
    var argv: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
    argv.append(nil)
    defer { for argument in argv { free(argument) } }
    let start = clock.now
    let code = posix_spawn(&child, path, &actions, nil, argv, environ)
    guard code == 0 else { throw BenchmarkError("cannot run \(path): \(String(cString: strerror(code)))") }
    var status: Int32 = 0
    var usage = rusage()
    guard wait4(child, &status, 0, &usage) == child, status == 0 else {
      throw BenchmarkError("\(path) \(arguments.joined(separator: " ")) ended with status \(status)")
    }
    return Cost(
      microseconds: Samples([clock.now - start]).median, residentKiB: Int(usage.ru_maxrss))
  }
}

struct BenchmarkError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// A grassd over a memory, until it is stopped.
final class Daemon {
  let urls: [String]
  private let process = Process()
  private let directory: URL

  init(bin: URL, memory: String) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("grass-bench-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    process.executableURL = bin.appendingPathComponent("grassd")
    process.arguments = ["--memory", memory, "--listen", "shm://\(directory.path)/region", "tcp://127.0.0.1:0"]
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

  func stop() {
    process.terminate()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: directory)
  }
}
