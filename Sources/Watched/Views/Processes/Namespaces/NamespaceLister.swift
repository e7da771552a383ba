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
struct NamespaceLister: KernelReader {
  static let subject = "the namespaces"

  typealias Field = FieldSelection.Field
  private let members: NamespaceReader
  private let networks: NetworkNamespaceReader
  private let fileSystemMount: VirtualAddress
  private let mount: FieldSelection
  private let superBlock: Field
  private let mounts: SuperBlockMounts
  private let mounted: FieldSelection
  private let mountRoot: Field
  private let dentry: FieldSelection
  private let dentryInode: Field
  private let inode: FieldSelection
  private let inodeSuper, inodeContent: Field
  private let file: FieldSelection
  private let fileInode: Field
  private let files: OpenFileReader
  private let common: FieldSelection
  private let operations: Field
  private let kinds: [VirtualAddress: NamespaceKind]
  /// What each kind names: the user namespace that owns it, and of pid and user namespaces the parent.
  private let links: [NamespaceKind: (selection: FieldSelection, owner: Field?, parent: Field?)]

  /// More than any host has.
  private static let most = 1 << 20
  /// User and pid namespaces nest to 32 levels (include/linux/user_namespace.h).
  private static let deepest = 40

  init(kernel: Kernel) throws {
    let types = kernel.types
    members = try kernel.reader()
    networks = try kernel.reader()
    fileSystemMount = try kernel.symbol("nsfs_mnt", for: Self.self)
    var fields = FieldSelection(try types.structure("vfsmount"))
    superBlock = try fields.want("mnt_sb")
    mount = fields
    mounts = try SuperBlockMounts(types: types)
    fields = FieldSelection(try types.structure("mount"))
    mountRoot = try fields.want("mnt.mnt_root")
    mounted = fields
    fields = FieldSelection(try types.structure("dentry"))
    dentryInode = try fields.want("d_inode")
    dentry = fields
    fields = FieldSelection(try types.structure("inode"))
    inodeSuper = try fields.want("i_sb")
    inodeContent = try fields.want("i_private")
    inode = fields
    fields = FieldSelection(try types.structure("file"))
    fileInode = try fields.want("f_inode")
    file = fields
    files = try kernel.reader()
    fields = FieldSelection(try types.structure("ns_common"))
    operations = try fields.want("ops")
    common = fields
    var kinds: [VirtualAddress: NamespaceKind] = [:]
    var links: [NamespaceKind: (selection: FieldSelection, owner: Field?, parent: Field?)] = [:]
    for kind in NamespaceKind.allCases {
      if let address = kernel.symbols.address(of: kind.operations) { kinds[address] = kind }
      guard let layout = try? types.structure(kind.structure) else { continue }
      var fields = FieldSelection(layout)
      let owner = layout.hasField("user_ns") ? try fields.want("user_ns") : nil
      let parent = layout.hasField("parent") ? try fields.want("parent") : nil
      links[kind] = (fields, owner, parent)
    }
    self.kinds = kinds
    self.links = links
  }

  func read(_ tasks: [KernelTask], in space: AddressSpace) -> NamespaceTable {
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
    let own: VirtualAddress
    do throws(MemoryFault) {
      let bytes = try space.read(fileSystemMount, count: 8)
      own = try space.read(mount, at: [try ByteReader(bytes.span.bytes).pointer(0)]).pointer(0, superBlock)
    } catch {
      faults.append(error)
      return []
    }
    let list = mounts.mounts(of: [own], in: space, limit: Self.most)
    faults += list.faults
    let mounts = space.read(mounted, at: list.lists.first ?? [])
    let roots = space.read(dentry, at: mounts.indices.compactMap { try? mounts.pointer($0, mountRoot) })
    var inodeAddresses = Set(roots.indices.compactMap { try? roots.pointer($0, dentryInode) })
    let open = Set(files.descriptors(of: tasks, in: space, &faults).map(\.file))
    let files = space.read(file, at: Array(open))
    // A file may be closed while it is looked at.
    inodeAddresses.formUnion(files.indices.compactMap { try? files.pointer($0, fileInode) })
    let inodes = space.read(inode, at: inodeAddresses.filter { $0.rawValue != 0 }.sorted())
    let contents = inodes.indices.compactMap { index -> VirtualAddress? in
      guard let owner = try? inodes.pointer(index, inodeSuper), owner == own,
        let content = try? inodes.pointer(index, inodeContent), content.rawValue != 0
      else { return nil }
      return content
    }
    let commons = space.read(common, at: contents)
    var result: [(NamespaceKind, VirtualAddress)] = []
    for index in commons.indices {
      do throws(MemoryFault) {
        guard let kind = kinds[try commons.pointer(index, operations)], let offset = members.commonOffset[kind] else {
          continue
        }
        result.append((kind, contents[index] - offset))
      } catch {
        faults.append(error)
      }
    }
    return result
  }

  /// The owners and parents of `namespaces`, which are noted with them.
  private func links(
    of namespaces: [(NamespaceKind, VirtualAddress)], _ found: inout [VirtualAddress: Namespace],
    in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(NamespaceKind, VirtualAddress)] {
    var result: [(NamespaceKind, VirtualAddress)] = []
    for kind in NamespaceKind.allCases {
      guard let link = links[kind] else { continue }
      let addresses = namespaces.filter { $0.0 == kind }.map(\.1)
      let reads = space.read(link.selection, at: addresses)
      for (index, address) in addresses.enumerated() {
        do throws(MemoryFault) {
          let parent = try link.parent.map { field throws(MemoryFault) in try reads.pointer(index, field) }
          if let parent, parent.rawValue != 0 { result.append((kind, parent)) }
          let owner = try link.owner.map { field throws(MemoryFault) in try reads.pointer(index, field) }
          if let owner, owner.rawValue != 0 { result.append((.user, owner)) }
          if let above = kind == .user ? parent : owner, above.rawValue != 0 {
            // Its number is filled in once it has been read.
            found[address]?.owner = NamespaceID(address: above, number: 0)
          }
        } catch {
          faults.append(error)
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
  public func namespaces() throws(KernelError) -> NamespaceTable {
    let reader = try reader(NamespaceLister.self)
    return try settled({ $0.faults }) { () throws(KernelError) in
      let tasks = try tasks()
      var table = reader.read(tasks.tasks, in: addressSpace)
      table.faults += tasks.faults
      return table
    }
  }
}
