public import Memory
package import Paging

extension [MemoryFault] {
  /// What `body` gives; nil where it throws, whose fault then is the last one here.
  @discardableResult
  @inlinable
  package mutating func keep<Result>(_ body: () throws(MemoryFault) -> Result) -> Result? {
    do throws(MemoryFault) {
      return try body()
    } catch {
      append(error)
      return nil
    }
  }
}

extension Structs {
  /// What `body` makes of each struct, or why it cannot.
  package func results<Value>(
    _ body: (Reading<Shape>) throws(MemoryFault) -> Value
  ) -> [Result<Value, MemoryFault>] {
    map { reading in Result { () throws(MemoryFault) in try body(reading) } }
  }

  /// Where `field` of each struct points to; null where it is null or could not be read.
  package func pointers(_ field: KeyPath<Shape, Field<VirtualAddress?>>) -> [VirtualAddress] {
    map { reading in (try? reading.load(reading.shape[keyPath: field])) ?? VirtualAddress(0) }
  }
}

extension AddressSpace {
  /// Where the structs lie that lists join, list by list: their links, less the place of `link` in the struct.
  ///
  /// Cost: as ``lists(of:through:heads:form:limit:_:)`` without the last batch.
  package func members<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, heads: [VirtualAddress],
    form: ListWalker.Form = .circular, limit: Int, _ faults: inout [MemoryFault]
  ) -> [[VirtualAddress]] {
    var seen: Set<VirtualAddress> = []
    return members(of: bound, through: link, heads: heads, form: form, limit: limit, seen: &seen, &faults)
  }

  /// As ``members(of:through:heads:form:limit:_:)``, for lists of lists: a list that leads to one of `seen` ends there.
  package func members<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, heads: [VirtualAddress],
    form: ListWalker.Form = .circular, limit: Int, seen: inout Set<VirtualAddress>, _ faults: inout [MemoryFault]
  ) -> [[VirtualAddress]] {
    let members = ListWalker(space: self, form: form, limit: limit).members(ofHeads: heads, seen: &seen)
    faults += members.faults
    let offset = bound.shape[keyPath: link].offset
    return members.lists.map { $0.map { $0 - offset } }
  }
}

extension AddressSpace {
  /// The structs in the buckets of hash tables, each with the number of its table: at each of `tables` lie `count` pointers
  /// in a row, each to the first link of a chain.
  ///
  /// Cost: a batch more than ``lists(of:through:from:form:limit:_:)``.
  package func lists<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, inTables tables: [VirtualAddress], count: Int,
    limit: Int, _ faults: inout [MemoryFault]
  ) -> (owners: [Int], structs: Structs<Shape>) {
    var batch = ReadBatch<VirtualAddress>()
    for table in tables { batch.add(table, count: count * 8) }
    read(&batch)
    var starts: [ListWalker.Start] = []
    var owners: [Int] = []
    for (index, table) in tables.enumerated() {
      faults.keep { () throws(MemoryFault) in
        let reader = try batch.reader(index)
        for bucket in 0..<count {
          let first = try reader.pointer(bucket * 8)
          guard first.rawValue != 0 else { continue }
          starts.append(ListWalker.Start(head: table + bucket * 8, first: first))
          owners.append(index)
        }
      }
    }
    let found = lists(of: bound, through: link, from: starts, form: .nullTerminated, limit: limit, &faults)
    return (found.owners.map { owners[$0] }, found.structs)
  }

  /// The number at `address`.
  ///
  /// Cost: a read.
  package func load<Number: FixedWidthInteger & BitwiseCopyable>(
    _ address: VirtualAddress, as type: Number.Type = Number.self
  ) throws(MemoryFault) -> Number {
    let bytes = try read(address, count: Number.bitWidth / 8)
    return try ByteReader(bytes.span.bytes).load(0)
  }

  /// The `count` pointers that lie at `address` in a row.
  ///
  /// Cost: a read.
  package func pointers(inArrayAt address: VirtualAddress, count: Int) throws(MemoryFault) -> [VirtualAddress] {
    let bytes = try read(address, count: count * 8)
    let reader = ByteReader(bytes.span.bytes)
    var pointers: [VirtualAddress] = []
    for index in 0..<count { pointers.append(try reader.pointer(index * 8)) }
    return pointers
  }
}
