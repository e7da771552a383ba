import Foundation
import Glibc
import Host
import Testing

/// The service as it is: the program, running by a configuration.
///
/// Whoever starts it stops it. It is started and waited for by the system's own calls: `Process` of Foundation now and then waits half a minute for what has ended.
final class RunningService {
  /// Where the programs lie.
  static var tools: URL {
    let paths = [CommandLine.arguments[0]] + CommandLine.arguments + [Bundle.main.executablePath ?? ""]
    return paths.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }.first {
      FileManager.default.isExecutableFile(atPath: $0.appendingPathComponent("grass-fleet").path)
    } ?? URL(fileURLWithPath: FileManager.default.currentDirectoryPath).appendingPathComponent(".build/debug")
  }

  let process: pid_t
  private let output: Int32
  /// Its status as waitpid(2) gives it, once it was waited for.
  private(set) var status: Int32?

  /// Starts it, by a shell with `script` before it where one is given: what is to be done in a mount namespace of its own.
  init(_ file: String, in script: String? = nil) throws {
    let program = Self.tools.appendingPathComponent("grass-fleet").path
    let ends = try SystemCall.pipe(for: program)
    let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
    defer {
      close(ends.writing)
      close(nothing)
    }
    var words = ["setpriv", "--pdeathsig", "KILL", "--", program, "run", file]
    if let script {
      words = [
        "unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c",
        "\(script) && exec \"$1\" run \"$2\"", "sh", program, file,
      ]
    }
    process = try spawn(words, input: nothing, output: ends.writing, errors: nothing)
    output = ends.reading
  }

  deinit { close(output) }

  /// Waits until it answers or is gone.
  ///
  /// - Returns: where it answers.
  @discardableResult func ready() throws -> String {
    var text = ""
    var bytes = [UInt8](repeating: 0, count: 4096)
    while !text.contains("\n") {
      let count = SystemCall.retrying { read(output, &bytes, bytes.count) }
      guard count > 0 else { break }
      text += String(decoding: bytes[..<count], as: UTF8.self)
    }
    return String(try #require(text.split(separator: "\n").first { $0.hasPrefix("ready ") }, "\(text)").dropFirst(6))
  }

  var isRunning: Bool { status == nil && Glibc.kill(process, 0) == 0 && waitpid(process, nil, WNOHANG) == 0 }

  func signal(_ number: Int32) { Glibc.kill(process, number) }

  func stop() { end(SIGTERM) }

  func kill() { end(SIGKILL) }

  private func end(_ number: Int32) {
    guard status == nil else { return }
    signal(number)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    self.status = status
  }

  /// What a program says; empty where it fails.
  static func said(by program: String, _ arguments: [String]) throws -> String {
    let (said, status) = try outcome(of: [program] + arguments, most: 64 << 20)
    return status == 0 ? String(decoding: said, as: UTF8.self) : ""
  }

  /// What a path of it answers, and with which status.
  static func answer(_ url: String) throws -> (status: String, text: String) {
    let said = try said(by: "curl", ["--silent", "--max-time", "10", "-w", "\n%{http_code}", url])
    let end = said.lastIndex(of: "\n") ?? said.startIndex
    return (String(said[end...].dropFirst()), String(said[..<end]))
  }
}
