import Binding
import KernelInfo
public import LinuxKernel
import Memory
import NetworkViews
import Paging
import StorageViews
import TaskViews

/// Finds all namespaces: those of tasks, those of open files and mounts, every network namespace, and what these
/// hang on.
///
/// A file of a namespace is an inode of nsfs, which is in no list; what has it open or mounted is.
/// Source: fs/nsfs.c, `ns_get_path`.
struct NamespaceLister: SettledReader {
  static let subject = "the namespaces"

  private struct FileSystemMount: KernelShape {
    static let type = "vfsmount"
    let superBlock = Field<VirtualAddress>("mnt_sb")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let root = Field<VirtualAddress>("mnt.mnt_root")
  }

  private struct Dentry: KernelShape {
    static let type = "dentry"
    let inode = Field<VirtualAddress>("d_inode")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let superBlock = Field<VirtualAddress>("i_sb")
    let content = Field<VirtualAddress?>("i_private")
  }

  private struct File: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode")
  }

  private struct Common: KernelShape {
    static let type = "ns_common"
    let operations = Field<VirtualAddress>("ops")
  }

  private let members: NamespaceReader
  private let networks: NetworkNamespaceReader
  private let fileSystem: VirtualAddress
  private let fileSystemMount: Bound<FileSystemMount>
  private let mounts: SuperBlockMounts
  private let mount: Bound<Mount>, dentry: Bound<Dentry>, inode: Bound<Inode>, file: Bound<File>
  private let files: OpenFileReader
  private let common: Bound<Common>
  private let kinds: [VirtualAddress: NamespaceKind]

  /// More than any host has.
  private static let most = 1 << 20
  /// User and pid namespaces nest to 32 levels (include/linux/user_namespace.h).
  private static let deepest = 40

  init(kernel: Kernel) throws {
    let types = kernel.types
    members = try kernel.reader()
    networks = try kernel.reader()
    fileSystem = try kernel.symbol("nsfs_mnt", for: Self.self)
    (fileSystemMount, mount, dentry, inode, file, common) = try types.bind()
    mounts = try SuperBlockMounts(types: types)
    files = try kernel.reader()
    var kinds: [VirtualAddress: NamespaceKind] = [:]
    for kind in NamespaceKind.allCases {
      if let address = kernel.symbols.address(of: kind.operations) { kinds[address] = kind }
    }
    self.kinds = kinds
  }

  func read(_ kernel: Kernel) throws -> NamespaceTable {
    let tasks = try kernel.tasks()
    var table = read(tasks.tasks, in: kernel.addressSpace)
    table.faults += tasks.faults
    return table
  }

  private func read(_ tasks: [KernelTask], in space: AddressSpace) -> NamespaceTable {
    var table = NamespaceTable()
    var found: [VirtualAddress: Namespace] = [:]
    let own = members.namespaces(ofTasks: tasks.map(\.address), in: space, &table.faults)
    for (task, namespaces) in zip(tasks, own) {
      for (kind, id) in namespaces {
        var namespace = found[id.address] ?? Namespace(kind: kind, id: id)
        namespace.processes += 1
        if (namespace.first?.tgid ?? .max) > task.tgid { namespace.first = task }
        found[id.address] = namespace
      }
    }
    var open = found.values.map { ($0.kind, $0.id.address) }
    let ofFiles = namespacesOfFiles(tasks, in: space, &table.faults)
    add(ofFiles, to: &found, &open, in: space, &table.faults)
    let networks = networks.read(in: space)
    table.faults += networks.faults
    add(networks.namespaces.map { (.network, $0.address) }, to: &found, &open, in: space, &table.faults)
    // Owners and parents, which may have neither process nor file.
    for _ in 0..<Self.deepest where !open.isEmpty {
      let wave = open
      open = []
      let above = links(of: wave, &found, in: space, &table.faults)
      add(above, to: &found, &open, in: space, &table.faults)
    }
    for (address, namespace) in found {
      guard let owner = namespace.owner else { continue }
      let id = found[owner.address]?.id
      found[address]?.owner = id
    }
    table.namespaces = found.values.sorted { ($0.id.number, $0.id.address) < ($1.id.number, $1.id.address) }
    return table
  }

  private func add(
    _ namespaces: [(NamespaceKind, VirtualAddress)], to found: inout [VirtualAddress: Namespace],
    _ open: inout [(NamespaceKind, VirtualAddress)], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) {
    let new = namespaces.filter { found[$0.1] == nil }
    let numbers = members.numbers(of: new, in: space, &faults)
    for (kind, address) in new {
      guard found[address] == nil, let number = numbers[address] else { continue }
      // A namespace that has just been given back has its number no more.
      guard number != 0 else { continue }
      found[address] = Namespace(kind: kind, id: NamespaceID(address: address, number: number))
      open.append((kind, address))
    }
  }

  /// Those that a file is of: what somebody has open under /proc/PID/ns, or mounted elsewhere.
  private func namespacesOfFiles(
    _ tasks: [KernelTask], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(NamespaceKind, VirtualAddress)] {
    let own = faults.keep { () throws(MemoryFault) in
      try space.read(fileSystemMount, at: [space.pointer(at: fileSystem)])[0].superBlock
    }
    guard let own else { return [] }
    let list = mounts.mounts(of: [own], in: space, limit: Self.most)
    faults += list.faults
    let roots = space.read(mount, at: list.lists.flatMap { $0 }).pointers(\.root)
    let open = Set(files.descriptors(of: tasks, in: space, &faults).map(\.file))
    // A file may be closed while it is looked at.
    let addresses = Set(
      space.read(dentry, at: roots).pointers(\.inode) + space.read(file, at: Array(open)).pointers(\.inode))
    let contents = space.read(inode, at: addresses.filter { $0.rawValue != 0 }.sorted()).compactMap {
      inode -> VirtualAddress? in
      guard let owner = try? inode.superBlock, owner == own else { return nil }
      return try? inode.content
    }
    return space.read(common, at: contents).compactMap(&faults) { (common) throws(MemoryFault) in
      guard let kind = kinds[try common.operations], let layout = members.kinds[kind] else { return nil }
      return (kind, common.address - layout.common.offset)
    }
  }

  /// The owners and parents of `namespaces`, which are noted with them.
  private func links(
    of namespaces: [(NamespaceKind, VirtualAddress)], _ found: inout [VirtualAddress: Namespace],
    in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(NamespaceKind, VirtualAddress)] {
    var result: [(NamespaceKind, VirtualAddress)] = []
    for kind in NamespaceKind.allCases {
      guard let layout = members.kinds[kind] else { continue }
      let addresses = namespaces.filter { $0.0 == kind }.map(\.1)
      space.read(layout, at: addresses).forEach(&faults) { (namespace) throws(MemoryFault) in
        let parent = try namespace.parent
        if let parent { result.append((kind, parent)) }
        let owner = try namespace.owner
        if let owner { result.append((.user, owner)) }
        if let above = kind == .user ? parent : owner {
          // Its number is filled in once it has been read.
          found[namespace.address]?.owner = NamespaceID(address: above, number: 0)
        }
      }
    }
    return result
  }
}

extension Kernel {
  /// The namespaces of all processes, and those that only files, mounts or other namespaces keep.
  ///
  /// Cost: that of all processes, and about ten round trips.
  public func namespaces() throws(KernelError) -> NamespaceTable { try read(NamespaceLister.self) }
}
