import Foundation

/// A program run to its end, with what it cost.
public struct Cost {
  public let microseconds: Double
  /// The most memory that was resident at once, in KiB.
  public let residentKiB: Int

  /// Runs a program with its output thrown away, or written to a file.
  public static func run(_ path: String, _ arguments: [String], output: String = "/dev/null") throws -> Cost {
    var child = pid_t()
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    var argv: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
    argv.append(nil)
    defer { for argument in argv { free(argument) } }
    let start = ContinuousClock.now
    let code = posix_spawn(&child, path, &actions, nil, argv, environ)
    guard code == 0 else { throw BenchmarkError("cannot run \(path): \(String(cString: strerror(code)))") }
    var status: Int32 = 0
    var usage = rusage()
    guard wait4(child, &status, 0, &usage) == child, status == 0 else {
      throw BenchmarkError("\(path) \(arguments.joined(separator: " ")) ended with status \(status)")
    }
    return Cost(
      microseconds: Measuring.microseconds(ContinuousClock.now - start), residentKiB: Int(usage.ru_maxrss))
  }
}

public struct BenchmarkError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
