/// How a struct or union of the kernel lies in memory.
public struct StructLayout: Sendable {
  public let name: String
  /// The size in bytes.
  public let size: Int
  private let table: TypeTable
  private let record: TypeTable.Record

  /// More members than any struct has, those of anonymous structs inside counted.
  private static let mostMembers = 20_000

  package init(table: TypeTable, record: TypeTable.Record, name: String) {
    self.table = table
    self.record = record
    self.name = name
    size = record.sizeOrType
  }

  /// The field that `path` names, its parts separated by dots.
  ///
  /// A path goes through anonymous structs and unions without naming them, through typedefs, and through an array
  /// into its first element: `se.sum_exec_runtime`, `tasks.next`, `numbers.nr`. It does not follow pointers.
  ///
  /// - Throws: ``KernelInfoError`` naming field, struct and kernel release where there is no such field.
  ///
  /// Cost: linear in the members of the structs on the way; look fields up once and keep them.
  public func field(_ path: String) throws(KernelInfoError) -> FieldLayout {
    do {
      guard let field = try find(path) else {
        throw KernelInfoError(.missingField(path, structure: name), release: table.release)
      }
      return field
    } catch let error as KernelInfoError {
      throw error
    } catch {
      throw table.malformed("field '\(path)' of '\(name)': \(error)")
    }
  }

  /// The field at the first of two paths that there is, for one that kernels name differently.
  ///
  /// - Throws: as ``field(_:)`` does for `path`, where there is neither.
  public func field(_ path: String, or other: String) throws(KernelInfoError) -> FieldLayout {
    try field(hasField(path) || !hasField(other) ? path : other)
  }

  /// Whether there is such a field.
  public func hasField(_ path: String) -> Bool { (try? find(path)) != nil }

  private func find(_ path: String) throws -> FieldLayout? {
    var inside = record
    var bitOffset = 0
    var found: Member?
    for part in path.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
      if let found {
        inside = try table.resolve(found.type).record
        for _ in 0..<TypeTable.deepest where inside.kind == .array {
          inside = try table.arrayParts(of: inside).element.record
        }
      }
      var budget = Self.mostMembers
      guard let member = try member(part, of: inside, depth: 0, budget: &budget) else { return nil }
      bitOffset += member.bitOffset
      found = member
    }
    guard let found else { return nil }
    return try layout(found, bitOffset: bitOffset, path: path)
  }

  private struct Member {
    var type: Int
    var bitOffset: Int
    var bitSize: Int
  }

  /// Looks for a member in a struct and in its anonymous structs and unions.
  private func member(
    _ name: Substring.UTF8View, of record: TypeTable.Record, depth: Int, budget: inout Int
  ) throws -> Member? {
    guard record.kind == .structure || record.kind == .union else { return nil }
    guard depth < TypeTable.deepest else {
      throw table.malformed("anonymous structs in '\(self.name)' are nested too deeply")
    }
    for index in 0..<record.count {
      budget -= 1
      guard budget > 0 else { throw table.malformed("'\(self.name)' has more than \(Self.mostMembers) members") }
      let member = try table.member(index, of: record)
      if table.isName(member.nameOffset, name) {
        return name.isEmpty ? nil : Member(type: member.type, bitOffset: member.bitOffset, bitSize: member.bitSize)
      }
      guard table.isName(member.nameOffset, EmptyCollection()) else { continue }
      let inner = try table.resolve(member.type).record
      if var found = try self.member(name, of: inner, depth: depth + 1, budget: &budget) {
        found.bitOffset += member.bitOffset
        return found
      }
    }
    return nil
  }

  private func layout(_ member: Member, bitOffset: Int, path: String) throws -> FieldLayout {
    let (record, typedef) = try table.resolve(member.type)
    let size = try table.size(of: record)
    var element = (record: record, typedef: typedef)
    var array: (count: Int, size: Int)?
    if record.kind == .array {
      let (inner, count) = try table.arrayParts(of: record)
      array = (count, try table.size(of: inner.record))
      element = inner
      for _ in 0..<TypeTable.deepest where element.record.kind == .array {
        element = try table.arrayParts(of: element.record).element
      }
    }
    let kind = element.record.kind
    let isPointer = kind == .pointer
    if isPointer { element = try table.resolve(element.record.sizeOrType) }
    let nameOffset = element.record.nameOffset != 0 ? element.record.nameOffset : element.typedef ?? 0

    var layout = FieldLayout(
      path: path, structureName: name, offset: bitOffset / 8, size: size, isPointer: isPointer,
      isSigned: try isSigned(kind, element.record), elementCount: array?.count, elementSize: array?.size ?? size,
      typeName: table.name(nameOffset), bitfield: nil)
    if member.bitSize > 0 {
      guard member.bitSize <= 64, bitOffset % 8 + member.bitSize <= 64 else {
        throw table.malformed("the bit field '\(path)' of '\(name)' has \(member.bitSize) bits")
      }
      // The fewest bytes that hold the bits, so that a load never leaves the struct.
      layout.size = (bitOffset % 8 + member.bitSize + 7) / 8
      layout.elementSize = layout.size
      layout.bitfield = FieldLayout.BitField(offset: bitOffset % 8, size: member.bitSize)
    } else if bitOffset % 8 != 0 {
      throw table.malformed("the field '\(path)' of '\(name)' starts at bit \(bitOffset)")
    }
    return layout
  }

  /// An integer's encoding follows its record, with bit 24 set where it is signed; an enum says so by its flag.
  private func isSigned(_ kind: TypeTable.Kind, _ record: TypeTable.Record) throws -> Bool {
    switch kind {
    case .integer: try table.word(record.entry(0)) >> 24 & 1 == 1
    case .enumeration, .wideEnumeration: record.flag
    default: false
    }
  }
}
