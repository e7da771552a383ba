import Memory

/// The kernel's types, by name, from the BTF type information that the kernel carries.
///
/// The bytes stay as they are; opening notes where each type starts and indexes the names, and layouts are worked out
/// when asked for. Mirrors `include/uapi/linux/btf.h` and `kernel/bpf/btf.c`.
public final class TypeTable: Sendable {
  /// The type information itself, as `/sys/kernel/btf/vmlinux` gives it.
  public let bytes: [UInt8]
  /// The kernel's release, for messages.
  package let release: String
  /// Where the types and the names lie in `bytes`.
  package let sections: (types: Range<Int>, names: Range<Int>)
  private var strings: Range<Int> { sections.names }
  /// The offset of each type's record; type number 0 is void and has none.
  private let records: [UInt32]
  /// The offsets of the records of named structs, unions and typedefs, indexed by name.
  private let named: [UInt32]
  private let namedIndex: NameIndex
  /// The offsets of the records of enumerators, and of the enums they belong to, indexed by name.
  private let enumerators: [UInt32]
  private let enumeratorOwners: [UInt32]
  private let enumeratorIndex: NameIndex

  /// What a type is, as the format numbers it (`BTF_KIND_…`).
  package enum Kind: UInt32 {
    case void = 0, integer, pointer, array, structure, union, enumeration, forward, typedef, volatile, const, restrict
    case function, prototype, variable, section, float, declarationTag, typeTag, wideEnumeration
  }

  /// The first 12 bytes of a type's record: `u32 name; u32 info; u32 size or type`.
  ///
  /// `info` holds the number of entries that follow (bits 0 to 15), the kind (bits 24 to 28) and a flag (bit 31).
  package struct Record {
    package var offset: Int
    package var kind: Kind
    package var nameOffset: Int
    package var count: Int
    package var flag: Bool
    /// Bytes for what has a size, a type number for what refers to a type.
    package var sizeOrType: Int

    package static let byteCount = 12
    package static let void = Record(offset: 0, kind: .void, nameOffset: 0, count: 0, flag: false, sizeOrType: 0)

    /// The length of an entry that follows the record, and how many there are.
    package var entries: (count: Int, stride: Int) {
      switch kind {
      case .structure, .union, .section, .wideEnumeration: (count, 12)
      case .enumeration, .prototype: (count, 8)
      case .array: (1, 12)
      case .integer, .variable, .declarationTag: (1, 4)
      default: (0, 0)
      }
    }

    package func entry(_ index: Int) -> Int { offset + Self.byteCount + index * entries.stride }
    package var end: Int { entry(0) + entries.count * entries.stride }
  }

  /// Names of types longer than the kernel allows names to be (`KSYM_NAME_LEN`) are refused.
  package static let longestName = 512
  /// How many qualifiers, typedefs and array dimensions may follow one another.
  package static let deepest = 32

  /// Parses BTF.
  ///
  /// Cost: one pass over the types, and one over the names of structs, typedefs and enumerators.
  package convenience init(_ bytes: [UInt8], release: String) throws(KernelInfoError) {
    do {
      try self.init(parsing: bytes, release: release)
    } catch let fault as MemoryFault {
      throw KernelInfoError(.malformedTypes("\(fault)"), release: release)
    } catch let error as KernelInfoError {
      throw error
    } catch {
      throw KernelInfoError(.malformedTypes("\(error)"), release: release)
    }
  }

  private init(parsing bytes: [UInt8], release: String) throws {
    func malformed(_ why: String) -> KernelInfoError { KernelInfoError(.malformedTypes(why), release: release) }
    let reader = ByteReader(bytes.span.bytes)
    let sections = try Self.sections(of: bytes, release: release)
    let (types, typesEnd) = (sections.types.lowerBound, sections.types.upperBound)
    let (names, namesEnd) = (sections.names.lowerBound, sections.names.upperBound)

    var records: [UInt32] = [0]
    var named: [UInt32] = []
    var enumerators: [UInt32] = []
    var enumeratorOwners: [UInt32] = []
    records.reserveCapacity((typesEnd - types) / 16)
    var offset = types
    while offset < typesEnd {
      let record = try Self.record(at: offset, reader)
      let end = record.end
      guard end <= typesEnd else { throw malformed("type \(records.count) passes the end of the types") }
      switch record.kind {
      case .void: throw malformed("type \(records.count) is void")
      case .structure, .union, .typedef:
        if record.nameOffset != 0 { named.append(UInt32(offset)) }
      case .enumeration, .wideEnumeration:
        let stride = record.entries.stride
        for index in 0..<record.count {
          enumerators.append(UInt32(offset + Record.byteCount + index * stride))
          enumeratorOwners.append(UInt32(offset))
        }
      default: break
      }
      records.append(UInt32(offset))
      offset = end
    }

    func index(_ items: [UInt32]) throws -> NameIndex {
      var index = NameIndex(count: items.count)
      // Backwards, as the index finds first what came last.
      for item in items.indices.reversed() {
        let start = names + Int(try reader.u32(Int(items[item])))
        let limit = min(namesEnd, start + Self.longestName)
        guard start < namesEnd else { throw malformed("a name lies outside the names") }
        var end = start
        while end < limit, bytes[end] != 0 { end += 1 }
        guard end < limit else { throw malformed("a name is longer than \(Self.longestName) bytes") }
        index.insert(item, hash: try NameHash.of(reader, start, count: end - start))
      }
      return index
    }
    namedIndex = try index(named)
    enumeratorIndex = try index(enumerators)
    self.bytes = bytes
    self.release = release
    self.sections = sections
    self.records = records
    self.named = named
    self.enumerators = enumerators
    self.enumeratorOwners = enumeratorOwners
  }

