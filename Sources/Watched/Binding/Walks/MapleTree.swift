package import KernelInfo
package import Memory
package import Paging

/// Reads the kernel's maple tree, which maps ranges of numbers to pointers, level by level.
///
/// A node is 256 bytes, aligned to as many; the low bits of a pointer to it say of which kind it is. A node of `n` slots
/// has `n - 1` pivots, the last numbers of their slots; what lies behind the node's own last number is not used.
/// Source: include/linux/maple_tree.h, lib/maple_tree.c, `mte_node_type`, `mas_data_end`.
package struct MapleTree: Sendable {
  private struct Node: Sendable {
    let pivots, slots: FieldLayout
  }

  private let root: FieldLayout
  private let size: Int
  private let range, allocation: Node

  package struct Entry: Sendable {
    package var first: UInt64
    package var last: UInt64
    package var value: VirtualAddress
  }

  package init(types: TypeTable) throws(KernelInfoError) {
    root = try types.structure("maple_tree").field("ma_root")
    let node = try types.structure("maple_node")
    size = node.size
    range = Node(pivots: try node.field("mr64.pivot"), slots: try node.field("mr64.slot"))
    allocation = Node(pivots: try node.field("ma64.pivot"), slots: try node.field("ma64.slot"))
  }

  /// All pointers of the tree at `tree`, in no order.
  ///
  /// Every node is read at most once. Cost: one batch a level.
  ///
  /// It reads no more entries than `limit`, nor more nodes; what is left out then is a fault.
  package func entries(at tree: VirtualAddress, in space: AddressSpace, limit: Int) -> (
    entries: [Entry], faults: [MemoryFault]
  ) {
    var entries: [Entry] = []
    var faults: [MemoryFault] = []
    var level: [(node: UInt64, first: UInt64, last: UInt64)] = []
    do throws(MemoryFault) {
      let bytes = try space.read(tree + root.offset, count: 8)
      let head = try ByteReader(bytes.span.bytes).u64(0)
      if Self.isNode(head) {
        level = [(head, 0, .max)]
      } else if head >> 63 == 1, head & 3 == 0 {
        entries.append(Entry(first: 0, last: 0, value: VirtualAddress(head)))
      }
    } catch {
      faults.append(error)
    }
    var seen = Set(level.map { $0.node & ~255 })
    while !level.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for item in level { batch.add(VirtualAddress(item.node & ~255), count: size) }
      space.read(&batch)
      var next: [(node: UInt64, first: UInt64, last: UInt64)] = []
      for (index, item) in level.enumerated() {
        do throws(MemoryFault) {
          let reader = try batch.reader(index)
          // Of enum maple_type: leaf_64 is 1, range_64 is 2, arange_64 is 3.
          let kind = item.node >> 3 & 15
          guard (1...3).contains(kind) else {
            throw MemoryFault(.virtual(VirtualAddress(item.node)), .inconsistent("a maple node of kind \(kind)"))
          }
          let node = kind == 3 ? allocation : range
          var first = item.first
          for slot in 0..<node.slots.size / 8 {
            var last = slot < node.pivots.size / 8 ? try reader.u64(node.pivots.offset + slot * 8) : item.last
            if last == 0, slot > 0 { last = item.last }
            last = min(last, item.last)
            let value = try reader.u64(node.slots.offset + slot * 8)
            if kind == 1 {
              if value >> 63 == 1, value & 3 == 0 {
                entries.append(Entry(first: first, last: last, value: VirtualAddress(value)))
              }
            } else if value >> 63 == 1, value & 3 == 0 {
              // Only the root's pointer is marked as a node's.
              guard seen.insert(value & ~255).inserted else {
                throw MemoryFault(
                  .virtual(VirtualAddress(item.node)), .inconsistent("a maple node that names one seen before"))
              }
              next.append((value, first, last))
            } else if value != 0 {
              throw MemoryFault(
                .virtual(VirtualAddress(item.node)), .inconsistent("a maple node that names what is no node"))
            }
            guard entries.count < limit, seen.count <= limit else {
              faults.append(MemoryFault(.virtual(tree), .inconsistent("a maple tree of more than \(limit) entries")))
              return (entries, faults)
            }
            if last >= item.last || last < first { break }
            first = last + 1
          }
        } catch {
          faults.append(error)
        }
      }
      level = next
    }
    return (entries, faults)
  }

  private static func isNode(_ entry: UInt64) -> Bool { entry & 3 == 2 && entry > 4096 }
}
