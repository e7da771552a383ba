import Verbs

/// Local memory that a link writes from and reads into: what RDMA calls a local memory region.
///
/// Bytes that an operation in flight uses belong to the link until that operation has completed.
public final class LinkBuffer: @unchecked Sendable {
  // One session uses a buffer at a time, under its own lock.
  public let byteCount: Int
  public let base: UnsafeMutableRawPointer
  /// Whether the memory is another's.
  private let isLent: Bool
  /// Makes it known to a device, where the link has one.
  var registration: MemoryRegion?

  /// Zeroed memory, aligned to a page.
  public init(byteCount: Int) {
    precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
    self.byteCount = byteCount
    isLent = false
    base = .allocate(byteCount: byteCount, alignment: 4096)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
  }

  /// Memory of somebody else, who leaves it alone until each operation on it has completed or its link has ended.
  init(lending bytes: UnsafeMutableRawBufferPointer, at base: UnsafeMutableRawPointer) {
    (byteCount, self.base, isLent) = (bytes.count, base, true)
  }

  deinit {
    registration = nil
    if !isLent { base.deallocate() }
  }

  /// The bytes of `range`, during the call of `body`.
  public func withBytes<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "\(range) lies outside the buffer")
    return try body(UnsafeMutableRawBufferPointer(start: base + range.lowerBound, count: range.count))
  }

  /// Copies `bytes` to `offset`.
  public func store(_ bytes: [UInt8], at offset: Int) {
    withBytes(offset..<offset + bytes.count) { $0.copyBytes(from: bytes) }
  }

  /// A copy of the bytes of `range`.
  public func load(_ range: Range<Int>) -> [UInt8] { withBytes(range) { [UInt8]($0) } }
}
