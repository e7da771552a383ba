/// What is wrong with a configuration: where, with which key, and what to do.
public struct ConfigurationProblem: Error, Hashable, Sendable, CustomStringConvertible {
  /// The file's path.
  public let file: String
  /// From 1 on; 0 where it is the file itself.
  public let line: Int
  /// The key, with those that it lies in: `hosts[2].url`; empty where it is none.
  public let key: String
  /// What is wrong.
  public let what: String
  /// What to do.
  public let remedy: String

  /// One line for an operator.
  public var description: String {
    "\(file)\(line > 0 ? ":\(line)" : ""): \(key.isEmpty ? "" : "\(key): ")\(what); \(remedy)"
  }
}
