import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the trees in which files keep their cached pages.
///
/// They are xarrays whose entries may stand for several pages: a folio takes as many slots as its pages need, the first of
/// them holds it, and the rest are siblings that name the first; where a folio is larger than a slot's share, it lies in a
/// node above the lowest. A slot whose lowest bit is set holds no folio: where a page was swapped to, or that it was
/// evicted. Marks say which pages are dirty or being written back.
/// Source: include/linux/xarray.h, lib/xarray.c; include/linux/fs.h, `PAGECACHE_TAG_DIRTY`.
struct PageCacheTree: Sendable {
  private struct Node: KernelShape {
    static let type = "xa_node"
    let slots = Field<[UInt64]>("slots")
    let shift = Field<UInt64>("shift")
    let marks = Field<[UInt64]>("marks")
  }

  private let node: Bound<Node>

  /// Six bits of the index choose a slot (XA_CHUNK_SHIFT).
  private static let slotCount = 64
  /// A folio of more pages than this is none: 2^20 are 4 GiB.
  private static let largestShift: UInt64 = 18

  init(types: TypeTable) throws(KernelInfoError) {
    node = try Bound(types)
  }

  /// What one or more slots hold.
  struct Entry: Sendable {
    enum Value: Sendable, Equatable {
      /// The folio's first `struct page`.
      case folio(VirtualAddress)
      /// In memory's own file systems where a page was swapped to; in others what is left of one that was evicted.
      case exceptional
    }
    /// In pages from the start of the file.
    var index: UInt64
    var pages: UInt64
    var value: Value
  }

  /// A mark of the page cache, by its number.
  enum Mark: Int, CaseIterable, Sendable {
    case dirty = 0
    case writeback = 1

    /// Whether the flags of an `xarray` say that it has any (XA_FLAGS_MARK).
    func isSet(inFlags flags: UInt64) -> Bool { flags >> UInt64(24 + rawValue) & 1 == 1 }
  }

  /// How many pages below each of `heads` have `mark`. Cost: one batch a level of the deepest tree.
  ///
  /// - Parameter limit: reads no more nodes than this.
  func count(
    of mark: Mark, below heads: [VirtualAddress], in space: AddressSpace, limit: Int
  ) -> (counts: [UInt64], faults: [MemoryFault]) {
    var counts = [UInt64](repeating: 0, count: heads.count)
    var faults: [MemoryFault] = []
    var seen: Set<VirtualAddress> = []
    var level: [(tree: Int, node: VirtualAddress, parentShift: UInt64?)] = []
    for (tree, head) in heads.enumerated() {
      if let node = Self.node(head.rawValue) {
        if seen.insert(node).inserted { level.append((tree, node, nil)) }
      } else if Self.value(head.rawValue) != nil {
        counts[tree] = 1
      }
    }
    while !level.isEmpty {
      var next: [(tree: Int, node: VirtualAddress, parentShift: UInt64?)] = []
      var wrong: [MemoryFault] = []
      space.read(node, at: level.map(\.node)).forEach(&faults) { (node) throws(MemoryFault) in
        let item = level[node.index]
        let (shift, slots) = try Self.checked(node, parent: item.parentShift)
        let marks = try node.marks
        let marked = mark.rawValue < marks.count ? marks[mark.rawValue] : 0
        for (slot, word) in slots.enumerated() where marked >> UInt64(slot) & 1 == 1 {
          if let below = Self.node(word) {
            // The other slots of the node are read all the same.
            if Self.mayDescend(to: below, from: node.address, shift, &seen, limit, &wrong) {
              next.append((item.tree, below, shift))
            }
          } else if Self.value(word) != nil {
            counts[item.tree] &+= try Self.span(of: slot, slots, shift: shift, node: node.address)
          }
        }
      }
      faults += wrong
      level = next
    }
    return (counts, faults)
  }

