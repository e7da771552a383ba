import Host
import Links

/// A link that several use by turns: each of them may close it, and it stays.
///
/// Used under its lock, which its users take for each call.
final class LentLink: Link, Sendable {
  private let link: any Link
  private let lock = Locked(())

  init(_ link: any Link) { self.link = link }

  var address: String { link.address }
  var grant: LinkGrant { link.grant }
  var polling: LinkPolling { link.polling }

  func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer {
    try lock.withLock { _ throws(LinkError) in try link.makeBuffer(byteCount: byteCount) }
  }

  func lend(_ bytes: UnsafeMutableRawBufferPointer) -> LinkBuffer? {
    lock.withLock { _ in link.lend(bytes) }
  }

  func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 {
    try lock.withLock { _ throws(LinkError) in
      try link.postWrite(buffer, range, to: part, offset: offset, fenced: fenced)
    }
  }

  func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    try lock.withLock { _ throws(LinkError) in
      try link.postRead(into: buffer, range, from: part, offset: offset, awaiting: awaiting)
    }
  }

  func poll() throws(LinkError) -> UInt64 { try lock.withLock { _ throws(LinkError) in try link.poll() } }

  func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    try lock.withLock { _ throws(LinkError) in try link.wait(for: number, until: deadline) }
  }

  func close() {}

  deinit { link.close() }

  /// Ends the link for all who use it.
  func end() { lock.withLock { _ in link.close() } }
}