  /// Where types and names lie in type information, the kernel's or a module's, which may have no names of its own.
  package static func sections(
    of bytes: [UInt8], isModule: Bool = false, release: String
  ) throws -> (types: Range<Int>, names: Range<Int>) {
    func malformed(_ why: String) -> KernelInfoError { KernelInfoError(.malformedTypes(why), release: release) }
    let reader = ByteReader(bytes.span.bytes)
    // Header: u16 magic; u8 version, flags; u32 header length, then offset and length of types and of strings, both
    // counted from the header's end.
    let magic = try reader.u16(0)
    guard magic == 0xEB9F, try reader.u8(2) == 1 else { throw malformed("its magic is 0x\(String(magic, radix: 16))") }
    let headerLength = Int(try reader.u32(4))
    let types = headerLength + Int(try reader.u32(8))
    let typesEnd = types + Int(try reader.u32(12))
    let names = headerLength + Int(try reader.u32(16))
    let namesEnd = names + Int(try reader.u32(20))
    guard headerLength >= 24, types <= typesEnd, typesEnd <= bytes.count, namesEnd <= bytes.count, names <= namesEnd,
      bytes.count < 1 << 30
    else { throw malformed("its sections lie outside its \(bytes.count) bytes") }
    guard names < namesEnd ? bytes[namesEnd - 1] == 0 && (isModule || bytes[names] == 0) : isModule else {
      throw malformed("its names do not end")
    }
    return (types..<typesEnd, names..<namesEnd)
  }

  static func record(at offset: Int, _ reader: borrowing ByteReader) throws -> Record {
    let info = try reader.u32(offset + 4)
    guard let kind = Kind(rawValue: info >> 24 & 0x1f) else {
      throw KernelInfoError(.malformedTypes("the type at \(offset) is of the unknown kind \(info >> 24 & 0x1f)"))
    }
    return Record(
      offset: offset, kind: kind, nameOffset: Int(try reader.u32(offset)), count: Int(info & 0xffff),
      flag: info >> 31 == 1, sizeOrType: Int(try reader.u32(offset + 8)))
  }
}

// MARK: Looking up

extension TypeTable {
  /// How many types there are, void not counted.
  public var count: Int { records.count - 1 }

  /// The struct or union called `name`, or the one that the typedef of that name stands for.
  ///
  /// Where several are called so, the first of the largest kind: structs and unions come before typedefs.
  public func structure(_ name: String) throws(KernelInfoError) -> StructLayout {
    guard let record = try? structureRecord(name) else {
      throw KernelInfoError(.missingStructure(name), release: release)
    }
    return StructLayout(table: self, record: record, name: name)
  }

  /// Whether there is such a struct, union, or typedef of one.
  public func hasStructure(_ name: String) -> Bool { (try? structureRecord(name)) != nil }

  private func structureRecord(_ name: String) throws -> Record? {
    var item = namedIndex.first(hash: NameHash.of(name))
    var typedef: Record?
    while item != NameIndex.none {
      let record = try record(at: Int(named[Int(item)]))
      if isName(record.nameOffset, name.utf8) {
        if record.kind != .typedef { return record }
        if typedef == nil { typedef = record }
      }
      item = namedIndex.next(item)
    }
    guard let typedef else { return nil }
    let target = try resolve(typedef.sizeOrType).record
    return target.kind == .structure || target.kind == .union ? target : nil
  }

  /// The numbers of the structs, unions and typedefs called `name`, in the order of the types.
  package func numbers(ofNamed name: String) -> [Int] {
    var numbers: [Int] = []
    var item = namedIndex.first(hash: NameHash.of(name))
    while item != NameIndex.none {
      let offset = named[Int(item)]
      if let record = try? record(at: Int(offset)), isName(record.nameOffset, name.utf8) {
        // Records lie in the order of their numbers; number 0 has none.
        var low = 1
        var high = records.count
        while high - low > 1 {
          let middle = (low + high) / 2
          if records[middle] <= offset { low = middle } else { high = middle }
        }
        numbers.append(low)
      }
      item = namedIndex.next(item)
    }
    return numbers
  }

  /// The value of an enumerator of any enum, such as `PIDTYPE_TGID`; the first where several are called so.
  public func enumerator(_ name: String) -> Int64? { enumerator(name, of: nil) }

