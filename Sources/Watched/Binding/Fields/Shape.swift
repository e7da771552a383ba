package import KernelInfo
package import Memory
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
package protocol KernelShape: Sendable {
  /// The struct's name in the kernel.
  static var type: String { get }
  init()
}

/// A shape bound to the types of one kernel.
@dynamicMemberLookup
package struct Bound<Shape: KernelShape>: Sendable {
  package let shape: Shape
  package let selection: FieldSelection
  /// The struct's bytes, those that the shape leaves out too.
  package let size: Int

  /// Binds the shape's fields, of its own struct or of the one called `name`, which has these fields, too.
  ///
  /// - Throws: ``KernelInfoError`` where the kernel has no such struct, or the struct lacks a field that is not optional.
  package init(_ types: TypeTable, as name: String? = nil) throws(KernelInfoError) {
    let structure = try types.structure(name ?? Shape.type)
    let shape = Shape()
    var selection = FieldSelection(structure)
    for property in Mirror(reflecting: shape).children {
      if let field = property.value as? any DeclaredField { try field.bind(to: structure, types, in: &selection) }
    }
    self.shape = shape
    self.selection = selection
    size = structure.size
  }

  /// A declared field, as this kernel has it.
  package subscript<Member>(dynamicMember path: KeyPath<Shape, Member>) -> Member { shape[keyPath: path] }
}

/// Structs of one shape, read as one batch.
package struct Structs<Shape: KernelShape>: Sendable, RandomAccessCollection {
  @usableFromInline let shape: Shape
  @usableFromInline let selection: FieldSelection
  @usableFromInline let records: [FieldSelection.Record]
  @usableFromInline let batch: ReadBatch<VirtualAddress>
  package let addresses: [VirtualAddress]

  package var startIndex: Int { 0 }
  package var endIndex: Int { addresses.count }
  package subscript(index: Int) -> Reading<Shape> { Reading(structs: self, index: index) }

  fileprivate init(_ bound: Bound<Shape>, _ addresses: [VirtualAddress], in space: AddressSpace) {
    var batch = ReadBatch<VirtualAddress>()
    records = addresses.map { bound.selection.add(to: &batch, at: $0) }
    if !addresses.isEmpty { space.read(&batch) }
    self.batch = batch
    shape = bound.shape
    selection = bound.selection
    self.addresses = addresses
  }

  /// Calls `body` with each struct.
  ///
  /// What of a struct cannot be read is a fault, and ends no more than that struct.
  package func forEach(
    _ faults: inout [MemoryFault], _ body: (Reading<Shape>) throws(MemoryFault) -> Void
  ) {
    for reading in self {
      do throws(MemoryFault) { try body(reading) } catch { faults.append(error) }
    }
  }

  /// What `body` makes of each struct, without those that it makes nothing of.
  ///
  /// What cannot be read is a fault.
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

  /// The value of `field` of each struct; nil where it could not be read, which is a fault.
  package func values<Value>(
    _ field: KeyPath<Shape, Field<Value>>, _ faults: inout [MemoryFault]
  ) -> [Value?] {
    let field = shape[keyPath: field]
    return map { reading in
      do throws(MemoryFault) {
        return try reading.load(field)
      } catch {
        faults.append(error)
        return nil
      }
    }
  }
}

/// One struct of a batch: its fields by name, each loaded as its declared type.
@dynamicMemberLookup
package struct Reading<Shape: KernelShape>: Sendable {
  @usableFromInline let structs: Structs<Shape>
  package let index: Int

  fileprivate init(structs: Structs<Shape>, index: Int) {
    self.structs = structs
    self.index = index
  }

  package var address: VirtualAddress { structs.addresses[index] }
  /// What the struct is read as.
  package var shape: Shape { structs.shape }

  /// The value of a declared field.
  ///
  /// - Throws: ``MemoryFault`` where the bytes could not be read.
  @inlinable
  package subscript<Value>(dynamicMember path: KeyPath<Shape, Field<Value>>) -> Value {
    get throws(MemoryFault) { try load(structs.shape[keyPath: path]) }
  }

  @inlinable
  package func load<Value>(_ field: Field<Value>) throws(MemoryFault) -> Value {
    try Value.load(field.place, structs.selection, structs.records[index], structs.batch)
  }

  /// The number at a place that was bound beside the declared fields.
  package func load(_ place: FieldSelection.Field) throws(MemoryFault) -> UInt64 {
    try structs.selection.load(place, structs.records[index], structs.batch)
  }

  /// Where an embedded struct lies.
  package func address(of place: KeyPath<Shape, Place>) -> VirtualAddress {
    address + structs.shape[keyPath: place].offset
  }
}

extension AddressSpace {
  /// Reads the structs at `addresses`.
  ///
  /// Cost: one batch.
  package func read<Shape>(_ bound: Bound<Shape>, at addresses: [VirtualAddress]) -> Structs<Shape> {
    Structs(bound, addresses, in: self)
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
    let members = ListWalker(space: self, form: .circular, limit: limit).members(ofHeads: [head])
    faults += members.faults
    let offset = bound.shape[keyPath: link].offset
    return read(bound, at: members.lists[0].map { $0 - offset })
  }
}
