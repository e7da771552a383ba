import Binding
package import KernelInfo
package import Memory
package import Paging

/// Finds the mounts of file systems, in whatever namespace they are.
///
/// Source: fs/namespace.c, `mnt_add_instance`.
package struct SuperBlockMounts: Sendable {
  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let mounts = Place("s_mounts")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    // A circular list until 6.17, since then a chain from the file system through its mounts.
    let next = Place("mnt_next_for_sb", before: "6.17", "mnt_instance")
    let link = Place(optional: "mnt_instance")
  }

  private let superBlock: Bound<SuperBlock>, mount: Bound<Mount>

  package init(types: TypeTable) throws(KernelInfoError) {
    (superBlock, mount) = try types.bind()
  }

  /// The mounts of each of `supers`, in their order.
  ///
  /// Cost: one batch for each mount of the file system that has most of them.
  ///
  /// - Parameter limit: no more mounts than this of all together; what is left out then is a fault.
  package func mounts(
    of supers: [VirtualAddress], in space: AddressSpace, limit: Int
  ) -> (lists: [[VirtualAddress]], faults: [MemoryFault]) {
    let heads = supers.map { $0 + superBlock.mounts.offset }
    var faults: [MemoryFault] = []
    if mount.link.isPresent {
      return (space.members(of: mount, through: \.link, heads: heads, limit: limit, &faults), faults)
    }
    let walker = ListWalker(space: space, form: .nullTerminated, next: mount.next.offset, limit: limit)
    let chains = walker.members(ofHeads: heads)
    return (chains.lists, chains.faults)
  }
}
