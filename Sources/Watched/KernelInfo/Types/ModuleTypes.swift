import Memory

/// The types of a module, as it carries them.
///
/// They go on where the kernel's end: their numbers count on from the kernel's last, and their names' places from the end
/// of the kernel's names. So every module uses the same numbers for its own types. Source: kernel/bpf/btf.c,
/// `btf_parse_module`; Documentation/bpf/btf.rst, "split BTF".
extension TypeTable {
  /// This table, with the types of modules behind its own, which come first wherever both have a name.
  ///
  /// Cost: that of parsing this table's bytes anew, and those of the modules.
  ///
  /// - Returns: the table, and for each of `modules` whose types contradict themselves the reason; it is left out.
  package func adding(
    modules: [[UInt8]]
  ) throws(KernelInfoError) -> (types: TypeTable, refused: [(index: Int, reason: KernelInfoError)]) {
    var joined = SplitTypes(
      types: Array(bytes[sections.types]), names: Array(bytes[sections.names]), count: count, release: release)
    var refused: [(index: Int, reason: KernelInfoError)] = []
    for (index, module) in modules.enumerated() {
      do {
        try joined.add(module, behind: (names: sections.names.count, types: count))
      } catch {
        refused.append((index, (error as? KernelInfoError) ?? malformed("\(error)")))
      }
    }
    return (try TypeTable(joined.bytes, release: release), refused)
  }
}

/// Type information that grows by that of modules.
private struct SplitTypes {
  var types: [UInt8]
  var names: [UInt8]
  /// How many types there are, void not counted.
  var count: Int
  let release: String

  /// The whole as the format has it: a header, the types, the names.
  var bytes: [UInt8] {
    var header: [UInt8] = [0x9f, 0xeb, 1, 0]
    for word in [24, 0, types.count, types.count, names.count] { Self.append(UInt32(word), to: &header) }
    return header + types + names
  }

  /// Appends the types of a module that count from behind so many bytes of names and so many types.
  mutating func add(_ module: [UInt8], behind base: (names: Int, types: Int)) throws {
    let reader = ByteReader(module.span.bytes)
    let sections = try TypeTable.sections(of: module, isModule: true, release: release)
    let (moreNames, moreTypes) = (names.count - base.names, count - base.types)
    var moved: [UInt8] = []
    moved.reserveCapacity(sections.types.count)
    var added = 0
    /// A place in the names, or a number of a type, as it is once the module's own lie behind what is there.
    func name(_ offset: Int) throws -> UInt32 {
      let word = try reader.u32(offset)
      let start = Int(word) < base.names ? Int(word) : sections.names.lowerBound + Int(word) - base.names
      let (all, end) = Int(word) < base.names ? (names, base.names) : (module, sections.names.upperBound)
      // Here, as one that does not end would cost the other modules their types.
      guard start < end, all[start..<min(end, start + TypeTable.longestName)].contains(0) else {
        throw KernelInfoError(.malformedTypes("a module's name does not end where its names do"), release: release)
      }
      return Int(word) < base.names ? word : word &+ UInt32(moreNames)
    }
    func type(_ offset: Int) throws -> UInt32 {
      let word = try reader.u32(offset)
      return Int(word) <= base.types ? word : word &+ UInt32(moreTypes)
    }
    var offset = sections.types.lowerBound
    while offset < sections.types.upperBound {
      let record = try TypeTable.record(at: offset, reader)
      guard record.end <= sections.types.upperBound else {
        throw KernelInfoError(.malformedTypes("a module's type passes the end of its types"), release: release)
      }
      Self.append(try name(offset), to: &moved)
      Self.append(try reader.u32(offset + 4), to: &moved)
      Self.append(try record.refersToType ? type(offset + 8) : reader.u32(offset + 8), to: &moved)
      let words = record.entryWords
      for index in 0..<record.entries.count {
        for (position, word) in words.enumerated() {
          let place = record.entry(index) + position * 4
          switch word {
          case .name: Self.append(try name(place), to: &moved)
          case .type: Self.append(try type(place), to: &moved)
          case .number: Self.append(try reader.u32(place), to: &moved)
          }
        }
      }
      added += 1
      offset = record.end
    }
    types += moved
    names += module[sections.names]
    count += added
  }

  private static func append(_ word: UInt32, to bytes: inout [UInt8]) {
    for shift in stride(from: 0 as UInt32, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
  }
}

extension TypeTable.Record {
  fileprivate enum Word {
    case name, type, number
  }

  /// Whether the third word is the number of a type.
  fileprivate var refersToType: Bool {
    switch kind {
    case .pointer, .typedef, .volatile, .const, .restrict, .function, .prototype, .variable, .declarationTag, .typeTag:
      true
    case .void, .integer, .array, .structure, .union, .enumeration, .forward, .section, .float, .wideEnumeration: false
    }
  }

  /// What each entry that follows is made of.
  fileprivate var entryWords: [Word] {
    switch kind {
    case .structure, .union: [.name, .type, .number]
    case .array: [.type, .type, .number]
    case .prototype: [.name, .type]
    case .enumeration: [.name, .number]
    case .wideEnumeration: [.name, .number, .number]
    case .section: [.type, .number, .number]
    case .integer, .variable, .declarationTag: [.number]
    case .void, .pointer, .forward, .typedef, .volatile, .const, .restrict, .function, .float, .typeTag: []
    }
  }
}
