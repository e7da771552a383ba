public import KernelInfo
public import Memory

/// A field of a kernel struct: declared by the name that it is bound to, and loaded as a type.
///
/// ```swift
/// let pid = Field<Int32>("pid")
/// let state = Field<UInt64>("__state", before: "5.14, 2f064a59a11f", "state")
/// let fullName = Field<VirtualAddress>(optional: "full_name")          // since 6.1
/// ```
/// The newest name comes first; which one a kernel has, only its types say. The version or commit behind `before` is a note for
/// people, since distributions backport.
@usableFromInline
package final class Field<Value: FieldValue>: DeclaredField, @unchecked Sendable {
  // Bound once, while its shape is made and before anyone else knows of it.
  private let names: [String]
  private let isOptional: Bool
  @usableFromInline package private(set) var place = FieldSelection.Field.absent

  private init(_ names: [String], isOptional: Bool) {
    self.names = names
    self.isOptional = isOptional
    declare()
  }

  package convenience init(_ name: String) { self.init([name], isOptional: false) }

  package convenience init(_ name: String, before version: StaticString, _ older: String) {
    self.init([name, older], isOptional: false)
  }

  package convenience init(
    _ name: String, before version: StaticString, _ older: String, before first: StaticString, _ oldest: String
  ) {
    self.init([name, older, oldest], isOptional: false)
  }

  /// A field that some kernels lack: there it loads as zero.
  package convenience init(optional name: String, before version: StaticString = "", _ older: String? = nil) {
    self.init([name] + (older.map { [$0] } ?? []), isOptional: true)
  }

  /// Whether this kernel has it.
  package var isPresent: Bool { place.isPresent }
  /// Bytes from the struct's start.
  package var offset: Int { place.offset }

  @usableFromInline
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
@usableFromInline
package final class Place: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private let names: [String]
  private let isOptional: Bool
  @usableFromInline package private(set) var offset = 0
  /// Whether this kernel has it; its offset is zero where it has not.
  package private(set) var isPresent = true

  private init(_ names: [String], isOptional: Bool) {
    self.names = names
    self.isOptional = isOptional
    declare()
  }

  package convenience init(_ name: String) { self.init([name], isOptional: false) }

  package convenience init(_ name: String, before version: StaticString, _ older: String) {
    self.init([name, older], isOptional: false)
  }

  /// A place that some kernels lack.
  package convenience init(optional name: String) { self.init([name], isOptional: true) }

  @usableFromInline
  package func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
    throws(KernelInfoError)
  {
    let name = names.first(where: structure.hasField)
    isPresent = name != nil
    if isPresent || !isOptional { offset = try structure.field(name ?? names[0]).offset }
  }
}

/// What a shape's properties may be.
///
/// Each is made with its shape, which binds it; its initializer calls ``declare()``.
@usableFromInline
package protocol DeclaredField: Sendable {
  /// Takes its place in the struct as this kernel has it.
  ///
  /// - Throws: ``KernelInfoError`` where the struct has no such field.
  func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection) throws(KernelInfoError)
}

extension DeclaredField {
  /// Tells the shape that is being made of this field.
  package func declare() { Declarations.current?.fields.append(self) }
}

/// The fields of the shape that is being made.
///
/// Not found by reflection: a mirror asks the runtime of each shape what it conforms to, which costs more than its fields.
final class Declarations: @unchecked Sendable {
  // Known only to the thread that makes the shape, until it is made.
  var fields: [any DeclaredField] = []
  @TaskLocal static var current: Declarations?

  /// A shape, and its fields in the order of their declaration.
  static func of<Shape: KernelShape>(_ type: Shape.Type) -> (shape: Shape, fields: [any DeclaredField]) {
    let declarations = Declarations()
    let shape = $current.withValue(declarations) { Shape() }
    return (shape, declarations.fields)
  }
}

/// A type that fields are loaded as.
@usableFromInline
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
  @inlinable
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Bool {
    try selection.load(field, record, batch) != 0
  }
}

extension VirtualAddress: FieldValue {
  @inlinable
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> VirtualAddress {
    VirtualAddress(try selection.load(field, record, batch))
  }
}

/// All bytes of a field, in the order in which they lie.
package struct RawBytes: FieldValue {
  package let bytes: [UInt8]

  @usableFromInline
  package static func load<Address>(
    _ field: FieldSelection.Field, _ selection: FieldSelection, _ record: FieldSelection.Record,
    _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> RawBytes {
    RawBytes(bytes: try selection.bytes(field, record, batch))
  }
}

/// An array of bytes is text, up to its first zero; one of words has the array's elements.
extension Array: FieldValue where Element: FieldElement {
  @usableFromInline
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
