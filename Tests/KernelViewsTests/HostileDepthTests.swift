import KernelInfo
import Memory
import Paging
import Samples
import Testing

@testable import KernelViews

/// Trees of cached pages made to hurt.
struct HostilePageCacheTests {
  private static let first = SyntheticKernel.directMap + 0x50_0000
  private static func node(_ index: UInt64) -> UInt64 { first + index * 0x400 }
  private static let folio = SyntheticKernel.directMap + 0x60_0000

  private let types: TypeTable
  private let tree: PageCacheTree

  init() throws {
    var writer = StructWriter()
    writer.structure(
      "xa_node",
      [
        ("shift", writer.u8), ("offset", writer.u8), ("slots", writer.array(writer.pointer, 64)),
        ("marks", writer.array(writer.u64, 3)),
      ])
    types = try TypeTable(writer.writer.bytes, release: "test")
    tree = try PageCacheTree(types: types)
  }

  /// Writes nodes: the shift, the slots, and which slots are dirty.
  private func space(_ nodes: [(shift: UInt8, slots: [Int: UInt64], dirty: UInt64)]) throws -> AddressSpace {
    var linux = SyntheticLinux()
    let layout = try types.structure("xa_node")
    let (slots, marks) = (try layout.field("slots").offset, try layout.field("marks").offset)
    for (index, node) in nodes.enumerated() {
      let address = Self.node(UInt64(index))
      linux.put([node.shift], at: address)
      for (slot, value) in node.slots { linux.put(value, at: address + UInt64(slots + slot * 8)) }
      linux.put(node.dirty, at: address + UInt64(marks))
    }
    return try Kernel(memory: linux.memory).addressSpace
  }

  private func read(
    _ head: UInt64, _ space: AddressSpace, limit: Int = 1000
  ) -> (entries: [PageCacheTree.Entry], faults: [MemoryFault], dirty: UInt64) {
    var entries: [PageCacheTree.Entry] = []
    let faults = tree.forEachPart(below: VirtualAddress(head), in: space, limit: limit) { part in
      entries += part
      return entries.count < 100_000
    }
    let dirty = tree.count(of: .dirty, below: [VirtualAddress(head)], in: space, limit: limit)
    return (entries, faults, dirty.counts[0])
  }

  @Test func largeFoliosSiblingsAndMarks() throws {
    // Slots 4 to 7 of the leaf are one folio; slot 1 of the root is one of 64 pages, slot 2 and its sibling 128.
    let space = try space([
      (6, [0: Self.node(1) | 2, 1: Self.folio, 2: Self.folio + 0x40, 3: 2 << 2 | 2], 0b101),
      (
        0, [0: Self.folio, 4: Self.folio, 5: 4 << 2 | 2, 6: 4 << 2 | 2, 7: 4 << 2 | 2, 9: 0x13, 63: Self.folio], 0b10001
      ),
    ])
    let result = read(Self.node(0) | 2, space)
    #expect(result.faults.isEmpty)
    #expect(result.entries.map(\.index) == [64, 128, 0, 4, 9, 63])
    #expect(result.entries.map(\.pages) == [64, 128, 1, 4, 1, 1])
    #expect(result.entries[4].value == .exceptional)
    // Dirty: slots 0 and 4 of the leaf, slot 2 of the root.
    #expect(result.dirty == 1 + 4 + 128)
    let single = read(Self.folio, space)
    #expect(single.entries.map(\.pages) == [1])
    #expect(read(0, space).entries.isEmpty && read(0x1000, space).entries.isEmpty)
  }

  @Test func nodesThatLoopOrAreShared() throws {
    let space = try space([
      (12, [0: Self.node(0) | 2, 1: Self.node(1) | 2, 2: Self.node(1) | 2], .max),
      (6, [0: Self.node(1) | 2, 1: Self.node(0) | 2, 5: Self.folio], .max),
    ])
    let result = read(Self.node(0) | 2, space)
    // The root names itself and its child twice, the child itself and the root; its folio is found all the same.
    #expect(result.faults.count == 4)
    #expect(result.entries.map(\.index) == [4096 + 5 * 64])
  }

  /// A leaf that names nodes, a folio of 2^60 pages, shifts that no level has.
  @Test(arguments: [1, 5, 60, 63, 64, 255] as [UInt8])
  func shiftsThatMakeNoSense(shift: UInt8) throws {
    var slots: [Int: UInt64] = [:]
    for slot in 0..<64 { slots[slot] = slot % 2 == 0 ? Self.folio : Self.node(1) | 2 }
    let space = try space([(shift, slots, .max), (0, [0: Self.node(0) | 2], .max)])
    let result = read(Self.node(0) | 2, space)
    #expect(!result.faults.isEmpty)
    #expect(result.entries.count <= 1)
  }

  @Test func nodesThatLieNowhere() throws {
    let space = try space([(6, [0: 0xdead_0000_0000_0002, 1: 0xffff_ffff_ffff_fffe, 2: Self.node(1) | 2], 3)])
    // The third names what is all zeroes: an empty leaf.
    let result = read(Self.node(0) | 2, space)
    #expect(result.faults.count == 2 && result.entries.isEmpty)
    #expect(read(0xffff_8880_ffff_0002, space).faults.count == 1)
  }

  @Test func moreNodesThanAllowed() throws {
    var nodes: [(shift: UInt8, slots: [Int: UInt64], dirty: UInt64)] = [(6, [:], .max)]
    for slot in 0..<64 {
      nodes[0].slots[slot] = Self.node(UInt64(slot + 1)) | 2
      nodes.append((0, [0: Self.folio], 1))
    }
    let space = try space(nodes)
    #expect(read(Self.node(0) | 2, space).entries.count == 64)
    let few = read(Self.node(0) | 2, space, limit: 10)
    #expect(!few.faults.isEmpty && few.entries.count < 10)
  }
}
