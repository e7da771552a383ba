import Binding
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

  private struct Dentry: KernelShape {
    static let type = "dentry"
    let parent = Field<VirtualAddress>("d_parent")
    let nameLength = Field<UInt64>("d_name.len")
    let nameAddress = Field<VirtualAddress>("d_name.name")
    let inlineName = Field<[UInt8]>("d_shortname", before: "6.14, 58cf9c383c5c", "d_iname")
    let inode = Field<VirtualAddress>("d_inode")
    let operations = Field<VirtualAddress?>("d_op")
    let isHashed = Field<Bool>("d_hash.pprev")
    let data = Field<VirtualAddress>("d_fsdata")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let shared = Place("mnt")
    let parent = Field<VirtualAddress>("mnt_parent")
    let mountPoint = Field<VirtualAddress>("mnt_mountpoint")
    let root = Field<VirtualAddress>("mnt.mnt_root")
  }

  private struct Operations: KernelShape {
    static let type = "dentry_operations"
    let name = Field<VirtualAddress>("d_dname")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let content = Field<VirtualAddress>("i_private")
  }

  private struct Namespace: KernelShape {
    static let type = "ns_common"
    let operations = Field<VirtualAddress>("ops")
  }

  private struct NamespaceOperations: KernelShape {
    static let type = "proc_ns_operations"
    let name = Field<VirtualAddress>("name")
  }

  private let dentry: Bound<Dentry>, mount: Bound<Mount>, operationTable: Bound<Operations>, inode: Bound<Inode>
  /// Names a namespace's operations; nil on kernels where the entries of namespaces' files do, until 6.8.
  private let namespace: Bound<Namespace>?
  private let namespaceOperations: Bound<NamespaceOperations>
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
    (dentry, mount, operationTable, inode, namespaceOperations) = try types.bind()
    let hasLink = ["pidfs_dname", "stashed_dentry_prune"].contains { kernel.symbols.address(of: $0) != nil }
    namespace = hasLink ? try Bound(types) : nil

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
    var operations: VirtualAddress?
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
    var newEntries = entries
    for mount in space.read(mount, at: newMounts.map { $0 - mount.shared.offset }) {
      let address = mount.address(of: \.shared)
      let found = Result { () throws(MemoryFault) in
        MountEntry(
          parent: try mount.parent + mount.shape.shared.offset, mountPoint: try mount.mountPoint,
          root: try mount.root)
      }
      known.mounts[address] = found
      // Where a walk goes next if it stands at the mount's root.
      if case .success(let found) = found, found.parent != address { newEntries.append(found.mountPoint) }
    }
    var outside: [(entry: Entry, dentry: VirtualAddress)] = []
    var names = ReadBatch<VirtualAddress>()
    let wanted = Set(newEntries).filter { known.entries[$0] == nil }
    for dentry in space.read(dentry, at: Array(wanted)) {
      known.entries[dentry.address] = Result { () throws(MemoryFault) in
        let length = Int(clamping: try dentry.nameLength)
        let name = try dentry.nameAddress
        var entry = Entry(
          parent: try dentry.parent, name: [], inode: try dentry.inode, operations: try dentry.operations,
          data: try dentry.data, isHashed: try dentry.isHashed)
        if name == dentry.address + dentry.shape.inlineName.offset {
          entry.name = Array(try dentry.inlineName.prefix(length))
        } else if length <= Self.mostParts {
          outside.append((entry, dentry.address))
          names.add(name, count: length)
        } else {
          throw MemoryFault(.virtual(dentry.address), .inconsistent("a file's name of \(length) bytes"))
        }
        return entry
      }
    }
    guard !outside.isEmpty else { return }
    space.read(&names)
    for (position, (entry, address)) in outside.enumerated() {
      known.entries[address] = Result { () throws(MemoryFault) in
        var entry = entry
        entry.name = try names.reader(position).cString(0)
        return entry
      }
    }
  }

  /// The names that file systems make up: of files that `d_path` does not walk from.
  private func makeSpecialNames(
    of paths: [FilePath], _ known: Known, _ results: inout [Result<FileName, MemoryFault>?], in space: AddressSpace
  ) {
    var candidates: [(index: Int, entry: Entry, operations: VirtualAddress)] = []
    for (index, path) in paths.enumerated() {
      guard path.mount.rawValue != 0, case .success(let entry)? = known.entries[path.dentry],
        let operations = entry.operations
      else { continue }
      // A root that is mounted somewhere has a path.
      if entry.parent == path.dentry, let mount = try? known.mounts[path.mount]?.get(), mount.root == path.dentry {
        continue
      }
      candidates.append((index, entry, operations))
    }
    let tables = space.read(operationTable, at: Array(Set(candidates.map(\.operations))))
    let functionOf = Dictionary(zip(tables.addresses, tables.pointers(\.name)), uniquingKeysWith: { first, _ in first })
      .filter { $1.rawValue != 0 }
    candidates.removeAll { functionOf[$0.operations] == nil }
    var namespaces: [(index: Int, number: UInt64, operations: VirtualAddress)] = []
    for (candidate, inode) in zip(candidates, space.read(inode, at: candidates.map(\.entry.inode))) {
      let entry = candidate.entry
      results[candidate.index] = Result { () throws(MemoryFault) in
        let number = try inode.number
        var name = FileName(bytes: [])
        switch functionOf[candidate.operations].flatMap({ functions[$0] }) {
        case .numbered(let word)?: name.bytes = Array("\(word):[\(number)]".utf8)
        case .named(let word)?: name.bytes = Array(word.utf8) + entry.name
        case .fixed(let text)?: name.bytes = Array(text.utf8)
        case .simple?: name = FileName(bytes: [UInt8(ascii: "/")] + entry.name, isDeleted: true)
        // Its name is made below.
        case .namespace?:
          namespaces.append((candidate.index, number, namespace == nil ? entry.data : try inode.content))
        // A file system of a module that is not known here: its number, and the name that the entry itself has.
        case nil: name.bytes = entry.name + Array(":[\(number)]".utf8)
        }
        name.isReachable = false
        return name
      }
    }
    guard !namespaces.isEmpty else { return }
    var operations = namespaces.map(\.operations)
    if let namespace { operations = space.read(namespace, at: operations).pointers(\.operations) }
    let texts = space.strings(at: space.read(namespaceOperations, at: operations).pointers(\.name), limit: 64)
    for (namespace, text) in zip(namespaces, texts) {
      results[namespace.index] = text.map {
        FileName(bytes: $0 + Array(":[\(namespace.number)]".utf8), isReachable: false)
      }
    }
  }
}