  /// Calls `body` with the entries below `head`, at most 4096 at a time, until it returns false.
  ///
  /// Every node is read at most once and lies lower than its parent, so that no loop is followed. Cost: a batch for each
  /// 4096 entries.
  ///
  /// - Parameters:
  ///   - limit: reads no more nodes than this.
  ///   - wanted: the pages of the file that are asked for; nodes that hold none of them are not read.
  /// - Returns: why nodes could not be read.
  func forEachPart(
    below head: VirtualAddress, in space: AddressSpace, limit: Int, of wanted: Range<UInt64> = 0..<UInt64.max,
    _ body: ([Entry]) -> Bool
  ) -> [MemoryFault] {
    var faults: [MemoryFault] = []
    guard let root = Self.node(head.rawValue) else {
      if let value = Self.value(head.rawValue) { _ = body([Entry(index: 0, pages: 1, value: value)]) }
      return faults
    }
    var seen: Set<VirtualAddress> = [root]
    // Groups of siblings: at most eleven levels lie on the stack.
    var stack: [(nodes: [(node: VirtualAddress, index: UInt64)], parentShift: UInt64?)] = [([(root, 0)], nil)]
    while let group = stack.popLast() {
      var entries: [Entry] = []
      var below: [(nodes: [(node: VirtualAddress, index: UInt64)], parentShift: UInt64?)] = []
      var wrong: [MemoryFault] = []
      space.read(node, at: group.nodes.map(\.node)).forEach(&faults) { (node) throws(MemoryFault) in
        let (shift, slots) = try Self.checked(node, parent: group.parentShift)
        var children: [(node: VirtualAddress, index: UInt64)] = []
        defer { if !children.isEmpty { below.append((children, shift)) } }
        for (slot, word) in slots.enumerated() {
          let index = group.nodes[node.index].index | UInt64(slot) << shift
          // What a slot stands for ends where the next one begins, but for a folio that takes several.
          guard index < wanted.upperBound else { break }
          if let child = Self.node(word) {
            // The other slots of the node are read all the same.
            let last = index | ((1 << shift) - 1)
            guard last >= wanted.lowerBound else { continue }
            if Self.mayDescend(to: child, from: node.address, shift, &seen, limit, &wrong) {
              children.append((child, index))
            }
          } else if let value = Self.value(word) {
            let pages = try Self.span(of: slot, slots, shift: shift, node: node.address)
            if index &+ pages > wanted.lowerBound { entries.append(Entry(index: index, pages: pages, value: value)) }
          }
        }
      }
      faults += wrong
      if !entries.isEmpty, !body(entries) { return faults }
      stack += below.reversed()
    }
    return faults
  }

  /// The node's shift and slots, where they make sense on its level.
  private static func checked(
    _ node: Reading<Node>, parent: UInt64?
  ) throws(MemoryFault) -> (shift: UInt64, slots: [UInt64]) {
    let (shift, slots) = (try node.shift, try node.slots)
    guard shift < 64, shift % 6 == 0, parent.map({ $0 == shift + 6 }) ?? true else {
      throw MemoryFault(.virtual(node.address), .inconsistent("a node of shift \(shift) on its level of the tree"))
    }
    return (shift, Array(slots.prefix(slotCount)))
  }

  private static func mayDescend(
    to node: VirtualAddress, from parent: VirtualAddress, _ shift: UInt64, _ seen: inout Set<VirtualAddress>,
    _ limit: Int, _ faults: inout [MemoryFault]
  ) -> Bool {
    if shift > 0, seen.count < limit, seen.insert(node).inserted { return true }
    faults.append(MemoryFault(.virtual(parent), .inconsistent("a slot that names a node below, seen, or one too many")))
    return false
  }

  /// How many pages the entry in `slot` stands for: its own share and those of the siblings behind it.
  private static func span(
    of slot: Int, _ slots: [UInt64], shift: UInt64, node: VirtualAddress
  ) throws(MemoryFault) -> UInt64 {
    guard shift <= largestShift else {
      throw MemoryFault(.virtual(node), .inconsistent("a folio of 2^\(shift) pages"))
    }
    let siblings = slots[(slot + 1)...].prefix { $0 == UInt64(slot) << 2 | 2 }
    return UInt64(1 + siblings.count) << shift
  }

  private static func node(_ entry: UInt64) -> VirtualAddress? {
    entry & 3 == 2 && entry > 4096 ? VirtualAddress(entry - 2) : nil
  }

  private static func value(_ entry: UInt64) -> Entry.Value? {
    if entry & 1 == 1 { return .exceptional }
    return entry & 3 == 0 && entry >> 63 == 1 ? .folio(VirtualAddress(entry)) : nil
  }
}
