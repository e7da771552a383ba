import Glibc
import Verbs

/// Local memory that a link writes from and reads into: what RDMA calls a local memory region.
///
/// Bytes that an operation in flight uses belong to the link until that operation has completed.
public final class LinkBuffer: @unchecked Sendable {
  // One session uses a buffer at a time, under its own lock.
  public let byteCount: Int
  public let base: UnsafeMutableRawPointer
  private let source: Source
  /// Makes it known to a device, where the link has one.
  var registration: MemoryRegion?

  /// Whose the memory is.
  private enum Source { case heap, pages, lent }

  /// From here on a buffer has pages of its own, each of which costs memory once something lands in it.
  ///
  /// A session has room for answers of a MiB, and one that only watches never gets more than a few hundred bytes at once.
  private static let pagesFrom = 32 * 1024

  /// Zeroed memory, aligned to a page.
  public init(byteCount: Int) {
    precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
    self.byteCount = byteCount
    if byteCount >= Self.pagesFrom,
      let pages = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), pages != MAP_FAILED
    {
      (base, source) = (pages, .pages)
      return
    }
    source = .heap
    base = .allocate(byteCount: byteCount, alignment: 4096)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
  }

  /// Memory of somebody else, who leaves it alone until each operation on it has completed or its link has ended.
  init(lending bytes: UnsafeMutableRawBufferPointer, at base: UnsafeMutableRawPointer) {
    (byteCount, self.base, source) = (bytes.count, base, .lent)
  }

  deinit {
    registration = nil
    switch source {
    case .heap: base.deallocate()
    case .pages: munmap(base, byteCount)
    case .lent: break
    }
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
