import KernelInfo
import KernelViews
import Memory
import Paging
import Samples
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

private typealias Place = SyntheticLinux.Place

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

/// Waiters in kernel stacks, and lists of them made to hurt.
struct HostileLockTests {
  private static let stack = SyntheticKernel.directMap + 0x50_0000
  private static let lock = SyntheticKernel.directMap + 0x60_0000
  private static let code: UInt64 = 0xffff_ffff_9e20_1000
  /// Where the waiter of task `index` lies: in use of its stack are the last 512 bytes.
  private static func waiter(_ index: Int) -> UInt64 { stack + UInt64(index) * 0x4000 + 0x3f00 }

  private let types: TypeTable
  private let reader: LockReader

  init() throws {
    var writer = StructWriter()
    let (u32, u64, pointer) = (writer.u32, writer.u64, writer.pointer)
    let list = writer.structure("list_head", [("next", pointer), ("prev", pointer)])
    let thread = writer.structure("thread_struct", [("sp", u64)])
    // Behind all fields that the small Linux's own task_struct has.
    writer.structure("task_struct", [("other", writer.array(u64, 96)), ("stack", pointer), ("thread", thread)])
    writer.structure("mutex", [("owner", u64), ("wait_lock", u64), ("wait_list", list)])
    writer.structure("mutex_waiter", [("list", list), ("task", pointer), ("ww_ctx", pointer)])
    writer.structure("rw_semaphore", [("count", u64), ("owner", u64), ("wait_lock", u64), ("wait_list", list)])
    writer.structure("rwsem_waiter", [("list", list), ("task", pointer), ("type", u32)])
    writer.enumeration("rwsem_waiter_type", ["RWSEM_WAITING_FOR_WRITE", "RWSEM_WAITING_FOR_READ"])
    writer.structure("rt_mutex_waiter", [("task", pointer), ("lock", pointer)])
    types = try TypeTable(writer.writer.bytes, release: "test")
    let symbols = KallsymsWriter(symbols: [
      ("T", "_stext", 0xffff_ffff_9e20_0000), ("t", "rwsem_down_write_slowpath", Self.code),
      ("t", "__mutex_lock", Self.code + 0x100), ("t", "other", Self.code + 0x200), ("t", "end", Self.code + 0x300),
    ])
    reader = try LockReader(types, symbols.decode())
  }

  /// A rwsem that task 1 reads under, for which tasks 0 (to write) and 2 (to read) wait, in this order.
  private func locks(_ change: (inout SyntheticLinux) -> Void = { _ in }) throws -> LockTable {
    var linux = SyntheticLinux()
    let layout = try types.structure("task_struct")
    let (stackField, pointer) = (try layout.field("stack").offset, try layout.field("thread.sp").offset)
    for index in [0, 2] {
      linux.put(Self.stack + UInt64(index) * 0x4000, at: Place.task(index) + UInt64(stackField))
      linux.put(Self.waiter(index) - 0x100, at: Place.task(index) + UInt64(pointer))
      linux.put(Self.code + 0x20, at: Self.waiter(index) - 0x18)
      linux.put(Place.task(index), at: Self.waiter(index) + 16)
      linux.put(index == 2 ? 1 : 0, at: Self.waiter(index) + 24)
    }
    // count: one reader, somebody waits; owner: the reader, and that it is one.
    linux.put(0x102, at: Self.lock)
    linux.put(Place.task(1) | 1, at: Self.lock + 8)
    let ring = [Self.lock + 24, Self.waiter(0), Self.waiter(2)]
    for (index, link) in ring.enumerated() {
      linux.put(ring[(index + 1) % 3], at: link)
      linux.put(ring[(index + 2) % 3], at: link + 8)
    }
    change(&linux)
    let kernel = try Kernel(memory: linux.memory)
    let tasks = try kernel.tasks(TaskQuery(includesThreads: true))
    return reader.read(tasks.tasks, in: kernel.addressSpace)
  }

  @Test func ownerAndWaiters() throws {
    let table = try locks()
    #expect(table.faults.isEmpty && table.locks.count == 1)
    let lock = try #require(table.locks.first)
    #expect(lock.kind == .rwsem && lock.address.rawValue == Self.lock && lock.readers == 1)
    #expect(lock.owner?.tid == 2 && lock.waiters.map(\.tid) == [1, 5])
    #expect(lock.waiters.map(\.wantsToRead) == [false, true])
  }

  /// What looks like a waiter and is none: neighbours that do not lead back, no function that waits, a lock that says that
  /// nobody does.
  @Test(
    arguments: [
      (Self.waiter(0) + 8, Self.lock + 32), (Self.lock + 32, 0), (Self.lock, 0x100),
    ] as [(UInt64, UInt64)])
  func whatIsNoWaiter(place: UInt64, value: UInt64) throws {
    let table = try locks { $0.put(value, at: place) }
    #expect(table.locks.allSatisfy { $0.waiters.count <= 2 } && table.locks.count <= 1)
    if place == Self.lock { #expect(table.locks.isEmpty && table.faults.isEmpty) }
  }

  @Test func functionThatDoesNotWait() throws {
    let table = try locks { linux in
      for index in [0, 2] { linux.put(Self.code + 0x210, at: Self.waiter(index) - 0x18) }
    }
    #expect(table.locks.isEmpty && table.faults.isEmpty)
  }

  @Test func ringsWithoutALock() throws {
    let table = try locks { linux in
      for (link, other) in [(Self.waiter(0), Self.waiter(2)), (Self.waiter(2), Self.waiter(0))] {
        linux.put(other, at: link)
        linux.put(other, at: link + 8)
      }
    }
    #expect(table.locks.isEmpty && table.faults.count == 1)
  }

  @Test(arguments: [0, 8, 0x4000, 0x3f01, .max] as [UInt64])
  func stackPointerThatLiesElsewhere(offset: UInt64) throws {
    let layout = try types.structure("task_struct")
    let place = Place.task(0) + UInt64(try layout.field("thread.sp").offset)
    let table = try locks { $0.put(offset == 0 ? 0 : Self.stack &+ offset, at: place) }
    // Task 2's waiter leads to the lock all the same; task 0's is seen by the way.
    #expect(table.locks.count == 1 || offset == 8)
    #expect(offset == 8 || table.faults.count == 1)
  }

  /// A stack of nothing but pointers to its task and links to itself.
  @Test func stackFullOfWaiters() throws {
    let table = try locks { linux in
      let start = Self.stack
      for word: UInt64 in 0..<2048 { linux.put(word % 3 == 2 ? Place.task(0) : start + word * 8, at: start + word * 8) }
    }
    #expect(table.locks.count <= 1)
  }
}
