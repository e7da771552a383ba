import Binding
import KernelInfo
import Memory

/// Reads all of a memory, piece by piece.
struct MemoryScan {
  let memory: any PhysicalMemory
  /// How many bytes of the next piece each piece ends with, so that nothing is missed between two.
  let overlap: Int

  /// Small enough for the processor's cache, so that what was copied is searched there.
  private static let pieceSize: UInt64 = 1 << 20
  /// So much of the memory is prepared and given back at a time: what is kept here does not grow with the memory.
  private static let windowSize: UInt64 = 16 << 20

  /// Calls `body` with each piece until it returns false: where it starts, its bytes, and how many of them are its own.
  func forEachPiece(
    _ body: (_ start: PhysicalAddress, _ bytes: [UInt8], _ count: Int) -> Bool, failed: (MemoryFault) -> Void
  ) {
    for segment in memory.segments {
      var offset: UInt64 = 0
      while offset < segment.count {
        let end = min(offset + Self.windowSize, segment.count)
        let window = MemorySegment(start: PhysicalAddress(segment.start.rawValue &+ offset), count: end - offset)
        memory.prepareCache(of: window)
        defer { memory.releaseCache(of: window) }
        while offset < end {
          let count = min(Self.pieceSize, end - offset)
          let whole = min(count + UInt64(overlap), segment.count - offset)
          let start = PhysicalAddress(segment.start.rawValue &+ offset)
          var batch = ReadBatch<PhysicalAddress>()
          batch.add(start, count: Int(whole))
          memory.read(&batch)
          if let fault = batch.faults[0] {
            failed(fault)
          } else if !body(start, batch.bytes, Int(count)) {
            return
          }
          offset += count
        }
      }
    }
  }
}
