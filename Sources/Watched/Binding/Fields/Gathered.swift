package import Memory
package import Paging

/// Structs of one shape that a batch asks for beside whatever else it asks for.
package struct GatheredStructs<Shape: KernelShape>: Sendable {
  fileprivate let bound: Bound<Shape>
  fileprivate let addresses: [VirtualAddress]
  fileprivate let records: [FieldSelection.Record]

  /// The structs, of the batch that was asked for them and has been read.
  package func structs(in batch: ReadBatch<VirtualAddress>) -> Structs<Shape> {
    Structs(bound, addresses, records, in: batch)
  }
}

extension ReadBatch where Address == VirtualAddress {
  /// Asks for the structs at `addresses`.
  package mutating func add<Shape>(_ bound: Bound<Shape>, at addresses: [VirtualAddress]) -> GatheredStructs<Shape> {
    var records: [FieldSelection.Record] = []
    for address in addresses { records.append(bound.selection.add(to: &self, at: address)) }
    return GatheredStructs(bound: bound, addresses: addresses, records: records)
  }

  /// The 64-bit words of entry `index`.
  ///
  /// - Throws: the fault that its read ended with.
  package func words(_ index: Int) throws(MemoryFault) -> [UInt64] {
    let reader = try reader(index)
    var words: [UInt64] = []
    words.reserveCapacity(reader.count / 8)
    for word in 0..<reader.count / 8 { words.append(try reader.u64(word * 8)) }
    return words
  }
}

extension AddressSpace {
  /// The zero-terminated strings at `addresses`; empty where one could not be read, which is a fault.
  ///
  /// Cost: as ``strings(at:limit:)``.
  package func strings(
    at addresses: [VirtualAddress], limit: Int = 256, _ faults: inout [MemoryFault]
  ) -> [[UInt8]] {
    strings(at: addresses, limit: limit).map { text in
      faults.keep { () throws(MemoryFault) in try text.get() } ?? []
    }
  }
}
