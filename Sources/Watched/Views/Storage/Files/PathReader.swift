package import Binding
import KernelInfo
package import LinuxKernel
package import Memory
package import Paging

/// Makes the names of files, by walking from their entries up to the root, all of them side by side.
///
/// Source: fs/d_path.c, `d_path` and `prepend_path`; for files without a path the functions that their file systems
/// name in `d_dname`.
package struct PathReader: KernelReader {
  package static let subject = "the names of files"

  package typealias Field = FieldSelection.Field
  private let dentry: FieldSelection
  private let parent, nameLength, nameAddress, inode, operations, hashLink, data: Field
  private let inlineName: Field
  private let mount: FieldSelection
  private let mountParent, mountPoint, mountRoot: Field
  package let mountOffset: Int
  private let operationTable: FieldSelection
  private let nameFunction: Field
  private let inodeSelection: FieldSelection
  private let inodeNumber, inodePrivate: Field
  private let namespaceOperations: FieldSelection
  private let namespaceName: Field
  /// Where a namespace's common part names its operations; nil on kernels whose entries do.
  private let namespaceLink: FieldSelection?
  private let namespaceLinkField: Field?
  private let functions: [VirtualAddress: Maker]

  /// What a file system calls its files.
  private enum Maker {
    case numbered(String)
    case named(String)
    case fixed(String)
    /// With a slash, and always as deleted: files that never had a place in a tree.
    case simple
    case namespace
  }

  /// A path has no more parts than PATH_MAX has room for.
  private static let mostParts = 4096
  /// Bytes of all names of one call.
  private static let budget = 64 << 20

  package init(kernel: Kernel) throws {
    let types = kernel.types
    let layout = try types.structure("dentry")
    var fields = FieldSelection(layout)
    parent = try fields.want("d_parent")
    nameLength = try fields.want("d_name.len")
    nameAddress = try fields.want("d_name.name")
    inlineName = try fields.want(layout.hasField("d_iname") ? "d_iname" : "d_shortname")
    inode = try fields.want("d_inode")
    operations = try fields.want("d_op")
    hashLink = try fields.want("d_hash.pprev")
    data = try fields.want("d_fsdata")
    dentry = fields

    let mountLayout = try types.structure("mount")
    mountOffset = try mountLayout.field("mnt").offset
    fields = FieldSelection(mountLayout)
    mountParent = try fields.want("mnt_parent")
    mountPoint = try fields.want("mnt_mountpoint")
    mountRoot = try fields.want("mnt.mnt_root")
    mount = fields

    fields = FieldSelection(try types.structure("dentry_operations"))
    nameFunction = try fields.want("d_dname")
    operationTable = fields
    fields = FieldSelection(try types.structure("inode"))
    inodeNumber = try fields.want("i_ino")
    inodePrivate = try fields.want("i_private")
    inodeSelection = fields

    fields = FieldSelection(try types.structure("proc_ns_operations"))
    namespaceName = try fields.want("name")
    namespaceOperations = fields
    // Since 6.9 the entry of a namespace's file no longer names its operations: its inode leads to them.
    if kernel.symbols.address(of: "pidfs_dname") != nil || kernel.symbols.address(of: "stashed_dentry_prune") != nil {
      fields = FieldSelection(try types.structure("ns_common"))
      namespaceLinkField = try fields.want("ops")
      namespaceLink = fields
    } else {
      namespaceLink = nil
      namespaceLinkField = nil
    }

    let makers: [(String, Maker)] = [
      ("pipefs_dname", .numbered("pipe")), ("sockfs_dname", .numbered("socket")),
      ("anon_inodefs_dname", .named("anon_inode:")), ("pidfs_dname", .fixed("anon_inode:[pidfd]")),
      ("dmabuffs_dname", .named("/dmabuf:")), ("simple_dname", .simple), ("ns_dname", .namespace),
    ]
    var functions: [VirtualAddress: Maker] = [:]
    for (symbol, maker) in makers {
      for address in kernel.symbols.addresses(of: symbol) { functions[address] = maker }
    }
    self.functions = functions
  }

  private struct Entry {
    var parent: VirtualAddress
    var name: [UInt8]
    var inode: VirtualAddress
    var operations: VirtualAddress
    var data: VirtualAddress
    var isHashed: Bool
  }

  private struct MountEntry {
    /// The `vfsmount` of the parent; its own for the topmost.
    var parent: VirtualAddress
    var mountPoint: VirtualAddress
    var root: VirtualAddress
  }

  /// What was read so far.
  private struct Known {
    var entries: [VirtualAddress: Result<Entry, MemoryFault>] = [:]
    var mounts: [VirtualAddress: Result<MountEntry, MemoryFault>] = [:]
  }

  private struct Walk {
    var index: Int
    var at: FilePath
    var parts: [[UInt8]] = []
  }

  /// The names of the files at `paths`, as seen from `root`, or from the topmost mount where that is nil. A path without
  /// a mount is followed up to its file system's root alone.
  ///
  /// Cost: about two round trips a level of the deepest path, however many there are.
  package func names(
    of paths: [FilePath], from root: FilePath? = nil, in space: AddressSpace
  ) -> [Result<FileName, MemoryFault>] {
    var known = Known()
    var results = [Result<FileName, MemoryFault>?](repeating: nil, count: paths.count)
    load(entries: paths.map(\.dentry), mounts: paths.map(\.mount), into: &known, in: space)
    makeSpecialNames(of: paths, known, &results, in: space)

    var spent = 0
    var walks = paths.indices.filter { results[$0] == nil }.map { Walk(index: $0, at: paths[$0]) }
    while !walks.isEmpty {
      var waiting: [Walk] = []
      for var walk in walks {
        do throws(MemoryFault) {
          let end = try advance(&walk, from: root, known, &spent)
          if let end {
            results[walk.index] = .success(try finished(walk, end, paths[walk.index], known))
          } else {
            waiting.append(walk)
          }
        } catch {
          results[walk.index] = .failure(error)
        }
      }
      load(entries: waiting.map(\.at.dentry), mounts: waiting.map(\.at.mount), into: &known, in: space)
      walks = waiting
    }
    return results.map { $0 ?? .success(FileName(bytes: [])) }
  }

  /// How a walk ended.
  private enum End { case atRoot, elsewhere }

  /// Goes up as far as what is known allows; nil where more has to be read.
  private func advance(
    _ walk: inout Walk, from root: FilePath?, _ known: Known, _ spent: inout Int
  ) throws(MemoryFault) -> End? {
    while true {
      if let root, walk.at == root { return .atRoot }
      guard let entry = try known.entries[walk.at.dentry]?.get() else { return nil }
      if walk.at.mount.rawValue != 0 {
        guard let mount = try known.mounts[walk.at.mount]?.get() else { return nil }
        if walk.at.dentry == mount.root {
          if mount.parent == walk.at.mount { return root == nil ? .atRoot : .elsewhere }
          walk.at = FilePath(mount: mount.parent, dentry: mount.mountPoint)
          // Mounts on mounts form no ring, and each counts as a part.
          walk.parts.append([])
          try check(walk, &spent)
          continue
        }
      }
      if entry.parent == walk.at.dentry { return walk.at.mount.rawValue == 0 ? .atRoot : .elsewhere }
      walk.parts.append(entry.name)
      try check(walk, &spent)
      walk.at.dentry = entry.parent
    }
  }

  private func check(_ walk: Walk, _ spent: inout Int) throws(MemoryFault) {
    spent += (walk.parts.last?.count ?? 0) + 16
    guard walk.parts.count <= Self.mostParts, spent <= Self.budget else {
      throw MemoryFault(.virtual(walk.at.dentry), .inconsistent("a path of more parts than any file has"))
    }
  }

  private func finished(_ walk: Walk, _ end: End, _ path: FilePath, _ known: Known) throws(MemoryFault) -> FileName {
    var bytes: [UInt8] = []
    for part in walk.parts.reversed() where !part.isEmpty { bytes += [UInt8(ascii: "/")] + part }
    let entry = try known.entries[path.dentry]?.get()
    let isRoot = entry?.parent == path.dentry
    return FileName(
      bytes: bytes.isEmpty ? [UInt8(ascii: "/")] : bytes, isDeleted: !isRoot && entry?.isHashed == false,
      isReachable: end == .atRoot)
  }

  // MARK: Reading

  private func load(
    entries: [VirtualAddress], mounts: [VirtualAddress], into known: inout Known, in space: AddressSpace
  ) {
    let newMounts = Array(Set(mounts.filter { $0.rawValue != 0 && known.mounts[$0] == nil }))
    var newEntries = Array(Set(entries.filter { known.entries[$0] == nil }))
    let mountReads = space.read(mount, at: newMounts.map { $0 - mountOffset })
    for (index, address) in newMounts.enumerated() {
      do throws(MemoryFault) {
        let parent = try mountReads.pointer(index, mountParent) + mountOffset
        let found = MountEntry(
          parent: parent, mountPoint: try mountReads.pointer(index, mountPoint),
          root: try mountReads.pointer(index, mountRoot))
        known.mounts[address] = .success(found)
        // Where a walk goes next if it stands at the mount's root.
        if parent != address, known.entries[found.mountPoint] == nil { newEntries.append(found.mountPoint) }
      } catch {
        known.mounts[address] = .failure(error)
      }
    }
    newEntries = Array(Set(newEntries))
    let reads = space.read(dentry, at: newEntries)
    var outside: [(index: Int, entry: Entry, address: VirtualAddress, count: Int)] = []
    for (index, address) in newEntries.enumerated() {
      do throws(MemoryFault) {
        let length = Int(clamping: try reads.load(index, nameLength))
        let name = try reads.pointer(index, nameAddress)
        var entry = Entry(
          parent: try reads.pointer(index, parent), name: [], inode: try reads.pointer(index, inode),
          operations: try reads.pointer(index, operations), data: try reads.pointer(index, data),
          isHashed: try reads.load(index, hashLink) != 0)
        if name == address + inlineName.offset {
          entry.name = Array(try reads.string(index, inlineName).prefix(length))
          known.entries[address] = .success(entry)
        } else {
          guard length <= Self.mostParts else {
            throw MemoryFault(.virtual(address), .inconsistent("a file's name of \(length) bytes"))
          }
          outside.append((index, entry, name, length))
        }
      } catch {
        known.entries[address] = .failure(error)
      }
    }
    guard !outside.isEmpty else { return }
    var batch = ReadBatch<VirtualAddress>()
    for name in outside { batch.add(name.address, count: name.count) }
    space.read(&batch)
    for (position, name) in outside.enumerated() {
      var entry = name.entry
      do throws(MemoryFault) {
        entry.name = try batch.reader(position).cString(0)
        known.entries[newEntries[name.index]] = .success(entry)
      } catch {
        known.entries[newEntries[name.index]] = .failure(error)
      }
    }
  }

  /// The names that file systems make up: of files that `d_path` does not walk from.
  private func makeSpecialNames(
    of paths: [FilePath], _ known: Known, _ results: inout [Result<FileName, MemoryFault>?], in space: AddressSpace
  ) {
    var tables: Set<VirtualAddress> = []
    var candidates: [(index: Int, entry: Entry)] = []
    for (index, path) in paths.enumerated() {
      guard path.mount.rawValue != 0, case .success(let entry)? = known.entries[path.dentry],
        entry.operations.rawValue != 0
      else { continue }
      // A root that is mounted somewhere has a path.
      if entry.parent == path.dentry, let mount = try? known.mounts[path.mount]?.get(), mount.root == path.dentry {
        continue
      }
      tables.insert(entry.operations)
      candidates.append((index, entry))
    }
    let tableList = Array(tables)
    let tableReads = space.read(operationTable, at: tableList)
    var functionOf: [VirtualAddress: VirtualAddress] = [:]
    for (index, table) in tableList.enumerated() {
      if let function = try? tableReads.pointer(index, nameFunction), function.rawValue != 0 {
        functionOf[table] = function
      }
    }
    candidates.removeAll { functionOf[$0.entry.operations] == nil }
    let inodes = space.read(inodeSelection, at: candidates.map(\.entry.inode))
    var namespaces: [(index: Int, number: UInt64, operations: VirtualAddress)] = []
    for (position, candidate) in candidates.enumerated() {
      let entry = candidate.entry
      do throws(MemoryFault) {
        let number = try inodes.load(position, inodeNumber)
        let function = functionOf[entry.operations] ?? VirtualAddress(0)
        var name: FileName
        switch functions[function] {
        case .numbered(let word)?: name = FileName(bytes: Array("\(word):[\(number)]".utf8))
        case .named(let word)?: name = FileName(bytes: Array(word.utf8) + entry.name)
        case .fixed(let text)?: name = FileName(bytes: Array(text.utf8))
        case .simple?: name = FileName(bytes: [UInt8(ascii: "/")] + entry.name, isDeleted: true)
        case .namespace?:
          namespaces.append(
            (candidate.index, number, namespaceLink == nil ? entry.data : try inodes.pointer(position, inodePrivate)))
          continue
        // A file system of a module that is not known here: its number, and the name that the entry itself has.
        case nil: name = FileName(bytes: entry.name + Array(":[\(number)]".utf8))
        }
        name.isReachable = false
        results[candidate.index] = .success(name)
      } catch {
        results[candidate.index] = .failure(error)
      }
    }
    guard !namespaces.isEmpty else { return }
    var operations = namespaces.map(\.operations)
    if let namespaceLink, let namespaceLinkField {
      let links = space.read(namespaceLink, at: operations)
      operations = operations.indices.map { (try? links.pointer($0, namespaceLinkField)) ?? VirtualAddress(0) }
    }
    let names = space.read(namespaceOperations, at: operations)
    let texts = space.strings(
      at: operations.indices.map { (try? names.pointer($0, namespaceName)) ?? VirtualAddress(0) }, limit: 64)
    for (position, namespace) in namespaces.enumerated() {
      results[namespace.index] = texts[position].map {
        FileName(bytes: $0 + Array(":[\(namespace.number)]".utf8), isReachable: false)
      }
    }
  }
}
