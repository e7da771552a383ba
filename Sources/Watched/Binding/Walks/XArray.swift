package import KernelInfo
package import Memory
package import Paging

/// Reads the kernel's xarray (and so its idr and radix tree), level by level.
///
/// An entry whose low bits are `10` and that is above 4096 names a node; a node has 64 slots for 6 bits of the index.
/// Source: include/linux/xarray.h, `xa_is_node`, `xa_to_node`.
package struct XArray: Sendable {
  private let slots: FieldLayout
  private let shift: FieldLayout
  private let nodeSize: Int

  package init(types: TypeTable) throws(KernelInfoError) {
    let node = try types.structure("xa_node")
    slots = try node.field("slots")
    shift = try node.field("shift")
    nodeSize = node.size
  }

  package struct Contents: Sendable {
    /// The pointers stored, level by level.
    package var values: [VirtualAddress] = []
    /// For each pointer, the index under which it is stored.
    package var indices: [UInt64] = []
    /// Nodes that could not be read or contradict the tree, one fault each, and limits that ended the reading.
    package var faults: [MemoryFault] = []
  }

  /// All pointers stored under `head`.
  ///
  /// Every node is read at most once and must lie lower than its parent, so that no loop is followed. Cost: one batch a
  /// level.
  ///
  /// It reads no more values than `limit`, nor more nodes; what is left out then is a fault.
  package func values(head: VirtualAddress, in space: AddressSpace, limit: Int) -> Contents {
    var contents = Contents()
    guard isNode(head.rawValue) else {
      if isPointer(head.rawValue) {
        contents.values.append(head)
        contents.indices.append(0)
      } else if isWild(head.rawValue) {
        contents.faults.append(MemoryFault(.virtual(head), .notCanonical))
      }
      return contents
    }
    var seen: Set<UInt64> = [head.rawValue]
    var level: [(node: UInt64, firstIndex: UInt64)] = [(head.rawValue, 0)]
    var parentShift: UInt64?
    // Six bits of the index choose a slot (XA_CHUNK_SHIFT).
    let slotCount = min(slots.size / 8, 64)
    while !level.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for (node, _) in level { batch.add(VirtualAddress(node - 2), count: nodeSize) }
      space.read(&batch)
      var next: [(node: UInt64, firstIndex: UInt64)] = []
      for (position, (node, firstIndex)) in level.enumerated() {
        let place = MemoryFault.Place.virtual(VirtualAddress(node - 2))
        var wrong: MemoryFault?
        do throws(MemoryFault) {
          let reader = try batch.reader(position)
          let nodeShift = try shift.load(reader)
          // All nodes of one level have one shift, and it falls by 6 a level down to 0.
          guard nodeShift < 64, nodeShift % 6 == 0, parentShift.map({ $0 == nodeShift + 6 }) ?? true else {
            throw MemoryFault(place, .inconsistent("a node of shift \(nodeShift) on its level of the tree"))
          }
          for slot in 0..<slotCount {
            let value = try reader.u64(slots.offset + slot * 8)
            let index = firstIndex | UInt64(slot) << nodeShift
            if isNode(value) {
              if nodeShift == 0 {
                wrong = MemoryFault(place, .inconsistent("a node of the lowest level that names another node"))
              } else if seen.count >= limit {
                contents.faults.append(MemoryFault(place, .inconsistent("a tree of more than \(limit) nodes")))
                return contents
              } else if seen.insert(value).inserted {
                next.append((value, index))
              } else {
                wrong = MemoryFault(place, .inconsistent("a node that names one which the tree holds elsewhere"))
              }
            } else if isPointer(value) {
              guard contents.values.count < limit else {
                contents.faults.append(MemoryFault(place, .inconsistent("a tree of more than \(limit) values")))
                return contents
              }
              contents.values.append(VirtualAddress(value))
              contents.indices.append(index)
            } else if isWild(value) {
              wrong = MemoryFault(place, .inconsistent("a slot whose value is no address of the kernel"))
            }
          }
        } catch {
          wrong = error
        }
        if let wrong { contents.faults.append(wrong) }
      }
      // Only the root's shift comes from the memory.
      parentShift = parentShift.map { $0 &- 6 } ?? (try? shift.load(batch.reader(0)))
      level = next
    }
    return contents
  }

  private func isNode(_ entry: UInt64) -> Bool { entry & 3 == 2 && entry > 4096 }
  /// Kernel pointers have their top bit set; values and internal entries do not pass.
  private func isPointer(_ entry: UInt64) -> Bool { entry & 3 == 0 && entry >> 63 == 1 }
  /// Has a pointer's form, and is none of the kernel's.
  private func isWild(_ entry: UInt64) -> Bool { entry & 3 == 0 && entry != 0 && entry >> 63 == 0 }
}
