package import Memory

/// The memory that a search looks through, and what the search has read of it.
///
/// What looks like a kernel may be made to cost as much as possible, so a search ends once it has read too much in vain.
package final class SearchedMemory {
  package let memory: any PhysicalMemory
  /// The bytes read through this object.
  package private(set) var cost = 0

  package init(_ memory: any PhysicalMemory) { self.memory = memory }

  package func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    cost += batch.byteCount
    memory.read(&batch)
  }

  package func read(_ start: PhysicalAddress, count: Int) throws(MemoryFault) -> [UInt8] {
    cost += count
    return try memory.read(start, count: count)
  }

  /// The segment that holds the byte at `address`.
  package func segment(at address: PhysicalAddress) -> MemorySegment? {
    memory.segments.first { $0.contains(address, count: 1) }
  }
}
