/// One figure of a benchmark: what was done, how, and how long it took each time.
public struct Figure: Sendable {
  public enum What: String, Sendable, CaseIterable {
    /// Whether the monitor lives.
    case heartbeat
    /// A request of so many bytes, until the monitor has said that it took it.
    case request
    /// A result of so many bytes, from the request for it to its last byte.
    case result
    /// The same question put to the host's kernel, by the program of that name.
    case ping
  }

  /// In which order a link is read and written.
  public enum Sequence: String, Sendable, CaseIterable {
    /// GRASS's own: one write carries request and flag, one read fetches flag and result, nothing is cleared.
    case own
    /// That of Kanamoto and Kourai's paper, see ``PaperSequence``.
    case paper
  }

  public var host: String
  public var what: What
  /// Nil for what goes over no link.
  public var sequence: Sequence?
  /// What each sample moved; 0 for what has no size.
  public var byteCount: Int
  public var samples: Samples

  /// Megabytes (1,000,000 bytes) a second: the size by the median time, which other work of the machine disturbs least.
  public var throughput: Double { Double(byteCount) / samples.percentile(50) }
}
