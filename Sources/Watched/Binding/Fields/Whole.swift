package import Memory

extension Structs {
  /// The structs of which every field could be read; why the others could not is among the faults.
  package func whole(_ faults: inout [MemoryFault]) -> [Reading<Shape>] {
    compactMap(&faults) { (reading) throws(MemoryFault) in
      let (batch, first) = (self.batch, records[reading.index].first)
      if let fault = bound.selection.windows.indices.lazy.compactMap({ batch.faults[first + $0] }).first { throw fault }
      return reading
    }
  }
}

extension Bound {
  /// Where the elements of an array of such structs lie that starts at `start`: at most `limit` of them.
  package func array(at start: VirtualAddress, count: UInt64, limit: UInt64 = 1 << 16) -> [VirtualAddress] {
    (0..<Int(min(count, limit))).map { start + $0 * size }
  }

  /// The same for an array that ends before `end`.
  package func array(from start: VirtualAddress, to end: VirtualAddress) -> [VirtualAddress] {
    start < end ? array(at: start, count: end.distance(from: start) / UInt64(max(size, 1))) : []
  }
}

extension Sequence {
  /// What `body` makes of each element, without those that it makes nothing of.
  ///
  /// What cannot be read is a fault, and ends no more than its element.
  package func compactMap<Result>(
    _ faults: inout [MemoryFault], _ body: (Element) throws(MemoryFault) -> Result?
  ) -> [Result] {
    var results: [Result] = []
    for element in self {
      do throws(MemoryFault) {
        if let result = try body(element) { results.append(result) }
      } catch {
        faults.append(error)
      }
    }
    return results
  }

  /// Each element with what was read of it, without those of which nothing was; why something was not is a fault.
  package func with<Other>(
    _ results: [Result<Other, MemoryFault>?], _ faults: inout [MemoryFault]
  ) -> [(Element, Other)] {
    zip(self, results).compactMap(&faults) { (pair) throws(MemoryFault) -> (Element, Other)? in
      guard let other = try pair.1?.get() else { return nil }
      return (pair.0, other)
    }
  }
}

extension RawBytes {
  /// The names of those bits that are set, from the lowest bit of the first byte on; a bit without a name is left out.
  package func names(_ names: ArraySlice<String?>) -> [String] {
    names.indices.compactMap {
      bytes.indices.contains($0 / 8) && bytes[$0 / 8] >> UInt8($0 % 8) & 1 != 0 ? names[$0] : nil
    }
  }
}
