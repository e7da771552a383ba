/// A connection to a region on another side, which that side's processors need not take part in.
///
/// It promises what a reliable RDMA connection promises and no more:
/// - Operations complete in the order in which they were posted.
/// - Writes land in the order posted. A read after a write to the same bytes sees it. A write after a read may land
///   before that read is made, unless the write is fenced.
/// - A completed write was acknowledged by the other side's link. That the monitor saw it, only its answer proves.
/// - Any error ends the link: every later call throws the first error again.
///
/// Many operations may be in flight. A link is used by one thread at a time.
public protocol Link: AnyObject, Sendable {
  /// The address it is connected to, for messages.
  var address: String { get }
  /// What the owner granted.
  var grant: LinkGrant { get }
  /// How a long record that may not be there yet is best asked for.
  var polling: LinkPolling { get }

  /// Local memory for this link's operations.
  func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer

  /// `bytes` as a buffer of this link, where it can read into any memory; else nil.
  ///
  /// They stay the caller's, who leaves them alone until each operation on them has completed or the link has ended.
  func lend(_ bytes: UnsafeMutableRawBufferPointer) -> LinkBuffer?

  /// Posts a write of local bytes to the region.
  ///
  /// - Parameters:
  ///   - buffer: memory that this link made.
  ///   - range: the bytes of `buffer`, which stay as they are until the write has completed.
  ///   - part: the part of the region to write to.
  ///   - offset: from the region's start, in bytes.
  ///   - fenced: whether to wait for all reads posted before.
  /// - Returns: the operation's number: 1 for a link's first, and one more each time.
  /// - Throws: the error that ended the link. What the owner refuses comes with the completion.
  @discardableResult
  func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64

  /// Posts a read of the region into local memory.
  ///
  /// - Parameters:
  ///   - buffer: memory that this link made.
  ///   - range: the bytes of `buffer` to read into; nobody else uses them until the read has completed.
  ///   - part: the part of the region to read from.
  ///   - offset: from the region's start, in bytes.
  ///   - awaiting: says that the read is of a record, and what its sequence number, the eight bytes at `offset`, is
  ///     expected to become. A link with software on the other side may delay the read a little until it does; one that
  ///     copies may leave it at these eight bytes where they are others. The rest of `range` is of no use then.
  /// - Returns: the operation's number.
  /// - Throws: the error that ended the link. What the owner refuses comes with the completion.
  @discardableResult
  func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64

  /// The two sums over the payload of the record that read `number` brought, where the link added them up on the way;
  /// else nil. Asked for at once, while fewer than 256 operations were posted after it.
  func sums(of number: UInt64) -> InlineArray<2, UInt64>?

  /// Makes what progress there is without waiting.
  ///
  /// - Returns: the number of the last operation that has completed.
  func poll() throws(LinkError) -> UInt64

  /// Waits until operation `number` has completed.
  ///
  /// - Throws: ``LinkError/Reason/deadlinePassed`` where it has not by then; that too ends the link.
  func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError)

  /// Ends the link and gives its slots back. A second call does nothing.
  func close()
}

extension Link {
  public func lend(_ bytes: UnsafeMutableRawBufferPointer) -> LinkBuffer? { nil }
  public func sums(of number: UInt64) -> InlineArray<2, UInt64>? { nil }

  /// Writes, and waits for the acknowledgement.
  ///
  /// - Throws: ``LinkError`` where the link ended, or `within` passed, which ends it.
  public func write(_ bytes: [UInt8], to part: RemotePart, offset: Int, within: Duration = .seconds(2))
    throws(LinkError)
  {
    let buffer = try makeBuffer(byteCount: max(1, bytes.count))
    buffer.store(bytes, at: 0)
    let number = try postWrite(buffer, 0..<bytes.count, to: part, offset: offset, fenced: false)
    try wait(for: number, until: .now + within)
  }

  /// Reads, and waits for the bytes.
  ///
  /// - Throws: ``LinkError`` where the link ended, or `within` passed, which ends it.
  public func read(_ count: Int, from part: RemotePart, offset: Int, within: Duration = .seconds(2))
    throws(LinkError) -> [UInt8]
  {
    let buffer = try makeBuffer(byteCount: max(1, count))
    let number = try postRead(into: buffer, 0..<count, from: part, offset: offset, awaiting: nil)
    try wait(for: number, until: .now + within)
    return buffer.load(0..<count)
  }
}
