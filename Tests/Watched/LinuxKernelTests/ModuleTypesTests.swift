import KernelInfo
import Memory
import Samples
import Testing

/// Types of modules, which count on from those of the kernel.
struct ModuleTypesTests {
  private static func member(_ name: String, _ type: Int, _ offset: Int) -> BTFWriter.Member {
    BTFWriter.Member(name: name, type: type, offset: offset * 8)
  }

  /// A kernel with a list, and two modules whose own types have the same numbers.
  private static func sample() -> (kernel: BTFWriter, modules: [BTFWriter]) {
    var kernel = BTFWriter()
    let word = kernel.integer("unsigned long", size: 8, signed: false)
    let pointer = kernel.pointer(to: 0)
    let list = kernel.structure("list_head", size: 16, [member("next", pointer, 0), member("prev", pointer, 8)])

    var first = BTFWriter(behind: kernel)
    let inner = first.structure("first_inner", size: 24, [member("list", list, 0), member("count", word, 16)])
    let table = first.array(of: inner, count: 3)
    _ = first.structure("first_table", size: 80, [member("rows", table, 0), member("size", word, 72)])
    _ = first.enumeration("first_state", [("FIRST_DEAD", 3)])

    var second = BTFWriter(behind: kernel)
    let node = second.structure("second_node", size: 32, [member("key", word, 0), member("links", list, 16)])
    let reference = second.pointer(to: node)
    _ = second.typedef("second_t", second.const(node))
    _ = second.structure("second_tree", size: 16, [member("root", reference, 0), member("owner", word, 8)])
    return (kernel, [first, second])
  }

  @Test func typesOfSeveralModules() throws {
    let (kernel, modules) = Self.sample()
    let (types, refused) = try TypeTable(kernel.bytes, release: "test").adding(modules: modules.map(\.bytes))
    #expect(refused.isEmpty && types.count == 3 + 4 + 5)
    #expect(try types.structure("first_table").field("rows.list.prev").offset == 8)
    #expect(try types.structure("first_table").field("rows").elementCount == 3)
    #expect(types.enumerator("FIRST_DEAD", of: "first_state") == 3)
    #expect(try types.structure("second_t").field("links.next").offset == 16)
    let root = try types.structure("second_tree").field("root")
    #expect(root.isPointer && root.typeName == "second_node")
    #expect(try types.structure("list_head").size == 16)
  }

  @Test func aModuleThatContradictsItselfIsLeftOut() throws {
    let (kernel, modules) = Self.sample()
    let base = try TypeTable(kernel.bytes, release: "test")
    let good = modules[1].bytes
    for broken in [[], [0x9f, 0xeb, 1, 0], Array(good.prefix(60)), Array(good.dropLast())] as [[UInt8]] {
      let (types, refused) = try base.adding(modules: [broken, good])
      #expect(refused.map(\.index) == [0])
      #expect(types.hasStructure("second_tree") && !types.hasStructure("first_table"))
    }
  }

  /// Whatever a module says: every byte of its types changed in turn neither traps nor takes the kernel's own types away.
  @Test func modulesMadeToHurt() throws {
    let (kernel, modules) = Self.sample()
    let base = try TypeTable(kernel.bytes, release: "test")
    let good = modules[0].bytes
    for place in good.indices {
      for value in [0, 1, 0x7f, 0xff] as [UInt8] {
        var changed = good
        changed[place] = value
        guard let (types, _) = try? base.adding(modules: [changed]) else { continue }
        #expect(types.hasStructure("list_head"))
        for name in ["first_table", "first_inner"] {
          _ = try? types.structure(name).field("rows.list.prev")
          _ = try? types.type(name).definition()
        }
      }
    }
  }
}
