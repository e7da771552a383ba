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

  typealias Field = FieldSelection.Field
  private let task: FieldSelection
  private let namespaces, fileSystem: Field
  private let proxy: FieldSelection
  private let mountNamespace: Field
  private let context: FieldSelection
  private let rootMount, rootDentry: Field
  private let listHead: Int?
  private let treeRoot: Int?
  private let link: Int
  private let mountOffset: Int
  private let mount: FieldSelection
  private let id, parent, root, superBlock, flags, propagation, deviceName, group, master: Field
  /// The bits of `propagation` that say so.
  private let shared, unbindable: UInt64
  private let superSelection: FieldSelection
  private let device, superFlags, type, subtype: Field
  private let typeSelection: FieldSelection
  private let typeName: Field
  private let tree: RedBlackTree
  private let paths: PathReader

  /// More mounts than a namespace may hold (`sysctl_mount_max` is 100,000).
  private static let limit = 200_000

  init(kernel: Kernel) throws {
    let types = kernel.types
    var fields = FieldSelection(try types.structure("task_struct"))
    namespaces = try fields.want("nsproxy")
    fileSystem = try fields.want("fs")
    task = fields
    fields = FieldSelection(try types.structure("nsproxy"))
    mountNamespace = try fields.want("mnt_ns")
    proxy = fields
    fields = FieldSelection(try types.structure("fs_struct"))
    rootMount = try fields.want("root.mnt")
    rootDentry = try fields.want("root.dentry")
    context = fields

    let namespace = try types.structure("mnt_namespace")
    let layout = try types.structure("mount")
    // A list until 6.7, a tree in the order of unique ids since.
    if namespace.hasField("mounts.rb_node") {
      treeRoot = try namespace.field("mounts.rb_node").offset
      listHead = nil
      link = try layout.field("mnt_node").offset
    } else {
      listHead = try namespace.field("list").offset
      treeRoot = nil
      link = try layout.field("mnt_list").offset
    }
    mountOffset = try layout.field("mnt").offset
    fields = FieldSelection(layout)
    id = try fields.want("mnt_id")
    parent = try fields.want("mnt_parent")
    root = try fields.want("mnt.mnt_root")
    superBlock = try fields.want("mnt.mnt_sb")
    flags = try fields.want("mnt.mnt_flags")
    // From 6.17 on flags of their own, whose bits have names. Before, MNT_SHARED and MNT_UNBINDABLE (include/linux/mount.h).
    propagation = try fields.want("mnt_t_flags", or: "mnt.mnt_flags")
    let isApart = layout.hasField("mnt_t_flags")
    shared = isApart ? UInt64(bitPattern: try types.requiredEnumerator("T_SHARED")) : 0x1000
    unbindable = isApart ? UInt64(bitPattern: try types.requiredEnumerator("T_UNBINDABLE")) : 0x2000
    deviceName = try fields.want("mnt_devname")
    group = try fields.want("mnt_group_id")
    master = try fields.want("mnt_master")
    mount = fields
    fields = FieldSelection(try types.structure("super_block"))
    device = try fields.want("s_dev")
    superFlags = try fields.want("s_flags")
    type = try fields.want("s_type")
    subtype = try fields.want("s_subtype")
    superSelection = fields
    fields = FieldSelection(try types.structure("file_system_type"))
    typeName = try fields.want("name")
    typeSelection = fields
    tree = try RedBlackTree(types: types)
    paths = try kernel.reader(PathReader.self)
  }

  /// The mounts that the process of `task` sees.
  func read(task address: VirtualAddress, in space: AddressSpace) throws(KernelError) -> MountTable {
    try settled({ $0.faults }) { () throws(KernelError) in
      do throws(MemoryFault) {
        return try attempt(address, in: space)
      } catch {
        throw KernelError("the mounts of the task at \(address)", .memory(error))
      }
    }
  }

  private func attempt(_ address: VirtualAddress, in space: AddressSpace) throws(MemoryFault) -> MountTable {
    var table = MountTable()
    let tasks = space.read(task, at: [address])
    let proxies = space.read(proxy, at: [try tasks.pointer(0, namespaces)])
    let contexts = space.read(context, at: [try tasks.pointer(0, fileSystem)])
    let namespace = try proxies.pointer(0, mountNamespace)
    let rootPath = FilePath(
      mount: try contexts.pointer(0, rootMount), dentry: try contexts.pointer(0, rootDentry))

    let addresses: [VirtualAddress]
    if let listHead {
      let list = ListWalker(space: space, form: .circular, limit: Self.limit).members(ofHeads: [namespace + listHead])
      table.faults += list.faults
      addresses = (list.lists.first ?? []).map { $0 - link }
    } else {
      let bytes = try space.read(namespace + (treeRoot ?? 0), count: 8)
      let top = try ByteReader(bytes.span.bytes).pointer(0)
      let nodes = tree.nodes(root: top, in: space, limit: Self.limit)
      table.faults += nodes.faults
      addresses = nodes.nodes.map { $0 - link }
    }

    let mounts = space.read(mount, at: addresses)
    // Each mount names others: its parent and its master, which may lie in other namespaces.
    var others: [VirtualAddress] = []
    for index in addresses.indices {
      for field in [parent, master] {
        if let other = try? mounts.pointer(index, field), other.rawValue != 0 { others.append(other) }
      }
    }
    others = Array(Set(others))
    let otherReads = space.read(mount, at: others)
    let otherIndex = Dictionary(others.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })

    let supers = space.read(superSelection, at: addresses.indices.map { pointer(mounts, $0, superBlock) })
    let kinds = space.read(typeSelection, at: addresses.indices.map { pointer(supers, $0, type) })
    let typeNames = space.strings(at: addresses.indices.map { pointer(kinds, $0, typeName) })
    let subtypes = space.strings(at: addresses.indices.map { pointer(supers, $0, subtype) })
    let sources = space.strings(at: addresses.indices.map { pointer(mounts, $0, deviceName) }, limit: 4096)
    let roots = paths.names(
      of: addresses.indices.map { FilePath(mount: VirtualAddress(0), dentry: pointer(mounts, $0, root)) }, in: space)
    let points = paths.names(
      of: addresses.indices.map {
        FilePath(mount: addresses[$0] + mountOffset, dentry: pointer(mounts, $0, root))
      }, from: rootPath, in: space)

    var groupsInReach: Set<Int64> = []
    for index in addresses.indices {
      if let propagation = try? mounts.load(index, propagation), propagation & shared != 0,
        let point = try? points[index].get(), point.isReachable, let group = try? mounts.signed(index, group)
      {
        groupsInReach.insert(group)
      }
    }
    for index in addresses.indices {
      do throws(MemoryFault) {
        let flags = try mounts.load(index, flags)
        let propagation = try mounts.load(index, propagation)
        // A reader of /proc/PID/mountinfo keeps its place by an entry of its own (MNT_CURSOR).
        if listHead != nil, flags & 0x1000_0000 != 0 { continue }
        let point = try points[index].get()
        guard point.isReachable else { continue }
        let parent = try mounts.pointer(index, parent)
        let masterAddress = try mounts.pointer(index, master)
        var masterGroup: Int64?
        if masterAddress.rawValue != 0, let other = otherIndex[masterAddress] {
          masterGroup = try otherReads.signed(other, group)
        }
        let number = try supers.load(index, device)
        let superFlags = try supers.load(index, superFlags)
        var kind = try typeNames[index].get()
        let sub = try subtypes[index].get()
        if !sub.isEmpty { kind += [UInt8(ascii: ".")] + sub }
        let source = try sources[index].get()
        let groupID = try mounts.signed(index, group)
        let from = masterGroup.flatMap { dominating($0, masterAddress, groupsInReach, space) }
        table.mounts.append(
          MountPoint(
            id: Int(try mounts.signed(index, id)),
            parentID: try otherIndex[parent].map { other throws(MemoryFault) in
              Int(try otherReads.signed(other, id))
            } ?? 0,
            major: number >> 20, minor: number & 0xfffff, root: try roots[index].get().bytes,
            mountPoint: point.bytes, options: Self.names(flags, Self.mountFlags, readOnly: 0x40),
            sharedGroup: propagation & shared != 0 ? Int(groupID) : nil, masterGroup: masterGroup.map { Int($0) },
            propagatesFrom: from == masterGroup ? nil : from.map { Int($0) },
            isUnbindable: propagation & unbindable != 0, fileSystem: kind,
            source: source.isEmpty ? Array("none".utf8) : source,
            superOptions: Self.names(superFlags, Self.superFlagNames, readOnly: 1)))
      } catch {
        table.faults.append(error)
      }
    }
    return table
  }

  private func pointer(_ reads: StructReads, _ index: Int, _ field: Field) -> VirtualAddress {
    (try? reads.pointer(index, field)) ?? VirtualAddress(0)
  }

  /// The first group on the way up from a master that the process can see.
  private func dominating(
    _ group: Int64, _ master: VirtualAddress, _ inReach: Set<Int64>, _ space: AddressSpace
  ) -> Int64? {
    var group = group
    var current = master
    // Masters of masters: as deep as anybody nests containers.
    for _ in 0..<64 {
      if inReach.contains(group) { return group }
      let reads = space.read(mount, at: [current])
      guard let next = try? reads.pointer(0, self.master), next.rawValue != 0 else { return nil }
      let above = space.read(mount, at: [next])
      guard let id = try? above.signed(0, self.group) else { return nil }
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
    let task = try process(pid)
    return try reader(MountReader.self).read(task: task.address, in: addressSpace)
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
