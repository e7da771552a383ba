import Memory

/// Reads all of a memory, piece by piece.
struct MemoryScan {
  let memory: any PhysicalMemory
  /// How many bytes of the next piece each piece ends with, so that nothing is missed between two.
  let overlap: Int

  /// Small enough for the processor's cache, so that what was copied is searched there.
  private static let pieceSize: UInt64 = 1 << 20

  /// Calls `body` with each piece until it returns false: where it starts, its bytes, and how many of them are its own.
  func forEachPiece(
    _ body: (_ start: PhysicalAddress, _ bytes: [UInt8], _ count: Int) -> Bool, failed: (MemoryFault) -> Void
  ) {
    for segment in memory.segments {
      memory.prepareCache(of: segment)
      defer { memory.releaseCache(of: segment) }
      var offset: UInt64 = 0
      while offset < segment.count {
        let count = min(Self.pieceSize, segment.count - offset)
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
