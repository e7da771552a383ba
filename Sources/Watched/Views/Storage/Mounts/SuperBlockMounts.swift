import Binding
package import KernelInfo
package import Memory
package import Paging

/// Finds the mounts of file systems, in whatever namespace they are.
///
/// Source: fs/namespace.c, `mnt_add_instance`.
package struct SuperBlockMounts: Sendable {
  /// Where the list starts in a `super_block`.
  private let head: Int
  /// How far the list's links lie from their mounts.
  private let link: Int
  /// How far the pointer to the next mount lies from a link.
  private let next: Int
  private let form: ListWalker.Form

  package init(types: TypeTable) throws(KernelInfoError) {
    head = try types.structure("super_block").field("s_mounts").offset
    let mount = try types.structure("mount")
    // A circular list until 6.17, since then a chain from the file system through its mounts.
    if mount.hasField("mnt_instance") {
      (form, next) = (.circular, 0)
      link = try mount.field("mnt_instance").offset
    } else {
      (form, link) = (.nullTerminated, 0)
      next = try mount.field("mnt_next_for_sb").offset
    }
  }

  /// The mounts of each of `supers`, in their order.
  ///
  /// Cost: one batch for each mount of the file system that has most of them.
  ///
  /// - Parameter limit: no more mounts than this of all together; what is left out then is a fault.
  package func mounts(
    of supers: [VirtualAddress], in space: AddressSpace, limit: Int
  ) -> (lists: [[VirtualAddress]], faults: [MemoryFault]) {
    let members = ListWalker(space: space, form: form, next: next, limit: limit).members(
      ofHeads: supers.map { $0 + head })
    return (members.lists.map { $0.map { $0 - link } }, members.faults)
  }
}
