import CRegion
import Glibc
import Host
import Region

/// A link to a region on the same machine, by mapping its file.
///
/// Operations take effect in being posted. Access is guarded by the file's mode; the tokens and bounds are checked on
/// this side, since no other has a part in it.
public final class SharedMemoryLink: Link, @unchecked Sendable {
  // Used by one thread at a time, as every link.
  public let address: String
  public let grant: LinkGrant
  public var polling: LinkPolling { .whole }

  /// Nil once the link has ended by ``close()``, when nothing is mapped any more.
  private var claim: SlotClaim?
  private let size: Int
  private let base: UnsafeMutableRawPointer
  private var completed: UInt64 = 0
  private var ended: LinkError?
  private var nextCheck: UInt64 = 0
  /// Of records that were read: the read's number and the sums of the payload, by that number.
  ///
  /// Empty before the first: who only reads lines needs none.
  private var sums: [(number: UInt64, sums: InlineArray<2, UInt64>)] = []

  private static let sumCount = 256

  /// How often to look whether the owner lives, in nanoseconds.
  private static let checkInterval: UInt64 = 10_000_000

  /// Maps the region at `path` and takes up to `slots` of its slots.
  ///
  /// - Throws: ``LinkError`` where there is no region of this version, nobody serves it, or every slot is taken.
  public init(path: String, slots: Int) throws(LinkError) {
    let address = LinkAddress.sharedMemory(path: path).description
    func failure(_ call: String, code: Int32 = errno) -> LinkError {
      LinkError(address, .system(call: call, code: code))
    }
    let descriptor = SystemCall.retrying { open(path, O_RDWR | O_CLOEXEC) }
    guard descriptor >= 0 else {
      throw errno == ENOENT
        ? LinkError(address, .region("no region is there; start grassd with --listen \(address), or correct the path"))
        : failure("open")
    }
    var claimed: SlotClaim?
    defer { if claimed == nil { Glibc.close(descriptor) } }

    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure("fstat") }
    let notARegion = LinkError(address, .region(RegionError(path, .notARegion).description))
    var header = [UInt8](repeating: 0, count: MemoryLayout<grass_header>.size)
    guard status.st_mode & S_IFMT == S_IFREG,
      pread(descriptor, &header, header.count, 0) == header.count,
      let layout = RegionLayout(parsing: header.span.bytes, limit: Int(status.st_size))
    else { throw notARegion }
    do throws(RegionError) {
      claimed = try SlotClaim(descriptor: descriptor, subject: path, layout: layout, count: slots)
    } catch {
      throw LinkError(address, .region(error.description))
    }
    guard let claimed else { throw notARegion }
    guard claimed.ownerLives else { throw LinkError(address, .peerGone) }

    // One reservation, and over it each part with no more rights than it needs.
    guard
      let base = mmap(nil, layout.regionSize, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else { throw failure("mmap") }
    let requests = layout.requests(of: claimed.slots)
    let writable = layout.requestsPart.lowerBound..<layout.scratchPart.upperBound
    guard mprotect(base + writable.lowerBound, writable.count, PROT_READ | PROT_WRITE) == 0 else {
      let code = errno
      munmap(base, layout.regionSize)
      throw failure("mprotect", code: code)
    }
    self.address = address
    self.base = base
    size = layout.regionSize
    claim = claimed
    grant = LinkGrant(
      slots: claimed.slots,
      requests: RemotePart(token: .random(), range: requests, access: .write),
      responses: RemotePart(token: .random(), range: layout.responsesPart, access: .read),
      scratch: RemotePart(token: .random(), range: layout.scratchPart, access: [.read, .write]))
  }

  deinit { close() }

  public func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer { LinkBuffer(byteCount: byteCount) }

  public func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 {
    try check(part, .write, offset: offset, count: range.count)
    buffer.withBytes(range) { grass_copy_in(base + offset, $0.baseAddress, UInt64($0.count)) }
    completed += 1
    return completed
  }

  public func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    try check(part, .read, offset: offset, count: range.count)
    completed += 1
    if let awaiting, range.count >= MemoryLayout<grass_record>.size, offset % 8 == 0 {
      var added: InlineArray<2, UInt64> = [0, 0]
      var span = added.mutableSpan
      span.withUnsafeMutableBufferPointer { sums in
        buffer.withBytes(range) {
          grass_record_fetch($0.baseAddress, base + offset, UInt64($0.count), awaiting, sums.baseAddress)
        }
      }
      if sums.isEmpty { sums = Array(repeating: (0, [0, 0]), count: Self.sumCount) }
      sums[Int(completed % UInt64(Self.sumCount))] = (completed, added)
    } else {
      buffer.withBytes(range) { grass_copy_out($0.baseAddress, base + offset, UInt64($0.count)) }
    }
    return completed
  }

  public func sums(of number: UInt64) -> InlineArray<2, UInt64>? {
    guard !sums.isEmpty else { return nil }
    let entry = sums[Int(number % UInt64(Self.sumCount))]
    return entry.number == number ? entry.sums : nil
  }

  public func poll() throws(LinkError) -> UInt64 {
    if let ended { throw ended }
    return completed
  }

  public func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    if let ended { throw ended }
    precondition(number <= completed, "operation \(number) was never posted")
  }

  public func close() {
    if ended == nil { ended = LinkError(address, .peerGone) }
    guard claim != nil else { return }
    claim = nil
    // The claim is a lock of the open file, which the mapping holds open as the descriptor does.
    munmap(base, size)
  }

  private func check(_ part: RemotePart, _ access: RemotePart.Access, offset: Int, count: Int) throws(LinkError) {
    if let ended { throw ended }
    let held = grant.parts.first { $0.token == part.token }
    let fault =
      held.map { $0.fault(access, token: part.token, offset: UInt64(bitPattern: Int64(offset)), count: UInt64(count)) }
      ?? .wrongToken
    if let fault { try end(.accessDenied(fault)) }
    let now = SystemCall.monotonicNanoseconds()
    if now >= nextCheck {
      nextCheck = now + Self.checkInterval
      if let claim, !claim.ownerLives { try end(.peerGone) }
    }
  }

  private func end(_ reason: LinkError.Reason) throws(LinkError) {
    let error = LinkError(address, reason)
    ended = error
    throw error
  }
}
