import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct TypeTableTests {
  /// Types in the kernel's forms: qualifiers, typedefs, anonymous members, bit fields, arrays, enums.
  static func sample() throws -> TypeTable {
    var writer = BTFWriter()
    let int = writer.integer("int", size: 4, signed: true)
    let unsigned = writer.integer("unsigned int", size: 4, signed: false)
    let long = writer.integer("long unsigned int", size: 8, signed: false)
    let char = writer.integer("char", size: 1, signed: true)
    let name = writer.array(of: char, count: 16)
    let grid = writer.array(of: writer.array(of: int, count: 3), count: 2)
    let list = writer.structure("list_head", size: 16, [.init(name: "next", type: long, offset: 0)])
    let wrapped = writer.structure("", size: 4, [.init(name: "counter", type: int, offset: 0)])
    let atomic = writer.typedef("atomic_t", wrapped)
    let inner = writer.structure(
      "", size: 16, union: true,
      [
        .init(name: "first", type: long, offset: 0),
        .init(name: "second", type: writer.const(writer.typedef("u32", unsigned)), offset: 64),
      ])
    let pairs = writer.array(of: list, count: 0)
    // A pointer to the struct that comes next.
    let this = writer.pointer(to: writer.count + 2)
    _ = writer.structure(
      "process", size: 128,
      [
        .init(name: "pid", type: int, offset: 0),
        .init(name: "low", type: unsigned, offset: 32, size: 3),
        .init(name: "high", type: int, offset: 35, size: 7),
        .init(name: "", type: inner, offset: 64),
        .init(name: "comm", type: name, offset: 192),
        .init(name: "usage", type: atomic, offset: 320),
        .init(name: "parent", type: this, offset: 384),
        .init(name: "tasks", type: list, offset: 448),
        .init(name: "grid", type: grid, offset: 576),
        .init(name: "numbers", type: pairs, offset: 768),
      ])
    _ = writer.enumeration("colour", [("RED", 0), ("BLUE", -1)])
    _ = writer.enumeration("sign", signed: true, [("MINUS", -1)])
    _ = writer.wideEnumeration([("WIDE", 0x1_0000_0002)])
    return try TypeTable(writer.bytes, release: "6.1.0-test")
  }

  @Test(arguments: [
    ("pid", 0, 4), ("first", 8, 8), ("second", 16, 4), ("comm", 24, 16), ("usage", 40, 4), ("usage.counter", 40, 4),
    ("parent", 48, 8), ("tasks", 56, 16), ("tasks.next", 56, 8), ("grid", 72, 24), ("numbers", 96, 0),
    ("numbers.next", 96, 8), ("low", 4, 1), ("high", 4, 2),
  ])
  func findsField(path: String, offset: Int, size: Int) throws {
    let field = try Self.sample().structure("process").field(path)
    #expect(field.offset == offset)
    #expect(field.size == size)
    #expect(try Self.sample().structure("process").hasField(path))
  }

  @Test func describesTypes() throws {
    let process = try Self.sample().structure("process")
    #expect(process.size == 128)
    #expect(try process.field("comm").elementCount == 16)
    #expect(try process.field("comm").elementSize == 1)
    #expect(try process.field("grid").elementCount == 2)
    #expect(try process.field("grid").elementSize == 12)
    #expect(try process.field("grid").isSigned)
    #expect(try process.field("tasks").typeName == "list_head")
    #expect(try process.field("numbers").typeName == "list_head")
    #expect(try process.field("usage").typeName == "atomic_t")
    #expect(try process.field("second").typeName == "unsigned int")
    #expect(try process.field("parent").isPointer)
    #expect(try process.field("parent").typeName == "process")
    #expect(try process.field("pid").isSigned)
    #expect(try !process.field("first").isSigned)
    #expect(try Self.sample().structure("atomic_t").field("counter").size == 4)
  }

  @Test func loadsNumbers() throws {
    let process = try Self.sample().structure("process")
    var memory = [UInt8](repeating: 0, count: 4 + 128)
    memory.replaceSubrange(4..<8, with: [0xFE, 0xFF, 0xFF, 0xFF])  // pid -2
    memory.replaceSubrange(8..<10, with: [0b1111_1101, 0b0000_0011])  // low 5; high 1111111, which is -1
    memory.replaceSubrange(12..<20, with: [1, 2, 3, 4, 5, 6, 7, 0x88])
    memory.replaceSubrange(28..<33, with: Array("init".utf8) + [0])
    memory.replaceSubrange(76 + 12..<76 + 16, with: [0xFF, 0xFF, 0xFF, 0xFF])  // grid[1][0]
    let reader = ByteReader(memory.span.bytes)
    #expect(try process.field("pid").loadSigned(reader, base: 4) == -2)
    #expect(try process.field("low").load(reader, base: 4) == 5)
    #expect(try process.field("high").loadSigned(reader, base: 4) == -1)
    #expect(try process.field("first").load(reader, base: 4) == 0x8807_0605_0403_0201)
    #expect(try process.field("first").loadPointer(reader, base: 4) == VirtualAddress(0x8807_0605_0403_0201))
    #expect(try process.field("comm").loadCString(reader, base: 4) == Array("init".utf8))
    #expect(try process.field("comm").load(reader, base: 4, element: 1) == UInt64(UInt8(ascii: "n")))
    #expect(throws: MemoryFault.self) { try process.field("comm").load(ByteReader(memory.span.bytes), element: 16) }
    #expect(throws: MemoryFault.self) { try process.field("comm").load(ByteReader(memory.span.bytes)) }
    #expect(throws: MemoryFault.self) { try process.field("pid").load(ByteReader(memory.span.bytes), base: 129) }
    #expect(throws: MemoryFault.self) { try process.field("pid").load(ByteReader(memory.span.bytes), base: .max) }
    #expect(throws: MemoryFault.self) { try process.field("high").load(ByteReader(memory.span.bytes), base: .min) }
  }

  @Test func findsEnumerators() throws {
    let types = try Self.sample()
    #expect(types.enumerator("RED") == 0)
    #expect(types.enumerator("BLUE") == 0xFFFF_FFFF)
    #expect(types.enumerator("MINUS") == -1)
    #expect(types.enumerator("WIDE") == 0x1_0000_0002)
    #expect(types.enumerator("GREEN") == nil)
  }

  /// Counters move from zones to nodes and keep their names: the enum tells whose number it is.
  @Test func enumeratorsBelongToTheirEnum() throws {
    var writer = BTFWriter()
    _ = writer.enumeration("zone_stat_item", [("NR_FREE_PAGES", 0), ("NR_PAGETABLE", 8)])
    _ = writer.enumeration("node_stat_item", [("NR_FILE_PAGES", 0), ("NR_FREE_PAGES", 5)])
    let types = try TypeTable(writer.bytes, release: "test")
    #expect(types.enumerator("NR_PAGETABLE", of: "node_stat_item") == nil)
    #expect(types.enumerator("NR_PAGETABLE", of: "zone_stat_item") == 8)
    #expect(types.enumerator("NR_FREE_PAGES", of: "zone_stat_item") == 0)
    #expect(types.enumerator("NR_FREE_PAGES", of: "node_stat_item") == 5)
    #expect(types.enumerator("NR_FREE_PAGES", of: "zone") == nil)
  }

  @Test func fieldsOfTwoNames() throws {
    var writer = BTFWriter()
    let word = writer.integer("unsigned long", size: 8, signed: false)
    _ = writer.structure(
      "page", size: 16,
      [
        .init(name: "flags", type: word, offset: 0), .init(name: "compound_info", type: word, offset: 64),
      ])
    let page = try TypeTable(writer.bytes, release: "test").structure("page")
    #expect(try page.field("compound_head", or: "compound_info").offset == 8)
    #expect(try page.field("flags", or: "compound_info").offset == 0)
    #expect(throws: KernelInfoError.self) { try page.field("mapping", or: "share") }
  }

  @Test func namesWhatIsMissing() throws {
    let types = try Self.sample()
    let structure = #expect(throws: KernelInfoError.self) { try types.structure("nothing") }
    #expect(structure?.description.contains("nothing") == true)
    #expect(structure?.description.contains("6.1.0-test") == true)
    let field = #expect(throws: KernelInfoError.self) { try types.structure("process").field("pid.none") }
    #expect(field?.code == .missingField("pid.none", structure: "process"))
    #expect(field?.description.contains("6.1.0-test") == true)
    for path in ["", ".", "comm.", "parent.pid", "pid.", "..pid"] {
      #expect(try !types.structure("process").hasField(path))
    }
    #expect(!types.hasStructure("int"))
    #expect(!types.hasStructure(""))
  }

  // MARK: Hostile

  private func malformed(_ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
    let error = #expect(throws: KernelInfoError.self, sourceLocation: sourceLocation) {
      _ = try TypeTable(bytes, release: "6.1.0-test")
    }
    guard case .malformedTypes = error?.code else {
      Issue.record("\(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
  }

  @Test func refusesEveryTruncation() throws {
    let whole = try Self.sample().bytes
    for count in 0..<whole.count { malformed(Array(whole[..<count])) }
  }

  /// Every byte changed in several ways either is refused or leaves a table that answers without harm.
  @Test func survivesEveryChangedByte() throws {
    let whole = try Self.sample().bytes
    for place in whole.indices {
      for value: UInt8 in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
        var bytes = whole
        bytes[place] = value
        guard let types = try? TypeTable(bytes, release: "") else { continue }
        let process = try? types.structure("process")
        for path in ["pid", "high", "second", "usage.counter", "grid", "numbers.next", "none"] {
          guard let field = try? process?.field(path) else { continue }
          let memory = [UInt8](repeating: 0xA5, count: 64)
          _ = try? field.load(ByteReader(memory.span.bytes))
          _ = try? field.load(ByteReader(memory.span.bytes), element: 3)
          _ = try? field.loadCString(ByteReader(memory.span.bytes))
        }
        for name in ["RED", "MINUS", "WIDE"] { _ = types.enumerator(name) }
        _ = types.hasStructure("atomic_t")
      }
    }
  }

  @Test func refusesMembersPastTheEnd() throws {
    var writer = BTFWriter()
    writer.record(4, nameOffset: 0, count: 0xFFFF, sizeOrType: 8)
    malformed(writer.bytes)
  }

  @Test func refusesNamesOutside() throws {
    var writer = BTFWriter()
    writer.record(4, nameOffset: 0x7FFF_FFFF, sizeOrType: 8)
    malformed(writer.bytes)
  }

  @Test func refusesEndlessNames() throws {
    var writer = BTFWriter()
    _ = writer.structure(String(repeating: "x", count: 100_000), size: 8, [])
    malformed(writer.bytes)
  }

  @Test func refusesUnknownKinds() throws {
    var writer = BTFWriter()
    writer.record(20, nameOffset: 0, sizeOrType: 8)
    malformed(writer.bytes)
  }

  @Test func endsReferenceLoops() throws {
    var writer = BTFWriter()
    let first = writer.typedef("first", 2)
    let second = writer.typedef("second", first)
    // A struct that contains itself without a name, often: without a bound the search would take 2^32 steps.
    let this = writer.count + 1
    let members = (0..<8).map { BTFWriter.Member(name: "", type: this, offset: $0) }
    _ = writer.structure("own", size: 8, members)
    // An array of itself, and a chain of arrays whose size overflows.
    let array = writer.array(of: writer.count + 1, count: 2)
    var huge = array + 1
    _ = writer.array(of: 1, count: 1)
    for _ in 0..<20 { huge = writer.array(of: huge, count: Int(UInt32.max)) }
    _ = writer.structure(
      "user", size: 8,
      [
        .init(name: "loop", type: second, offset: 0),
        .init(name: "array", type: array, offset: 0),
        .init(name: "huge", type: huge, offset: 0),
        .init(name: "odd", type: array, offset: 3),
        .init(name: "absent", type: 0x7FFF_FFFF, offset: 0),
      ])
    let types = try TypeTable(writer.bytes, release: "6.1.0-test")
    #expect(!types.hasStructure("first"))
    for (structure, path) in [
      ("own", "none"), ("user", "loop"), ("user", "array"), ("user", "huge"), ("user", "odd"), ("user", "absent"),
      ("user", "array.none"), ("user", "loop.none"),
    ] {
      #expect(throws: KernelInfoError.self) { try types.structure(structure).field(path) }
    }
  }

  /// Names that all hash to one value cost no more than a walk.
  @Test func manyEqualNamesStayFast() throws {
    var writer = BTFWriter()
    let name = writer.name("same")
    for _ in 0..<200_000 { writer.record(4, nameOffset: name, sizeOrType: 8) }
    let types = try TypeTable(writer.bytes, release: "6.1.0-test")
    #expect(try types.structure("same").size == 8)
    #expect(types.count == 200_000)
  }
}
