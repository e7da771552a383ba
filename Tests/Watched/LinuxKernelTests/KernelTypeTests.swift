import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct KernelTypeTests {
  private func table(_ body: (inout BTFWriter) -> Void) throws -> TypeTable {
    var writer = BTFWriter()
    body(&writer)
    return try TypeTable(writer.bytes, release: "test")
  }

  @Test func declaresAsC() throws {
    let types = try table { btf in
      let int = btf.integer("int", size: 4, signed: true)
      let list = btf.structure("list", size: 8, [])
      let pointer = btf.pointer(to: list)
      let constant = btf.const(int)
      // int (*)(struct list *, const int)
      let prototype = btf.record(
        13, nameOffset: 0, count: 2, sizeOrType: int, words: [0, UInt32(pointer), 0, UInt32(constant)])
      _ = btf.structure(
        "all", size: 64,
        [
          .init(name: "next", type: pointer, offset: 0),
          .init(name: "call", type: btf.pointer(to: prototype), offset: 64),
          .init(name: "table", type: btf.pointer(to: btf.array(of: int, count: 4)), offset: 128),
          .init(name: "names", type: btf.array(of: btf.pointer(to: constant), count: 3), offset: 192),
          .init(name: "fixed", type: btf.const(pointer), offset: 384),
        ])
    }
    let members = try types.type("struct all").members()
    #expect(
      members.map { $0.type.declaration(of: $0.name) } == [
        "struct list *next", "int (*call)(struct list *, const int)", "int (*table)[4]", "const int *names[3]",
        "struct list *const fixed",
      ])
    #expect(members.map(\.type.size) == [8, 8, 8, 24, 8])
  }

  @Test func showsHolesAndBits() throws {
    let types = try table { btf in
      let int = btf.integer("int", size: 4, signed: true)
      let char = btf.integer("char", size: 1, signed: true)
      _ = btf.structure(
        "gaps", size: 16,
        [
          .init(name: "first", type: char, offset: 0), .init(name: "second", type: int, offset: 32),
          .init(name: "low", type: int, offset: 64, size: 3), .init(name: "high", type: int, offset: 69, size: 4),
        ])
    }
    let text = try types.type("gaps").definition()
    #expect(text.contains("/* XXX 3 bytes hole, try to pack */"))
    #expect(text.contains("/* XXX 2 bits hole, try to pack */"))
    #expect(text.contains("/*  8: 5     4 */"))
    #expect(text.contains("/* size: 16, cachelines: 1, members: 4 */"))
    // first 'a', second -2, low 0b101 (-3), high 0b0110.
    let bytes: [UInt8] = [0x61, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0b1100_0101, 0, 0, 0, 0, 0, 0, 0]
    let type = try types.type("gaps")
    guard case .structure(let fields) = try type.value(ByteReader(bytes.span.bytes)) else {
      Issue.record("no struct")
      return
    }
    let numbers = fields.map { field -> Int64? in if case .signed(let number) = field.value { number } else { nil } }
    #expect(numbers[1...] == [-2, -3, 6])
  }

  @Test func findsTypesOfEveryKind() throws {
    let types = try table { btf in
      let int = btf.integer("int", size: 4, signed: true)
      _ = btf.typedef("same", int)
      _ = btf.structure("same", size: 4, [.init(name: "x", type: int, offset: 0)])
      _ = btf.structure("same", size: 8, union: true, [.init(name: "x", type: int, offset: 0)])
      _ = btf.enumeration("colour", [("red", 3)])
    }
    #expect(try types.type("same").size == 4 && types.type("same").kind == .structure)
    #expect(try types.type("union same").size == 8)
    #expect(try types.type("enum colour").enumerators().first?.value == 3)
    #expect(try types.type("int").kind == .integer(isSigned: true))
    #expect(throws: KernelInfoError.self) { try types.type("enum same") }
    #expect(throws: KernelInfoError.self) { try types.type("nothing") }
  }

  /// A struct that holds itself, arrays of arrays without end, and a pointer that points to itself.
  @Test func typesThatHoldThemselves() throws {
    let types = try table { btf in
      _ = btf.structure("", size: 8, [.init(name: "", type: 1, offset: 0)])
      _ = btf.structure("outer", size: 8, [.init(name: "", type: 1, offset: 0)])
      _ = btf.record(3, nameOffset: 0, sizeOrType: 0, words: [3, 3, 2])
      _ = btf.structure("array", size: 8, [.init(name: "a", type: 3, offset: 0)])
      _ = btf.pointer(to: 5)
      _ = btf.structure("pointer", size: 8, [.init(name: "p", type: 5, offset: 0)])
      let int = btf.integer("int", size: 4, signed: true)
      _ = btf.structure("huge", size: 8, [.init(name: "a", type: btf.array(of: int, count: .max >> 33), offset: 0)])
    }
    #expect(throws: KernelInfoError.self) { try types.type("outer").definition() }
    #expect(throws: KernelInfoError.self) { try types.type("outer").member("missing") }
    let bytes = [UInt8](repeating: 0, count: 8)
    for name in ["outer", "array", "pointer"] { _ = try? types.type(name).value(ByteReader(bytes.span.bytes)) }
    _ = try types.type("array").definition()
    #expect(try types.type("pointer").definition().contains("p;"))
    #expect(throws: MemoryFault.self) { try types.type("huge").value(ByteReader(bytes.span.bytes)) }
  }
}