  /// The value of an enumerator of the enum called `enumeration`, nil where that has none of this name; of any enum where
  /// `enumeration` is nil.
  public func enumerator(_ name: String, of enumeration: String?) -> Int64? {
    var item = enumeratorIndex.first(hash: NameHash.of(name))
    while item != NameIndex.none {
      let offset = Int(enumerators[Int(item)])
      let owner = Int(enumeratorOwners[Int(item)])
      if let value = try? enumeratorValue(offset, owner: owner, name), isOwner(owner, enumeration) { return value }
      item = enumeratorIndex.next(item)
    }
    return nil
  }

  /// The enumerator's value, or an error where it is missing.
  public func requiredEnumerator(_ name: String) throws(KernelInfoError) -> Int64 {
    guard let value = enumerator(name) else { throw KernelInfoError(.missingEnumerator(name), release: release) }
    return value
  }

  private func isOwner(_ owner: Int, _ enumeration: String?) -> Bool {
    guard let enumeration else { return true }
    guard let record = try? record(at: owner) else { return false }
    return isName(record.nameOffset, enumeration.utf8)
  }

  private func enumeratorValue(_ offset: Int, owner: Int, _ name: String) throws -> Int64? {
    guard isName(Int(try word(offset)), name.utf8) else { return nil }
    let record = try record(at: owner)
    let low = try word(offset + 4)
    if record.kind == .wideEnumeration { return Int64(low) | Int64(Int32(bitPattern: try word(offset + 8))) << 32 }
    return record.flag ? Int64(Int32(bitPattern: low)) : Int64(low)
  }
}

// MARK: Following types

extension TypeTable {
  package func malformed(_ why: String) -> KernelInfoError { KernelInfoError(.malformedTypes(why), release: release) }

  package func record(at offset: Int) throws -> Record {
    let bytes = bytes
    return try Self.record(at: offset, ByteReader(bytes.span.bytes))
  }

  /// The record of type number `type`.
  package func record(ofType type: Int) throws -> Record {
    if type == 0 { return .void }
    guard type > 0, type < records.count else { throw malformed("there is no type \(type)") }
    return try record(at: Int(records[type]))
  }

  /// The 32-bit number at `offset` of the type information.
  package func word(_ offset: Int) throws -> UInt32 {
    let bytes = bytes
    return try ByteReader(bytes.span.bytes).u32(offset)
  }

  /// What remains of a type without typedefs and qualifiers, and the name of the last typedef on the way.
  package func resolve(_ type: Int) throws -> (record: Record, typedef: Int?) {
    var type = type
    var typedef: Int?
    for _ in 0..<Self.deepest {
      let record = try record(ofType: type)
      switch record.kind {
      case .typedef:
        typedef = record.nameOffset
        type = record.sizeOrType
      case .volatile, .const, .restrict, .typeTag: type = record.sizeOrType
      default: return (record, typedef)
      }
    }
    throw malformed("type \(type) refers to itself, or through more than \(Self.deepest) others")
  }

  /// The size in bytes of a type without typedefs and qualifiers.
  package func size(of record: Record, depth: Int = 0) throws -> Int {
    switch record.kind {
    case .integer, .structure, .union, .enumeration, .wideEnumeration, .float, .section: return record.sizeOrType
    case .pointer: return 8
    case .array:
      guard depth < Self.deepest else { throw malformed("an array has more than \(Self.deepest) dimensions") }
      let (element, count) = try arrayParts(of: record)
      let (size, overflow) = try size(of: element.record, depth: depth + 1).multipliedReportingOverflow(by: count)
      guard !overflow, size < 1 << 40 else { throw malformed("an array is too large") }
      return size
    default: return 0
    }
  }

  /// The element's type and the number of elements of an array: `u32 element type, index type, count` follow it.
  package func arrayParts(of record: Record) throws -> (element: (record: Record, typedef: Int?), count: Int) {
    return (
      try resolve(Int(try word(record.entry(0)))), Int(try word(record.entry(0) + 8))
    )
  }

  /// A member of a struct or union: `u32 name, type, offset` in bits, which with the struct's flag set has the
  /// size of a bit field in its upper 8 bits.
  package func member(_ index: Int, of record: Record) throws -> (
    nameOffset: Int, type: Int, bitOffset: Int, bitSize: Int
  ) {
    let place = record.entry(index)
    let offset = Int(try word(place + 8))
    return (
      Int(try word(place)), Int(try word(place + 4)), record.flag ? offset & 0xff_ffff : offset,
      record.flag ? offset >> 24 : 0
    )
  }

  /// Whether the name at `offset` of the names is `name`.
  package func isName(_ offset: Int, _ name: some Sequence<UInt8>) -> Bool {
    var place = strings.lowerBound + offset
    guard offset >= 0, place < strings.upperBound else { return false }
    for byte in name {
      guard place < strings.upperBound, bytes[place] == byte, byte != 0 else { return false }
      place += 1
    }
    return place < strings.upperBound && bytes[place] == 0
  }

  /// The name at `offset` of the names, empty where there is none.
  package func name(_ offset: Int) -> String {
    guard offset >= 0, offset < strings.count else { return "" }
    let rest = bytes[(strings.lowerBound + offset)..<strings.upperBound].prefix(Self.longestName)
    return String(decoding: rest.prefix { $0 != 0 }, as: UTF8.self)
  }
}
