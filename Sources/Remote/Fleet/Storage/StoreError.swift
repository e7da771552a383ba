/// Why what is to last could not be written or read.
public struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// There is no room on its disk.
    case full
    /// Anything else, in SQLite's words.
    case database(String)
  }

  /// The database's path.
  public let path: String
  public let reason: Reason

  public var description: String {
    switch reason {
    case .full:
      "\(path): the disk is full; make room: watching goes on, and what was not kept is fetched again from the devices"
    case .database(let words): "\(path): \(words); see whether the file is whole and this user may write it"
    }
  }
}
