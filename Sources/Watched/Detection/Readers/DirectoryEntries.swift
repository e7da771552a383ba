import Binding
import KernelInfo
import KernelViews
import Memory

/// Looks names up in the kernel's cache of directory entries, which is where a name is that somebody asked for lately.
///
/// Source: fs/dcache.c; `d_subdirs` and `d_child` until 6.7, `d_children` and `d_sib` since.
struct DirectoryEntries: KernelReader {
  static let subject = "the cache of directory entries"

  private struct Dentry: KernelShape {
    static let type = "dentry"
    let children = Place("d_children", before: "6.8, da549bdd15c2", "d_subdirs")
    let sibling = Place("d_sib", before: "6.8, da549bdd15c2", "d_child")
    let parent = Field<VirtualAddress>("d_parent")
    let name = Field<VirtualAddress>("d_name.name")
    let length = Field<UInt64>("d_name.len")
    let inode = Field<VirtualAddress>("d_inode")
    let isHashed = Field<Bool>("d_hash.pprev")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let size = Field<Int64>("i_size")
  }

  /// A name that leads to a file.
  struct Entry {
    var dentry: VirtualAddress
    var inode: VirtualAddress
    var number: UInt64
    var size: Int64
  }

  private let dentry: Bound<Dentry>, inode: Bound<Inode>
  private let form: ListWalker.Form

  /// Entries of one directory: what has more is looked at as far as that.
  private static let limit = 1 << 16

  init(kernel: Kernel) throws {
    (dentry, inode) = try kernel.types.bind()
    form = try kernel.types.structure("dentry").hasField("d_children") ? .nullTerminated : .circular
  }

  /// The file that `name` leads to in the directory at `directory`; nil where the cache has none.
  ///
  /// Cost: a batch for each entry of the directory, and four more.
  func entry(
    _ name: [UInt8], in directory: VirtualAddress, _ space: AddressSpace
  ) throws(MemoryFault) -> Entry? {
    var faults: [MemoryFault] = []
    let members = space.members(
      of: dentry, through: \.sibling, heads: [directory + dentry.children.offset], form: form, limit: Self.limit,
      &faults)
    var candidates: [(dentry: VirtualAddress, name: VirtualAddress, inode: VirtualAddress)] = []
    space.read(dentry, at: members.first ?? []).forEach(&faults) { (reading) throws(MemoryFault) in
      guard try reading.isHashed, try reading.length == UInt64(name.count) else { return }
      let inode = try reading.inode
      guard inode.rawValue != 0 else { return }
      candidates.append((reading.address, try reading.name, inode))
    }
    for (candidate, text) in zip(candidates, space.strings(at: candidates.map(\.name))) where (try? text.get()) == name
    {
      let found = space.read(inode, at: [candidate.inode])[0]
      return Entry(
        dentry: candidate.dentry, inode: candidate.inode, number: try found.number, size: try found.size)
    }
    // A name that was not found may be what could not be read.
    if let fault = faults.first { throw fault }
    return nil
  }

  /// Whether the name that the removed entry at `removed` had leads to another file now.
  func isReplaced(_ removed: VirtualAddress, _ space: AddressSpace) throws(MemoryFault) -> Bool {
    let old = space.read(dentry, at: [removed])[0]
    let name = try space.strings(at: [try old.name])[0].get()
    return try entry(name, in: try old.parent, space) != nil
  }
}
