public import KernelInfo
public import Memory

/// An element of an array in a struct, chosen by an enumerator of the kernel's own: `pid.tasks[PIDTYPE_PID]`.
///
/// ```swift
/// let first = Element<VirtualAddress?>("tasks", at: "PIDTYPE_PID")
/// let memory = Element<VirtualAddress?>(optional: "subsys", at: "memory_cgrp_id")
/// ```
@usableFromInline
package final class Element<Value: FieldValue>: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private let name, enumerator: String
  private let isOptional: Bool
  @usableFromInline package private(set) var place = FieldSelection.Field.absent

  private init(_ name: String, _ enumerator: String, isOptional: Bool) {
    (self.name, self.enumerator, self.isOptional) = (name, enumerator, isOptional)
    declare()
  }

  package convenience init(_ name: String, at enumerator: String) { self.init(name, enumerator, isOptional: false) }

  /// An element that kernels without the enumerator lack: there it loads as zero.
  package convenience init(optional name: String, at enumerator: String) {
    self.init(name, enumerator, isOptional: true)
  }

  /// Whether this kernel has it.
  package var isPresent: Bool { place.isPresent }

  @usableFromInline
  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    if isOptional, types.enumerator(enumerator) == nil { return }
    guard let found = try element(of: structure.field(name), at: enumerator, types) else { return }
    place = selection.want(offset: found.lowerBound, size: found.count)
  }
}

/// An element of an array in a struct, wanted for its place: ``Element`` without its value.
@usableFromInline
package final class ElementPlace: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private let name, enumerator: String
  package private(set) var offset = 0

  package init(_ name: String, at enumerator: String) {
    (self.name, self.enumerator) = (name, enumerator)
    declare()
  }

  @usableFromInline
  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    offset = try element(of: structure.field(name), at: enumerator, types)?.lowerBound ?? 0
  }
}

/// Where in its struct the element of `array` lies that `enumerator` chooses.
///
/// Nil where the array has no such element, which is a lie of the types.
private func element(
  of array: FieldLayout, at enumerator: String, _ types: TypeTable
) throws(KernelInfoError) -> Range<Int>? {
  let index = try types.requiredEnumerator(enumerator)
  guard let count = array.elementCount, index >= 0, index < count else { return nil }
  let start = array.offset + Int(index) * array.elementSize
  return start..<start + array.elementSize
}

/// An array in a struct, wanted for the places of its elements, or of one field of each where they are structs.
///
/// ```swift
/// let zones = ArrayPlace("node_zones", most: 8)
/// let nodes = ArrayPlace("per_node.node", before: "7.1", "node", most: 1024)
/// ```
@usableFromInline
package final class ArrayPlace: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private let names: [String]
  private let isOptional: Bool
  private let most: Int
  /// Bytes from the struct's start to the first element.
  package private(set) var offset = 0
  /// Bytes from one element to the next.
  package private(set) var stride = 0
  /// Elements: as many as this kernel has, one where the field is no array, and no more than the declaration says.
  package private(set) var count = 0

  private init(_ names: [String], isOptional: Bool, most: Int) {
    (self.names, self.isOptional, self.most) = (names, isOptional, most)
    declare()
  }

  package convenience init(_ name: String, most: Int) { self.init([name], isOptional: false, most: most) }

  package convenience init(_ name: String, before version: StaticString, _ older: String, most: Int) {
    self.init([name, older], isOptional: false, most: most)
  }

  /// An array that some kernels lack: there it has no elements.
  package convenience init(optional name: String, most: Int) { self.init([name], isOptional: true, most: most) }

  @usableFromInline
  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    let known = names.first(where: structure.hasField)
    if known == nil, isOptional { return }
    let name = known ?? names[0]
    let field = try structure.field(name)
    var array = field
    if field.elementCount == nil, let dot = name.lastIndex(of: ".") {
      array = try structure.field(String(name[..<dot]))
    }
    (offset, stride, count) = (field.offset, array.elementSize, min(array.elementCount ?? 1, most))
  }

  /// Where the elements of the struct at `address` lie.
  package func places(of address: VirtualAddress) -> [VirtualAddress] {
    (0..<count).map { address + offset + $0 * stride }
  }
}

extension Reading {
  /// The value of a declared element.
  @inlinable
  package subscript<Value>(dynamicMember path: KeyPath<Shape, Element<Value>>) -> Value {
    get throws(MemoryFault) {
      try Value.load(
        structs.bound.shape[keyPath: path].place, structs.bound.selection, structs.records[index], structs.batch)
    }
  }
}

/// A pointer that may be null, which is nil.
extension Optional: FieldValue where Wrapped == VirtualAddress {
  @inlinable
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> VirtualAddress? {
    let word = try selection.load(field, record, batch)
    return word == 0 ? nil : VirtualAddress(word)
  }
}
