import Foundation

/// A program run to its end, with what it cost.
package struct Cost {
  package let microseconds: Double
  /// The most memory that was resident at once, in KiB.
  package let residentKiB: Int

  /// Runs a program with its output thrown away, or written to a file.
  package static func run(_ path: String, _ arguments: [String], output: String = "/dev/null") throws -> Cost {
    let clock = ContinuousClock()
    var child = pid_t()
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
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

package struct BenchmarkError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}
