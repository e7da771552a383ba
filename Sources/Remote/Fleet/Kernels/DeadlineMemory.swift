import Memory
import Paging
import Remote

/// A host's memory that fails every read once the time of who reads is up.
///
/// Each answer of a host has its own time; a host that takes all of it for each of many answers would else hold who asks for minutes.
/// The time is that of who reads, so that several may look into one host, each for as long as it may.
final class DeadlineMemory: TranslatingMemory {
  /// When the time of whoever reads is up, in nanoseconds of the monotonic clock.
  @TaskLocal static var deadline = UInt64.max

  private let memory: RemoteMemory

  init(_ memory: RemoteMemory) { self.memory = memory }

  var segments: [MemorySegment] { memory.segments }

  private var isOver: Bool { Moments.nanoseconds >= Self.deadline }
  private static let fault = MemoryFault(
    .physical(PhysicalAddress(0)), .sourceFailed("the host answers too slowly: the time for this look is up"))

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    if isOver { batch.fail(Self.fault) } else { memory.read(&batch) }
  }

  func read(_ batch: inout ReadBatch<MemoryLocation>, format: PageTableFormat) {
    if isOver { batch.fail(Self.fault) } else { memory.read(&batch, format: format) }
  }

  func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    if isOver { throw Self.fault }
    return try memory.digests(of: ranges)
  }

  func digests(ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed) throws(MemoryFault) -> [[MemoryDigest?]] {
    if isOver { throw Self.fault }
    return try memory.digests(ofPagesIn: ranges, seed)
  }

  /// Does `body` for so many seconds at most: after them every read fails.
  static func within<Value>(_ seconds: Double, _ body: () throws -> Value) rethrows -> Value {
    try $deadline.withValue(Moments.nanoseconds + UInt64(seconds * 1e9), operation: body)
  }
}
