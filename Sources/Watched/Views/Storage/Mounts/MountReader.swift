import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging
package import TaskViews

/// Reads the mounts of a namespace.
///
/// Source: fs/proc_namespace.c, `show_mountinfo`; fs/pnode.c, `get_dominating_id`.
struct MountReader: KernelReader {
  static let subject = "the mounts"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let namespaces = Field<VirtualAddress>("nsproxy")
    let context = Field<VirtualAddress>("fs")
  }

  private struct Proxy: KernelShape {
    static let type = "nsproxy"
    let mounts = Field<VirtualAddress>("mnt_ns")
  }

  private struct Context: KernelShape {
    static let type = "fs_struct"
    let mount = Field<VirtualAddress>("root.mnt")
    let dentry = Field<VirtualAddress>("root.dentry")
  }

  private struct Namespace: KernelShape {
    static let type = "mnt_namespace"
    // A list before, a tree in the order of unique ids since.
    let mounts = Place("mounts.rb_node", before: "6.8, 2eea9ce4310d", "list")
    let tree = Place(optional: "mounts.rb_node")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let link = Place("mnt_node", before: "6.8, 2eea9ce4310d", "mnt_list")
    let shared = Place("mnt")
    let id = Field<Int32>("mnt_id")
    let parent = Field<VirtualAddress>("mnt_parent")
    let root = Field<VirtualAddress>("mnt.mnt_root")
    let superBlock = Field<VirtualAddress>("mnt.mnt_sb")
    let flags = Field<UInt64>("mnt.mnt_flags")
    let propagation = Field<UInt64>("mnt_t_flags", before: "6.17", "mnt.mnt_flags")
    let ownPropagation = Place(optional: "mnt_t_flags")
    let source = Field<VirtualAddress>("mnt_devname")
    let group = Field<Int32>("mnt_group_id")
    let master = Field<VirtualAddress?>("mnt_master")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev")
    let flags = Field<UInt64>("s_flags")
    let kind = Field<VirtualAddress>("s_type")
    let subtype = Field<VirtualAddress>("s_subtype")
  }

  private struct Kind: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name")
  }

  private let task: Bound<Task>, proxy: Bound<Proxy>, context: Bound<Context>, namespace: Bound<Namespace>
  private let mount: Bound<Mount>
  /// The bits of `propagation` that say so.
  private let shared, unbindable: UInt64
  private let superBlock: Bound<SuperBlock>, kind: Bound<Kind>
  private let tree: RedBlackTree
  private let paths: PathReader

  /// More mounts than a namespace may hold (`sysctl_mount_max` is 100,000).
  private static let limit = 200_000

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, proxy, context, namespace, mount, superBlock, kind) = try types.bind()
    // Flags of their own have bits with names. Before, MNT_SHARED and MNT_UNBINDABLE (include/linux/mount.h).
    let isApart = mount.ownPropagation.isPresent
    shared = isApart ? UInt64(bitPattern: try types.requiredEnumerator("T_SHARED")) : 0x1000
    unbindable = isApart ? UInt64(bitPattern: try types.requiredEnumerator("T_UNBINDABLE")) : 0x2000
    tree = try RedBlackTree(types: types)
    paths = try kernel.reader(PathReader.self)
  }

  /// The mounts that the process of the task at `address` sees.
  func read(task address: VirtualAddress, in space: AddressSpace) throws(MemoryFault) -> MountTable {
    var table = MountTable()
    let own = space.read(task, at: [address])[0]
    let head = try space.read(proxy, at: [own.namespaces])[0].mounts + namespace.mounts.offset
    let context = space.read(context, at: [try own.context])[0]
    let root = FilePath(mount: try context.mount, dentry: try context.dentry)

    let isTree = namespace.tree.isPresent
    let addresses: [VirtualAddress]
    if isTree {
      let found = tree.nodes(root: try space.pointer(at: head), in: space, limit: Self.limit)
      table.faults += found.faults
      addresses = found.nodes.map { $0 - mount.link.offset }
    } else {
      addresses = space.members(of: mount, through: \.link, heads: [head], limit: Self.limit, &table.faults)[0]
    }

    let mounts = space.read(mount, at: addresses)
    // Each mount names others: its parent and its master, which may lie in other namespaces.
    let named = Set(mounts.pointers(\.parent) + mounts.pointers(\.master)).filter { $0.rawValue != 0 }
    let others = Dictionary(
      space.read(mount, at: Array(named)).map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })

    let supers = space.read(superBlock, at: mounts.pointers(\.superBlock))
    let kinds = space.strings(at: space.read(kind, at: supers.pointers(\.kind)).pointers(\.name))
    let subtypes = space.strings(at: supers.pointers(\.subtype))
    let sources = space.strings(at: mounts.pointers(\.source), limit: 4096)
    let tops = mounts.pointers(\.root)
    let roots = paths.names(of: tops.map { FilePath(mount: VirtualAddress(0), dentry: $0) }, in: space)
    let points = paths.names(
      of: zip(mounts, tops).map { FilePath(mount: $0.address(of: \.shared), dentry: $1) }, from: root, in: space)

    var groupsInReach: Set<Int32> = []
    for mount in mounts {
      if let propagation = try? mount.propagation, propagation & shared != 0,
        let point = try? points[mount.index].get(), point.isReachable, let group = try? mount.group
      {
        groupsInReach.insert(group)
      }
    }
    table.mounts = mounts.compactMap(&table.faults) { (mount) throws(MemoryFault) in
      let flags = try mount.flags
      let propagation = try mount.propagation
      // A reader of /proc/PID/mountinfo keeps its place by an entry of its own (MNT_CURSOR).
      if !isTree, flags & 0x1000_0000 != 0 { return nil }
      let point = try points[mount.index].get()
      guard point.isReachable else { return nil }
      let parent = try mount.parent
      let master = try mount.master
      let masterGroup = try master.flatMap { others[$0] }?.group
      let system = supers[mount.index]
      let number = try system.device
      let superFlags = try system.flags
      let subtype = try subtypes[mount.index].get()
      let source = try sources[mount.index].get()
      let group = try mount.group
      let from = master.flatMap { master in
        masterGroup.flatMap { dominating($0, master, groupsInReach, space) }
      }
      return MountPoint(
        id: Int(try mount.id), parentID: Int(try others[parent]?.id ?? 0), major: number >> 20,
        minor: number & 0xfffff, root: try roots[mount.index].get().bytes, mountPoint: point.bytes,
        options: Self.names(flags, Self.mountFlags, readOnly: 0x40),
        sharedGroup: propagation & shared != 0 ? Int(group) : nil, masterGroup: masterGroup.map { Int($0) },
        propagatesFrom: from == masterGroup ? nil : from.map { Int($0) },
        isUnbindable: propagation & unbindable != 0,
        fileSystem: try kinds[mount.index].get() + (subtype.isEmpty ? [] : [UInt8(ascii: ".")] + subtype),
        source: source.isEmpty ? Array("none".utf8) : source,
        superOptions: Self.names(superFlags, Self.superFlagNames, readOnly: 1))
    }
    return table
  }

  /// The first group on the way up from a master that the process can see.
  private func dominating(
    _ group: Int32, _ master: VirtualAddress, _ inReach: Set<Int32>, _ space: AddressSpace
  ) -> Int32? {
    var group = group
    var current = master
    // Masters of masters: as deep as anybody nests containers.
    for _ in 0..<64 {
      if inReach.contains(group) { return group }
      guard let next = try? space.read(mount, at: [current])[0].master,
        let id = try? space.read(mount, at: [next])[0].group
      else { return nil }
      (group, current) = (id, next)
    }
    return nil
  }

  // Macros of include/linux/mount.h and include/linux/fs.h, which BTF does not carry; in the kernel's order.
  private static let mountFlags: [(UInt64, String)] = [
    (0x01, "nosuid"), (0x02, "nodev"), (0x04, "noexec"), (0x08, "noatime"), (0x10, "nodiratime"), (0x20, "relatime"),
    (0x80, "nosymfollow"),
  ]
  private static let superFlagNames: [(UInt64, String)] = [
    (16, "sync"), (128, "dirsync"), (64, "mand"), (1 << 25, "lazytime"),
  ]

  private static func names(_ flags: UInt64, _ table: [(UInt64, String)], readOnly: UInt64) -> [String] {
    [flags & readOnly != 0 ? "ro" : "rw"] + table.filter { flags & $0.0 != 0 }.map(\.1)
  }
}

extension Kernel {
  /// The mounts that a process sees. Cost: about two round trips for each directory on the way to the deepest mount.
  ///
  /// - Parameter pid: the process, in the initial pid namespace.
  /// - Throws: ``KernelError`` also where there is no such process, or it has no mounts since it has ended.
  public func mounts(ofProcess pid: Int32 = 1) throws(KernelError) -> MountTable {
    let task = try process(pid).address
    return try read(with: MountReader.self, about: "the mounts of the task at \(task)") { reader in
      try reader.read(task: task, in: addressSpace)
    }
  }

  /// The task that leads process `pid`.
  package func process(_ pid: Int32) throws(KernelError) -> KernelTask {
    let table = try tasks(TaskQuery(includesCommandLines: false))
    guard let task = table.tasks.first(where: { $0.tgid == pid }) else {
      throw KernelError("process \(pid)", .inconsistent("there is no such process"))
    }
    return task
  }
}
