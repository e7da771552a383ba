public import Links

/// What heartbeats are compared with: the host's kernel asked whether it lives, by ping.
public enum Ping {
  /// Seconds between two pings: the least that ping allows to everybody.
  private static let interval = "0.002"

  /// Pings the host of an address; this machine, where the link does not leave it.
  ///
  /// Cost: 2 ms a ping.
  ///
  /// - Returns: nil where there is no ping, it may not, or nobody answers it.
  public static func measure(_ address: LinkAddress, count: Int) -> Figure? {
    let host = address.kind.host ?? "127.0.0.1"
    guard let text = try? ChildProcess.run("ping", ["-n", "-c", "\(count)", "-i", interval, host]) else { return nil }
    let times = parse(text)
    guard !times.isEmpty else { return nil }
    return Figure(
      host: address.description, what: .ping, sequence: nil, byteCount: 0, samples: Samples(microseconds: times))
  }

  /// The times in ping's lines, in microseconds: `64 bytes from 127.0.0.1: icmp_seq=1 ttl=64 time=0.018 ms`.
  static func parse(_ text: String) -> [Double] {
    text.split(separator: "\n").compactMap { line in
      line.split(separator: " ").first { $0.hasPrefix("time=") }.flatMap { Double($0.dropFirst(5)) }.map { $0 * 1000 }
    }
  }
}
