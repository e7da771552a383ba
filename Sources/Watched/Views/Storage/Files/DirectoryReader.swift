import Binding
import KernelInfo
package import LinuxKernel
package import Memory
package import Paging

/// Reads directories as far as the kernel has their entries in memory: those of file systems in memory whole, of others what was looked
/// up and not yet forgotten.
///
/// An entry counts only below the directory that it names as its parent: so no path of entries leads back to where it began, whatever
/// the memory says.
///
/// Source: include/linux/dcache.h; fs/libfs.c, `dcache_readdir`; fs/mount.h.
package struct DirectoryReader: KernelReader {
  package static let subject = "directories"

  private struct Dentry: KernelShape {
    static let type = "dentry"
    let parent = Field<VirtualAddress>("d_parent"), inode = Field<VirtualAddress>("d_inode")
    let nameLength = Field<UInt32>("d_name.len"), nameAddress = Field<VirtualAddress>("d_name.name")
    let inlineName = Field<[UInt8]>("d_shortname", before: "6.14, 58cf9c383c5c", "d_iname")
    let isHashed = Field<Bool>("d_hash.pprev")
    let children = Place("d_children", before: "6.8, da549bdd15c2", "d_subdirs")
    let sibling = Place("d_sib", before: "6.8, da549bdd15c2", "d_child")
    let isChain = Place(optional: "d_sib")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino"), mode = Field<UInt16>("i_mode")
    let uid = Field<UInt32>("i_uid.val"), gid = Field<UInt32>("i_gid.val"), links = Field<UInt32>("i_nlink")
    let size = Field<Int64>("i_size"), blocks = Field<UInt64>("i_blocks"), blockBits = Field<UInt8>("i_blkbits")
    let rawDevice = Field<UInt32>("i_rdev")
    let superBlock = Field<VirtualAddress>("i_sb"), link = Field<VirtualAddress>("i_link")
    let accessed = Field<Int64>("i_atime_sec", before: "6.11", "__i_atime.tv_sec", before: "6.7", "i_atime.tv_sec")
    let accessedNanoseconds = Field<UInt32>(
      "i_atime_nsec", before: "6.11", "__i_atime.tv_nsec", before: "6.7", "i_atime.tv_nsec")
    let modified = Field<Int64>("i_mtime_sec", before: "6.11", "__i_mtime.tv_sec", before: "6.7", "i_mtime.tv_sec")
    let modifiedNanoseconds = Field<UInt32>(
      "i_mtime_nsec", before: "6.11", "__i_mtime.tv_nsec", before: "6.7", "i_mtime.tv_nsec")
    let changed = Field<Int64>("i_ctime_sec", before: "6.11", "__i_ctime.tv_sec", before: "6.6", "i_ctime.tv_sec")
    let changedNanoseconds = Field<UInt32>(
      "i_ctime_nsec", before: "6.11", "__i_ctime.tv_nsec", before: "6.6", "i_ctime.tv_nsec")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let shared = Place("mnt"), children = Place("mnt_mounts"), child = Place("mnt_child")
    let parent = Field<VirtualAddress>("mnt_parent"), mountPoint = Field<VirtualAddress>("mnt_mountpoint")
    let root = Field<VirtualAddress>("mnt.mnt_root")
  }

  private let dentry: Bound<Dentry>, inode: Bound<Inode>, mount: Bound<Mount>

  package init(kernel: Kernel) throws {
    (dentry, inode, mount) = try kernel.types.bind()
  }

  package struct Entry: Sendable {
    package var name: [UInt8]
    /// The address of its `dentry`.
    package var dentry: VirtualAddress
    package var status: InodeStatus
  }

  /// No name is longer (NAME_MAX).
  private static let longestName = 255

  // MARK: Entries

  /// The entries of the directory whose `dentry` is at `directory`, in no order.
  ///
  /// Cost: a round trip for each page that the links between them lie in, and three more.
  package func entries(
    of directory: VirtualAddress, in space: AddressSpace
  ) -> (entries: [Entry], faults: [MemoryFault]) {
    var faults: [MemoryFault] = []
    let form: ListWalker.Form = dentry.isChain.isPresent ? .nullTerminated : .circular
    let members = space.members(
      of: dentry, through: \.sibling, heads: [directory + dentry.children.offset], form: form,
      limit: space.mostObjects(ofSize: dentry.size), &faults)[0]
    let found = space.read(dentry, at: members).compactMap(&faults) {
      (item) throws(MemoryFault) -> (dentry: Reading<Dentry>, inode: VirtualAddress)? in
      // Names that stand for nothing, that were removed, and places of who reads the directory.
      guard try item.inode.rawValue != 0, try item.isHashed else { return nil }
      guard item.address != directory, try item.parent == directory else {
        throw MemoryFault(.virtual(item.address), .inconsistent("an entry of another directory"))
      }
      return (item, try item.inode)
    }
    let names = names(of: found.map(\.dentry), in: space)
    let inodes = status(of: found.map(\.inode), in: space)
    var entries: [Entry] = []
    for (index, item) in found.enumerated() {
      faults.keep { () throws(MemoryFault) in
        entries.append(
          Entry(name: try names[index].get(), dentry: item.dentry.address, status: try inodes[index].get()))
      }
    }
    return (entries, faults)
  }

  private func names(of dentries: [Reading<Dentry>], in space: AddressSpace) -> [Result<[UInt8], MemoryFault>] {
    var batch = ReadBatch<VirtualAddress>()
    var entries: [Int?] = []
    for item in dentries {
      let place = (try? item.nameAddress) ?? VirtualAddress(0)
      let length = Int((try? item.nameLength) ?? 0)
      let isOutside = place != item.address + item.shape.inlineName.offset && (1...Self.longestName).contains(length)
      entries.append(isOutside ? batch.add(place, count: length) : nil)
    }
    if !batch.entries.isEmpty { space.read(&batch) }
    return zip(dentries, entries).map { item, entry in
      Result { () throws(MemoryFault) in
        let length = Int(try item.nameLength)
        guard (1...Self.longestName).contains(length) else {
          throw MemoryFault(.virtual(item.address), .inconsistent("a name of \(length) bytes"))
        }
        if let entry { return try batch.reader(entry).copy() }
        return Array(try item.inlineName.prefix(length))
      }
    }
  }

  /// The inodes at `addresses`.
  ///
  /// Cost: one batch.
  package func status(
    of addresses: [VirtualAddress], in space: AddressSpace
  ) -> [Result<InodeStatus, MemoryFault>] {
    space.read(inode, at: addresses).results { (inode) throws(MemoryFault) in
      let mode = try inode.mode
      return InodeStatus(
        address: inode.address, number: try inode.number, mode: mode, uid: try inode.uid, gid: try inode.gid,
        links: try inode.links, size: UInt64(max(0, try inode.size)), blocks: try inode.blocks,
        blockSize: 1 << min(30, UInt64(try inode.blockBits)), rawDevice: UInt64(try inode.rawDevice),
        accessed: Self.time(try inode.accessed, try inode.accessedNanoseconds),
        modified: Self.time(try inode.modified, try inode.modifiedNanoseconds),
        changed: Self.time(try inode.changed, try inode.changedNanoseconds), superBlock: try inode.superBlock,
        linkTarget: mode >> 12 == InodeStatus.Kind.link.rawValue ? try inode.link : VirtualAddress(0))
    }
  }

  /// The highest bit says that somebody asked for it (I_CTIME_QUERIED, since 6.13).
  private static func time(_ seconds: Int64, _ nanoseconds: UInt32) -> InodeStatus.Time {
    InodeStatus.Time(seconds: seconds, nanoseconds: min(999_999_999, nanoseconds & 0x7fff_ffff))
  }

  /// The inode to which the `dentry` at each of `addresses` belongs.
  ///
  /// Cost: two batches.
  package func status(
    ofEntries addresses: [VirtualAddress], in space: AddressSpace
  ) -> [Result<InodeStatus, MemoryFault>] {
    status(of: space.read(dentry, at: addresses).pointers(\.inode), in: space)
  }

  // MARK: Mounts

  /// More mounts than a namespace may hold (`sysctl_mount_max` is 100,000).
  private static let mostMounts = 200_000

  /// What is mounted below the `vfsmount` at `top`: by the place that it covers, the place that is seen there instead.
  ///
  /// Each mount is found once, so that they form a tree. Cost: some round trips a level.
  package func mounts(
    below top: VirtualAddress, in space: AddressSpace
  ) -> (covers: [FilePath: FilePath], faults: [MemoryFault]) {
    var (covers, faults): ([FilePath: FilePath], [MemoryFault]) = ([:], [])
    var seen: Set<VirtualAddress> = [top - mount.shared.offset]
    var level = [top - mount.shared.offset]
    while !level.isEmpty {
      let lists = space.members(
        of: mount, through: \.child, heads: level.map { $0 + mount.children.offset }, limit: Self.mostMounts, &faults)
      let parents = zip(level, lists).flatMap { parent, list in list.map { _ in parent } }
      var next: [VirtualAddress] = []
      space.read(mount, at: lists.flatMap { $0 }).forEach(&faults) { (item) throws(MemoryFault) in
        guard try item.parent == parents[item.index], seen.count < Self.mostMounts, seen.insert(item.address).inserted
        else {
          throw MemoryFault(.virtual(item.address), .inconsistent("a mount of another parent, or one too many"))
        }
        let place = FilePath(mount: try item.parent + mount.shared.offset, dentry: try item.mountPoint)
        covers[place] = FilePath(mount: item.address(of: \.shared), dentry: try item.root)
        next.append(item.address)
      }
      level = next
    }
    return (covers, faults)
  }
}
