import CRegion
import Links

/// What became of a read of a line that was posted.
public enum LineReading: Hashable, Sendable {
  /// The line, whole and the device's.
  case line(SessionLine)
  /// It is under way.
  case pending
  /// It came, and was torn or not the device's.
  case torn
  /// None was posted, or something else was asked of the session since.
  case none
}

/// Reading lines of many sessions from one thread: who posts a read goes on with other sessions, and looks later.
///
/// `line(within:)` does the same and waits. It also keeps a session with keys from being forgotten, and makes another where it was:
/// who reads lines in this way calls that one every few minutes, and where lines stay torn.
extension Session {
  /// Posts a read of this session's line.
  ///
  /// Waits for nothing but another thread that has the session.
  ///
  /// - Throws: ``SessionError`` where the link has ended.
  public func postLine() throws(SessionError) {
    try withExchange { exchange throws(SessionError) in try exchange.postLine() }
  }

  /// What became of the read that ``postLine()`` posted.
  ///
  /// - Throws: ``SessionError`` where the link has ended.
  public func pollLine() throws(SessionError) -> LineReading {
    try withExchange { exchange throws(SessionError) in
      try exchange.pollLine(MemoryLayout<grass_session_line>.size) { bytes in
        guard let sealing = exchange.sealing else { return SessionLine(bytes) }
        return sealing.open(bytes.loadUnaligned(as: grass_session_line.self)).map { SessionLine(opened: $0) }
      }
    }
  }
}
