/// Why the laboratory could not do what it was asked.
public struct LabError: Error, Sendable, CustomStringConvertible {
  /// What failed, on what, why, and what to do.
  public let description: String
  public init(_ description: String) { self.description = description }
}
