public import Memory

/// A value of the kernel's memory, read as its type says.
public indirect enum TypedValue: Sendable {
  case signed(Int64)
  case unsigned(UInt64)
  case boolean(Bool)
  /// With the name that the enum has for it, where it has one.
  case enumerator(String?, Int64)
  case pointer(VirtualAddress)
  /// An array of `char`, up to its first zero.
  case text([UInt8])
  case array([TypedValue])
  /// Of a struct or union; an anonymous one inside is a field without a name.
  case structure([(name: String, value: TypedValue)])
  /// What has no other form: floating-point numbers, and what lies beyond the limits of one value.
  case bytes([UInt8])
}

extension KernelType {
  /// How many values one value holds at most, all members and elements counted.
  package static let mostValues = 200_000

  /// The value of this type that starts at `base` in `reader`'s bytes.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before. Cost: linear in its members and elements.
  public func value(_ reader: borrowing ByteReader, base: Int = 0) throws(MemoryFault) -> TypedValue {
    var budget = Self.mostValues
    return try value(reader, base, bits: nil, depth: 0, budget: &budget)
  }

  /// The value of `member`, of the struct of this type that starts at `base`.
  public func value(
    of member: Member, _ reader: borrowing ByteReader, base: Int = 0
  ) throws(MemoryFault) -> TypedValue {
    var budget = Self.mostValues
    return try value(of: member, reader, base, depth: 0, budget: &budget)
  }

  private func value(
    of member: Member, _ reader: borrowing ByteReader, _ base: Int, depth: Int, budget: inout Int
  ) throws(MemoryFault) -> TypedValue {
    guard member.bitSize > 0 else {
      return try member.type.value(reader, base &+ member.bitOffset / 8, bits: nil, depth: depth, budget: &budget)
    }
    return try member.type.value(
      reader, base &+ member.bitOffset / 8, bits: (member.bitOffset % 8, member.bitSize), depth: depth,
      budget: &budget)
  }

  private func value(
    _ reader: borrowing ByteReader, _ base: Int, bits: (offset: Int, size: Int)?, depth: Int, budget: inout Int
  ) throws(MemoryFault) -> TypedValue {
    budget -= 1
    guard budget > 0, depth < 64 else { return .bytes([]) }
    let kind = kind
    switch kind {
    case .structure, .union:
      var fields: [(name: String, value: TypedValue)] = []
      for member in (try? members()) ?? [] {
        fields.append((member.name, try value(of: member, reader, base, depth: depth + 1, budget: &budget)))
      }
      return .structure(fields)
    case .array(let count):
      guard let element = target else { return .bytes([]) }
      let size = element.size
      if element.kind == .character { return .text(try reader.slice(base, count: count).cString(0)) }
      var elements: [TypedValue] = []
      for index in 0..<min(count, budget) where size > 0 {
        elements.append(
          try element.value(reader, base &+ index &* size, bits: nil, depth: depth + 1, budget: &budget))
      }
      return .array(elements)
    case .void, .function, .incomplete: return .bytes([])
    case .float: return .bytes(try reader.slice(base, count: min(size, 16)).copy())
    default: break
    }

    // What is left is a number of up to 16 bytes, or bits of one.
    let isSigned = kind == .integer(isSigned: true) || kind == .enumeration(isSigned: true)
    let size = size
    let field = bits.map { ($0.offset, min(64 - $0.offset, $0.size)) } ?? (0, min(64, size * 8))
    guard size > 0, size <= 8, field.1 > 0 else {
      return .bytes(try reader.slice(base, count: min(size, 16)).copy())
    }
    var raw: UInt64 = 0
    for byte in 0..<(field.0 + field.1 + 7) / 8 { raw |= UInt64(try reader.u8(base &+ byte)) << UInt64(8 * byte) }
    raw = (raw >> UInt64(field.0)) << UInt64(64 - field.1)
    let signed = Int64(bitPattern: raw) >> Int64(64 - field.1)
    raw >>= UInt64(64 - field.1)
    switch kind {
    case .boolean: return .boolean(raw != 0)
    case .pointer: return .pointer(VirtualAddress(raw))
    case .enumeration:
      let value = isSigned ? signed : Int64(bitPattern: raw)
      return .enumerator((try? enumerators())?.first { $0.value == value }?.name, value)
    default: return isSigned ? .signed(signed) : .unsigned(raw)
    }
  }
}
