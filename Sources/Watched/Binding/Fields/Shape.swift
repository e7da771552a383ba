package import KernelInfo
public import Memory
package import Paging

/// A struct of the kernel, as far as a view wants it: a Swift struct whose properties are the fields.
///
/// ```swift
/// struct Timer: KernelShape {
///   static let type = "timer_list"
///   let function = Field<VirtualAddress>("function")
///   let expires = Field<UInt64>("expires")
/// }
/// ```
@usableFromInline
package protocol KernelShape: Sendable {
  /// The struct's name in the kernel.
  static var type: String { get }
  init()
}

/// A shape bound to the types of one kernel.
@dynamicMemberLookup
@usableFromInline
package final class Bound<Shape: KernelShape>: Sendable {
  @usableFromInline package let shape: Shape
  @usableFromInline package let selection: FieldSelection
  /// The struct's bytes, those that the shape leaves out too.
  @usableFromInline package let size: Int

  /// Binds the shape's fields, of its own struct or of the one called `name`, which has these fields, too.
  ///
  /// - Throws: ``KernelInfoError`` where the kernel has no such struct, or the struct lacks a field that is not optional.
  package init(_ types: TypeTable, as name: String? = nil) throws(KernelInfoError) {
    let structure = try types.structure(name ?? Shape.type)
    let (shape, fields) = Declarations.of(Shape.self)
    var selection = FieldSelection(structure)
    for field in fields { try field.bind(to: structure, types, in: &selection) }
    self.shape = shape
    self.selection = selection
    size = structure.size
  }

  /// A declared field, as this kernel has it.
  @inlinable
  package subscript<Member>(dynamicMember path: KeyPath<Shape, Member>) -> Member { shape[keyPath: path] }

  /// The value of `field` of a struct that was read as a part of a batch.
  @inlinable
  package func load<Value, Address>(
    _ field: Field<Value>, _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Value {
    try Value.load(field.place, selection, record, batch)
  }
}

/// Structs of one shape, read as one batch.
///
/// A class, so that a struct of it is no more than an index.
@usableFromInline
package final class Structs<Shape: KernelShape>: Sendable, RandomAccessCollection {
  @usableFromInline let bound: Bound<Shape>
  @usableFromInline let records: [FieldSelection.Record]
  @usableFromInline let batch: ReadBatch<VirtualAddress>
  @usableFromInline package let addresses: [VirtualAddress]

  @inlinable package var startIndex: Int { 0 }
  @inlinable package var endIndex: Int { addresses.count }
  @inlinable
  package subscript(index: Int) -> Reading<Shape> { Reading(structs: self, index: index) }

  /// Structs at `addresses` that are already read as parts of `batch`.
  package init(
    _ bound: Bound<Shape>, _ addresses: [VirtualAddress], _ records: [FieldSelection.Record],
    in batch: ReadBatch<VirtualAddress>
  ) {
    self.bound = bound
    self.addresses = addresses
    self.records = records
    self.batch = batch
  }

  /// Calls `body` with each struct.
  ///
  /// What of a struct cannot be read is a fault, and ends no more than that struct.
  @inlinable
  package func forEach(
    _ faults: inout [MemoryFault], _ body: (Reading<Shape>) throws(MemoryFault) -> Void
  ) {
    for index in records.indices {
      do throws(MemoryFault) { try body(self[index]) } catch { faults.append(error) }
    }
  }

  /// What `body` makes of each struct, without those that it makes nothing of.
  ///
  /// What cannot be read is a fault.
  @inlinable
  package func compactMap<Result>(
    _ faults: inout [MemoryFault], _ body: (Reading<Shape>) throws(MemoryFault) -> Result?
  ) -> [Result] {
    var results: [Result] = []
    results.reserveCapacity(count)
    forEach(&faults) { (reading) throws(MemoryFault) in
      if let result = try body(reading) { results.append(result) }
    }
    return results
  }

  /// Where `field` of each struct points to; null where it could not be read.
  ///
  /// For what is looked at once more: whoever then loads the field of such a struct is told of the fault.
  package func pointers(_ field: KeyPath<Shape, Field<VirtualAddress>>) -> [VirtualAddress] {
    let field = bound.shape[keyPath: field]
    return map { reading in (try? reading.load(field)) ?? VirtualAddress(0) }
  }
}

/// One struct of a batch: its fields by name, each loaded as its declared type.
@dynamicMemberLookup
@usableFromInline
package struct Reading<Shape: KernelShape>: Sendable {
  @usableFromInline let structs: Structs<Shape>
  @usableFromInline package let index: Int

  @usableFromInline
  init(structs: Structs<Shape>, index: Int) {
    self.structs = structs
    self.index = index
  }

  @inlinable
  package var address: VirtualAddress { structs.addresses[index] }
  /// What the struct is read as.
  @inlinable
  package var shape: Shape { structs.bound.shape }

  /// The value of a declared field.
  ///
  /// - Throws: ``MemoryFault`` where the bytes could not be read.
  @inlinable
  package subscript<Value>(dynamicMember path: KeyPath<Shape, Field<Value>>) -> Value {
    get throws(MemoryFault) { try load(structs.bound.shape[keyPath: path]) }
  }

  @inlinable
  package func load<Value>(_ field: Field<Value>) throws(MemoryFault) -> Value {
    try structs.bound.load(field, structs.records[index], structs.batch)
  }

  /// The number at a place that was bound beside the declared fields.
  @inlinable
  package func load(_ place: FieldSelection.Field) throws(MemoryFault) -> UInt64 {
    try structs.bound.selection.load(place, structs.records[index], structs.batch)
  }

  /// Where an embedded struct lies.
  @inlinable
  package func address(of place: KeyPath<Shape, Place>) -> VirtualAddress {
    address + structs.bound.shape[keyPath: place].offset
  }
}

extension AddressSpace {
  /// Reads the structs at `addresses`.
  ///
  /// Cost: one batch.
  package func read<Shape>(_ bound: Bound<Shape>, at addresses: [VirtualAddress]) -> Structs<Shape> {
    var batch = ReadBatch<VirtualAddress>()
    let records = bound.selection.add(to: &batch, at: addresses)
    if !addresses.isEmpty { read(&batch) }
    return Structs(bound, addresses, records, in: batch)
  }

  /// Reads structs of two shapes, those of each at the addresses beside it.
  ///
  /// Cost: one batch.
  package func read<First, Second>(
    _ first: (Bound<First>, [VirtualAddress]), _ second: (Bound<Second>, [VirtualAddress])
  ) -> (Structs<First>, Structs<Second>) {
    var batch = ReadBatch<VirtualAddress>()
    let records = (
      first.0.selection.add(to: &batch, at: first.1), second.0.selection.add(to: &batch, at: second.1)
    )
    if !batch.entries.isEmpty { read(&batch) }
    return (
      Structs(first.0, first.1, records.0, in: batch), Structs(second.0, second.1, records.1, in: batch)
    )
  }

  /// The structs that a list joins: the members of the list whose head is at `head`, in its order.
  ///
  /// They are joined by the `list_head` called `link`; more members than `limit` are a fault.
  ///
  /// Cost: a round trip for each page that the links lie in, and a batch.
  package func list<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, head: VirtualAddress, limit: Int,
    _ faults: inout [MemoryFault]
  ) -> Structs<Shape> {
    lists(of: bound, through: link, heads: [head], limit: limit, &faults).structs
  }

  /// The structs that lists join: those of the list at the first of `heads` first, each with the number of its list.
  ///
  /// Cost: as ``list(of:through:head:limit:_:)`` for the longest list.
  package func lists<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, heads: [VirtualAddress],
    form: ListWalker.Form = .circular, limit: Int, _ faults: inout [MemoryFault]
  ) -> (owners: [Int], structs: Structs<Shape>) {
    let members = ListWalker(space: self, form: form, limit: limit).members(ofHeads: heads)
    return read(bound, members, before: bound.shape[keyPath: link].offset, &faults)
  }

  /// The structs of lists whose first links are known already.
  package func lists<Shape>(
    of bound: Bound<Shape>, through link: KeyPath<Shape, Place>, from starts: [ListWalker.Start],
    form: ListWalker.Form, limit: Int, _ faults: inout [MemoryFault]
  ) -> (owners: [Int], structs: Structs<Shape>) {
    let members = ListWalker(space: self, form: form, limit: limit).members(of: starts)
    return read(bound, members, before: bound.shape[keyPath: link].offset, &faults)
  }

  /// The structs that chains join: `next` of each points to the one after it, and what lies at `heads` to the first.
  package func chains<Shape>(
    of bound: Bound<Shape>, through next: KeyPath<Shape, Place>, heads: [VirtualAddress], limit: Int,
    _ faults: inout [MemoryFault]
  ) -> (owners: [Int], structs: Structs<Shape>) {
    let walker = ListWalker(
      space: self, form: .nullTerminated, next: bound.shape[keyPath: next].offset, limit: limit)
    return read(bound, walker.members(ofHeads: heads), before: 0, &faults)
  }

  private func read<Shape>(
    _ bound: Bound<Shape>, _ members: ListWalker.Members, before offset: Int, _ faults: inout [MemoryFault]
  ) -> (owners: [Int], structs: Structs<Shape>) {
    faults += members.faults
    let owners = members.lists.enumerated().flatMap { list, links in links.map { _ in list } }
    return (owners, read(bound, at: members.lists.flatMap { $0.map { $0 - offset } }))
  }

  /// The pointers at `addresses`, null where one could not be read.
  package func pointers(at addresses: [VirtualAddress]) -> [VirtualAddress] {
    var batch = ReadBatch<VirtualAddress>()
    for address in addresses { batch.add(address, count: 8) }
    if !addresses.isEmpty { read(&batch) }
    return addresses.indices.map { (try? batch.reader($0).pointer(0)) ?? VirtualAddress(0) }
  }

  /// The pointer at `address`.
  package func pointer(at address: VirtualAddress) throws(MemoryFault) -> VirtualAddress {
    let bytes = try read(address, count: 8)
    return try ByteReader(bytes.span.bytes).pointer(0)
  }
}

extension FieldSelection {
  fileprivate func add(to batch: inout ReadBatch<VirtualAddress>, at addresses: [VirtualAddress]) -> [Record] {
    addresses.map { add(to: &batch, at: $0) }
  }
}
