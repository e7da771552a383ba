/// Processes of this machine that look at a shadow as if it were their own host's, and have a /proc of their own beside it.
///
/// They live in a PID namespace, by whose numbers they know themselves.
public protocol OwnProcesses: Sendable {
  /// Where their own /proc is mounted, as they see it.
  var folder: String { get }

  /// The numbers by which a thread of this machine, and its process, know themselves; nil where it is none of these.
  func numbers(of thread: Int32) -> (process: Int32, thread: Int32)?

  /// The numbers by which they know each other, threads that lead no process left out, in ascending order.
  func processes() -> [Int32]

  /// How many threads they have.
  func threadCount() -> Int

  /// The entries of the own /proc's directory `path`; nil where there is no such directory.
  func entries(_ path: String) -> [String]?

  /// Whether the own /proc has an entry `path`.
  func has(_ path: String) -> Bool

  /// Where the own /proc's link `path` leads by its own words; nil where it is no link.
  func target(_ path: String) -> [UInt8]?

  /// Whether a thread of this machine asks where a link leads, rather than to be led there.
  func readsLink(_ thread: Int32) -> Bool
}
