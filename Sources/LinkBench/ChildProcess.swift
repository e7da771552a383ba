import Glibc

/// A program of this machine that is run to its end.
enum ChildProcess {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Runs a program, looked for as a shell would, with `input` on its standard input, and returns its output.
  ///
  /// Standard error stays this process's. The input is written before the output is read: 64 KiB at most.
  static func run(_ name: String, _ arguments: [String], input: String = "") throws(Failure) -> String {
    precondition(input.utf8.count <= 64 * 1024, "more input than a pipe holds")
    func failed(_ call: String, _ code: Int32) -> Failure {
      Failure(description: "\(name): \(call): \(String(cString: strerror(code)))")
    }
    var toChild = [Int32](repeating: -1, count: 2)
    var fromChild = [Int32](repeating: -1, count: 2)
    guard pipe(&toChild) == 0 else { throw failed("pipe", errno) }
    defer { for end in toChild where end >= 0 { close(end) } }
    guard pipe(&fromChild) == 0 else { throw failed("pipe", errno) }
    defer { for end in fromChild where end >= 0 { close(end) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, toChild[0], STDIN_FILENO)
    posix_spawn_file_actions_adddup2(&actions, fromChild[1], STDOUT_FILENO)
    // Else it would wait for itself to end its input.
    for end in toChild + fromChild { posix_spawn_file_actions_addclose(&actions, end) }
    var values: [UnsafeMutablePointer<CChar>?] = ([name] + arguments).map { strdup($0) } + [nil]
    defer { for value in values { free(value) } }
    var process = pid_t()
    let code = posix_spawnp(&process, name, &actions, nil, &values, environ)
    guard code == 0 else { throw failed("posix_spawn", code) }
    close(fromChild[1])
    fromChild[1] = -1
    if !input.isEmpty {
      // A program that ended early has read nothing: its status says so.
      let before = signal(SIGPIPE, SIG_IGN)
      _ = Array(input.utf8).withUnsafeBytes { write(toChild[1], $0.baseAddress, $0.count) }
      signal(SIGPIPE, before)
    }
    close(toChild[1])
    toChild[1] = -1
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = read(fromChild[0], &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { break }
      text += buffer[..<count]
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else { throw failed("waitpid", errno) }
    }
    guard status == 0 else { throw Failure(description: "\(name) failed, with wait status \(status)") }
    return String(decoding: text, as: UTF8.self)
  }
}
