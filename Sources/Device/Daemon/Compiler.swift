import Glibc
import Host
import LinuxKernel

/// The program that compiles monitors.
///
/// It stands beside this one, and is the only one that needs LLVM.
public enum Compiler {
  private static let name = "grass-compile"

  /// What looks at a host for the daemon: its own program, by another command.
  static func looker(
    memory: String, known: BuildFolder?, rules: String?, baseline: String?
  ) throws(ServerError) -> [String] {
    [try own(), "look", "--memory", memory] + (known.map { ["--known", $0.path] } ?? ["--no-known"])
      + (rules.map { ["--allow", $0] } ?? []) + (baseline.map { ["--baseline", $0] } ?? [])
  }

  /// This program's path.
  private static func own() throws(ServerError) -> String {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    guard count > 0 else { throw .compiler("/proc/self/exe: \(String(cString: strerror(errno)))") }
    return String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Its path.
  private static func path() throws(ServerError) -> String {
    let path = try own().split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/" + name
    guard access(path, X_OK) == 0 else { throw .compiler("there is no \(path); install it beside grassd") }
    return path
  }

  /// Becomes it.
  ///
  /// It comes back only by throwing.
  public static func become(_ arguments: [String]) throws -> Never {
    let path = try path()
    let values: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
    execv(path, values)
    throw ServerError.compiler("\(path): \(String(cString: strerror(errno)))")
  }

  /// Runs it to its end.
  ///
  /// In a process of its own: whatever a compiler does there, this one goes on watching.
  static func run(_ arguments: [String]) throws {
    let path = try path()
    let process: pid_t
    do throws(SystemCallError) {
      process = try spawn([path] + arguments)
    } catch {
      throw ServerError.compiler("\(path): \(String(cString: strerror(error.code)))")
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else { throw ServerError.compiler("waitpid: \(String(cString: strerror(errno)))") }
    }
    guard status == 0 else { throw ServerError.compiler("it failed; its reason is above") }
  }
}
