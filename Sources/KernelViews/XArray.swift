import KernelInfo
import Memory
import Paging

/// Reads the kernel's xarray (and so its idr and radix tree), level by level.
///
/// An entry whose low bits are `10` and that is above 4096 names a node; a node has 64 slots for 6 bits of the index.
/// Source: include/linux/xarray.h, `xa_is_node`, `xa_to_node`.
struct XArray: Sendable {
  private let slots: FieldLayout
  private let shift: FieldLayout
  private let nodeSize: Int

  init(types: TypeTable) throws(KernelInfoError) {
    let node = try types.structure("xa_node")
    slots = try node.field("slots")
    shift = try node.field("shift")
    nodeSize = node.size
  }

  struct Contents: Sendable {
    /// The pointers stored, in the order of their indices.
    var values: [VirtualAddress] = []
    /// Nodes that could not be read or contradict the tree.
    var faults: [MemoryFault] = []
  }

  /// All pointers stored under `head`.
  ///
  /// Every node is read at most once and must lie lower than its parent, so that no loop is followed. Cost: one batch a
  /// level.
  ///
  /// - Parameter limit: stops after so many values.
  func values(head: VirtualAddress, in space: AddressSpace, limit: Int) -> Contents {
    var contents = Contents()
    guard isNode(head.rawValue) else {
      if isPointer(head.rawValue) { contents.values.append(head) }
      return contents
    }
    var seen: Set<UInt64> = [head.rawValue]
    var level = [head.rawValue]
    var parentShift: UInt64?
    let slotCount = slots.size / 8
    while !level.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for node in level { batch.add(VirtualAddress(node - 2), count: nodeSize) }
      space.read(&batch)
      var next: [UInt64] = []
      var levelShift: UInt64?
      for (index, node) in level.enumerated() {
        do throws(MemoryFault) {
          let reader = try batch.reader(index)
          let nodeShift = try shift.load(reader)
          // All nodes of one level have one shift, and it falls by 6 a level.
          guard nodeShift < 64, levelShift == nil || levelShift == nodeShift,
            parentShift.map({ $0 == nodeShift + 6 }) ?? true
          else {
            throw MemoryFault(.virtual(VirtualAddress(node)), .badEntry(level: Int(nodeShift / 6), entry: nodeShift))
          }
          levelShift = nodeShift
          for slot in 0..<slotCount {
            let value = try reader.u64(slots.offset + slot * 8)
            if value == 0 { continue }
            if isNode(value) {
              if nodeShift > 0, seen.insert(value).inserted { next.append(value) }
            } else if isPointer(value) {
              guard contents.values.count < limit else { return contents }
              contents.values.append(VirtualAddress(value))
            }
          }
        } catch {
          contents.faults.append(error)
        }
      }
      guard seen.count <= limit else { return contents }
      parentShift = levelShift
      level = next
    }
    return contents
  }

  private func isNode(_ entry: UInt64) -> Bool { entry & 3 == 2 && entry > 4096 }
  /// Kernel pointers have their top bit set; values and internal entries do not pass.
  private func isPointer(_ entry: UInt64) -> Bool { entry & 3 == 0 && entry >> 63 == 1 }
}
