package import KernelInfo
package import Memory

/// A field of a kernel struct: declared by the name that it is bound to, and loaded as a type.
///
/// ```swift
/// let pid = Field<Int32>("pid")
/// let state = Field<UInt64>("__state", before: "5.14, 2f064a59a11f", "state")
/// let fullName = Field<VirtualAddress>(optional: "full_name")          // since 6.1
/// ```
/// The newest name comes first; which one a kernel has, only its types say. The version or commit behind `before` is a note for
/// people, since distributions backport.
package final class Field<Value: FieldValue>: DeclaredField, @unchecked Sendable {
  // Bound once, while its shape is made and before anyone else knows of it.
  private let names: [String]
  private let isOptional: Bool
  package private(set) var place = FieldSelection.Field.absent

  package init(_ name: String) {
    names = [name]
    isOptional = false
  }

  package init(_ name: String, before version: StaticString, _ older: String) {
    names = [name, older]
    isOptional = false
  }

  package init(
    _ name: String, before version: StaticString, _ older: String, before first: StaticString, _ oldest: String
  ) {
    names = [name, older, oldest]
    isOptional = false
  }

  /// A field that some kernels lack: there it loads as zero.
  package init(optional name: String, before version: StaticString = "", _ older: String? = nil) {
    names = [name] + (older.map { [$0] } ?? [])
    isOptional = true
  }

  /// Whether this kernel has it.
  package var isPresent: Bool { place.isPresent }
  /// Bytes from the struct's start.
  package var offset: Int { place.offset }

  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    if let name = names.first(where: structure.hasField) {
      place = try selection.want(name)
    } else if !isOptional {
      // The newest name says best what is missing.
      place = try selection.want(names[0])
    }
  }
}

/// A field that is wanted only for its place and not read: the link that joins a struct into a list, or what is embedded in it.
package final class Place: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private let names: [String]
  package private(set) var offset = 0

  package init(_ name: String) { names = [name] }
  package init(_ name: String, before version: StaticString, _ older: String) { names = [name, older] }

  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    offset = try structure.field(names.first(where: structure.hasField) ?? names[0]).offset
  }
}

/// What a shape's properties may be.
package protocol DeclaredField: Sendable {
  /// Takes its place in the struct as this kernel has it.
  ///
  /// - Throws: ``KernelInfoError`` where the struct has no such field.
  func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection) throws(KernelInfoError)
}

/// A type that fields are loaded as.
package protocol FieldValue: Sendable {
  static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Self
}

/// A number: sign-extended as the kernel's own type says, then cut to the width that was declared.
extension FieldValue where Self: FixedWidthInteger {
  @inlinable
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Self {
    Self(truncatingIfNeeded: try selection.load(field, record, batch))
  }
}

extension UInt8: FieldValue {}
extension UInt16: FieldValue {}
extension UInt32: FieldValue {}
extension UInt64: FieldValue {}
extension Int8: FieldValue {}
extension Int16: FieldValue {}
extension Int32: FieldValue {}
extension Int64: FieldValue {}
extension Int: FieldValue {}

extension Bool: FieldValue {
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Bool {
    try selection.load(field, record, batch) != 0
  }
}

extension VirtualAddress: FieldValue {
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> VirtualAddress {
    VirtualAddress(try selection.load(field, record, batch))
  }
}

/// An array of bytes is text, up to its first zero; one of words has the array's elements.
extension Array: FieldValue where Element: FieldElement {
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [Element] {
    try Element.loadArray(field, selection, record, batch)
  }
}

/// What arrays of a struct are made of.
package protocol FieldElement: Sendable {
  static func loadArray<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [Self]
}

extension UInt8: FieldElement {
  package static func loadArray<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [UInt8] {
    try selection.string(field, record, batch)
  }
}

extension Int64: FieldElement {
  package static func loadArray<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [Int64] {
    try selection.words(field, record, batch)
  }
}

extension UInt64: FieldElement {
  package static func loadArray<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [UInt64] {
    try selection.words(field, record, batch).map { UInt64(bitPattern: $0) }
  }
}
