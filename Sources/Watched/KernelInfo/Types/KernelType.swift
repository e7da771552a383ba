import Memory

/// One of the kernel's types as C has it: a struct, a pointer to one, an array, a number.
///
/// Where a ``StructLayout`` answers for fields that code asks for by name, this is for looking at whatever there is:
/// each member, its type, and what that type is made of. Mirrors `include/uapi/linux/btf.h`.
public struct KernelType: Sendable {
  package let table: TypeTable
  /// The type's number in the BTF; 0 is void.
  package let number: Int

  /// What a type is, without typedefs and qualifiers.
  public enum Kind: Sendable, Hashable {
    case void
    case integer(isSigned: Bool)
    case character
    case boolean
    case float
    case pointer
    /// With the number of elements, of the outermost dimension.
    case array(count: Int)
    case structure
    case union
    case enumeration(isSigned: Bool)
    case function
    /// Declared in the kernel, and defined nowhere in its types.
    case incomplete
  }

  /// A member of a struct or union.
  public struct Member: Sendable {
    /// Empty for an anonymous struct or union.
    public let name: String
    public let type: KernelType
    /// In bits, from the start of what holds the member.
    public let bitOffset: Int
    /// The bits of a bit field, otherwise 0.
    public let bitSize: Int
    /// In bytes; for a bit field that of the word of its type that holds it.
    public var offset: Int {
      let size = max(1, type.size)
      return bitSize == 0 || size > 8 ? bitOffset / 8 : bitOffset / (8 * size) * size
    }
  }

  /// The record without typedefs and qualifiers.
  package func resolved() throws -> TypeTable.Record { try table.resolve(number).record }

  public var kind: Kind {
    guard let record = try? resolved() else { return .incomplete }
    switch record.kind {
    case .void: return .void
    case .integer:
      // Bits of the word that follows: 24 signed, 25 char, 26 bool. Compilers do not set that of char: its name tells.
      let encoding = (try? table.word(record.entry(0))) ?? 0
      if encoding >> 26 & 1 == 1 { return .boolean }
      let name = table.name(record.nameOffset)
      if record.sizeOrType == 1, name == "char" || encoding >> 25 & 1 == 1 { return .character }
      return .integer(isSigned: encoding >> 24 & 1 == 1)
    case .float: return .float
    case .pointer: return .pointer
    case .array: return .array(count: (try? table.arrayParts(of: record).count) ?? 0)
    case .structure: return .structure
    case .union: return .union
    case .enumeration, .wideEnumeration: return .enumeration(isSigned: record.flag)
    case .prototype, .function: return .function
    default: return .incomplete
    }
  }

  /// In bytes; 0 for what has none.
  public var size: Int { (try? table.size(of: resolved())) ?? 0 }

  /// What a pointer points to, or an array holds.
  public var target: KernelType? {
    guard let record = try? resolved() else { return nil }
    switch record.kind {
    case .pointer: return KernelType(table: table, number: record.sizeOrType)
    case .array: return (try? table.word(record.entry(0))).map { KernelType(table: table, number: Int($0)) }
    default: return nil
    }
  }

  /// The members of a struct or union, in the order of their declaration; those of anonymous ones lie within them.
  public func members() throws(KernelInfoError) -> [Member] {
    do {
      let record = try resolved()
      guard record.kind == .structure || record.kind == .union else { return [] }
      return try (0..<record.count).map { index in
        let member = try table.member(index, of: record)
        return Member(
          name: table.name(member.nameOffset), type: KernelType(table: table, number: member.type),
          bitOffset: member.bitOffset, bitSize: member.bitSize)
      }
    } catch {
      throw (error as? KernelInfoError) ?? table.malformed("\(error)")
    }
  }

  /// The enumerators of an enum.
  public func enumerators() throws(KernelInfoError) -> [(name: String, value: Int64)] {
    do {
      let record = try resolved()
      guard record.kind == .enumeration || record.kind == .wideEnumeration else { return [] }
      return try (0..<record.count).map { index in
        let place = record.entry(index)
        let low = try table.word(place + 4)
        let value =
          record.kind == .wideEnumeration
          ? Int64(low) | Int64(Int32(bitPattern: try table.word(place + 8))) << 32
          : record.flag ? Int64(Int32(bitPattern: low)) : Int64(low)
        return (table.name(Int(try table.word(place))), value)
      }
    } catch {
      throw (error as? KernelInfoError) ?? table.malformed("\(error)")
    }
  }

  /// The member called `name`, also of an anonymous struct or union inside, with its offset from this type's start.
  public func member(_ name: String) throws(KernelInfoError) -> Member? {
    var budget = 20_000
    return try member(name, bitOffset: 0, depth: 0, budget: &budget)
  }

  private func member(
    _ name: String, bitOffset: Int, depth: Int, budget: inout Int
  ) throws(KernelInfoError) -> Member? {
    guard depth < TypeTable.deepest else { throw table.malformed("anonymous structs are nested too deeply") }
    for member in try members() {
      budget -= 1
      guard budget > 0 else { throw table.malformed("a struct has too many members") }
      if member.name == name, !name.isEmpty {
        return Member(
          name: name, type: member.type, bitOffset: bitOffset + member.bitOffset, bitSize: member.bitSize)
      }
      if member.name.isEmpty,
        let found = try member.type.member(
          name, bitOffset: bitOffset + member.bitOffset, depth: depth + 1, budget: &budget)
      {
        return found
      }
    }
    return nil
  }
}

extension TypeTable {
  /// The type of this name: with or without `struct`, `union` or `enum` before it; a typedef or a basic type as well.
  ///
  /// Cost: a hash look-up for structs, unions and typedefs; one pass over all types for others.
  public func type(_ name: String) throws(KernelInfoError) -> KernelType {
    let words = name.split(separator: " ").map(String.init)
    let isTagged = words.count > 1 && ["struct", "union", "enum"].contains(words[0])
    let wanted = isTagged ? words[1...].joined(separator: " ") : words.joined(separator: " ")
    var fallback: Int?
    do {
      for number in numbers(ofNamed: wanted) {
        let kind = try record(ofType: number).kind
        switch kind {
        case .structure where !isTagged || words[0] == "struct": return KernelType(table: self, number: number)
        case .union where !isTagged || words[0] == "union": return KernelType(table: self, number: number)
        case .typedef where !isTagged: fallback = fallback ?? number
        default: break
        }
      }
      if let fallback { return KernelType(table: self, number: fallback) }
      for number in 1..<max(1, count + 1) {
        let record = try record(ofType: number)
        switch record.kind {
        case .enumeration, .wideEnumeration:
          if !isTagged || words[0] == "enum", isName(record.nameOffset, wanted.utf8) {
            return KernelType(table: self, number: number)
          }
        case .integer, .float:
          if !isTagged, isName(record.nameOffset, wanted.utf8) { return KernelType(table: self, number: number) }
        default: break
        }
      }
    } catch {
      throw (error as? KernelInfoError) ?? malformed("\(error)")
    }
    throw KernelInfoError(.missingStructure(name), release: release)
  }
}
