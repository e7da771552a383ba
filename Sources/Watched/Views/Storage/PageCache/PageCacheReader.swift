import Binding
import KernelInfo
public import LinuxKernel
package import Memory
import Paging

/// Finds the files of which pages are in memory.
///
/// ```
/// super_blocks → super_block … → inode … → its entry, its pages
///                             → mount … → where the file system can be seen
/// ```
/// Source: fs/super.c, `super_blocks`; fs/inode.c, `inode_sb_list_add`; include/linux/fs.h, `address_space`.
struct PageCacheReader: SettledReader {
  static let subject = "the page cache"

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list")
    let inodes = Place("s_inodes")
    let device = Field<UInt64>("s_dev")
    let root = Field<VirtualAddress>("s_root")
    let kind = Field<VirtualAddress>("s_type")
    let operations = Field<VirtualAddress>("s_op")
  }

  private struct Kind: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name")
  }

  /// What is read of every inode that there is.
  private struct Inode: KernelShape {
    static let type = "inode"
    let link = Place("i_sb_list")
    let pageCount = Field<UInt64>("i_data.nrpages")
  }

  /// What is read of those that have pages.
  private struct Node: KernelShape {
    static let type = "inode"
    let mapping = Place("i_data")
    let pageCount = Field<UInt64>("i_data.nrpages")
    let number = Field<UInt64>("i_ino")
    let mode = Field<UInt64>("i_mode")
    let size = Field<Int64>("i_size")
    let links = Field<UInt64>("i_nlink")
    let rawDevice = Field<UInt64>("i_rdev")
    let entry = Field<VirtualAddress>("i_dentry.first")
    let flags = Field<UInt64>("i_data.i_pages.xa_flags")
    let head = Field<VirtualAddress>("i_data.i_pages.xa_head")
    let operations = Field<VirtualAddress>("i_data.a_ops")
  }

  private struct SharedMemory: KernelShape {
    static let type = "shmem_inode_info"
    let inode = Place("vfs_inode")
    let swapped = Field<UInt64>("swapped")
  }

  private struct Entry: KernelShape {
    static let type = "dentry"
    // In a union without a name since 7.1.
    let link = Place("d_alias", before: "7.1", "d_u.d_alias")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let shared = Place("mnt")
    let root = Field<VirtualAddress>("mnt.mnt_root")
    let namespace = Field<VirtualAddress>("mnt_ns")
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let namespaces = Field<VirtualAddress>("nsproxy")
  }

  private struct Proxy: KernelShape {
    static let type = "nsproxy"
    let mounts = Field<VirtualAddress>("mnt_ns")
  }

  private struct Folio: KernelShape {
    static let type = "folio"
    let mapping = Field<VirtualAddress>("mapping")
    let first = Field<UInt64>("index")
    let flags = Field<UInt64>("flags")
  }

  private let supers, initTask: VirtualAddress
  private let superBlock: Bound<SuperBlock>, kind: Bound<Kind>, inode: Bound<Inode>, node: Bound<Node>
  /// Nil where this kernel has no file system in memory.
  private let shared: Bound<SharedMemory>?
  private let sharedOperations: VirtualAddress?
  private let entry: Bound<Entry>
  private let mounts: SuperBlockMounts
  private let mount: Bound<Mount>, task: Bound<Task>, proxy: Bound<Proxy>
  private let tree: PageCacheTree
  private let paths: PathReader

  // For contents.
  private let folio: Bound<Folio>
  private let upToDate: UInt64?
  private let pages: PageMap
  private let swapping, inMemory: Set<VirtualAddress>

  /// How many inodes are looked at in one batch.
  private static let window = 1 << 18
  /// How many pages are read in one batch: 4 MiB.
  private static let pagesPerPart = 1024
  private static let pageSize: UInt64 = 4096

  init(kernel: Kernel) throws {
    let types = kernel.types
    let symbols = kernel.symbols
    supers = try kernel.symbol("super_blocks", for: Self.self)
    initTask = try kernel.symbol("init_task", for: Self.self)
    (superBlock, kind, inode, node, entry, mount, task, proxy) = try types.bind()
    shared = try? Bound(types)
    sharedOperations = symbols.address(of: "shmem_ops")
    mounts = try SuperBlockMounts(types: types)
    tree = try PageCacheTree(types: types)
    paths = try kernel.reader(PathReader.self)

    // Until 5.15 the first page of those that belong together speaks for all of them.
    folio = try Bound(types, as: types.hasStructure("folio") ? "folio" : "page")
    upToDate = types.enumerator("PG_uptodate").flatMap { (0..<64).contains($0) ? UInt64($0) : nil }
    pages = try kernel.reader(PageMap.self)
    swapping = Set(symbols.addresses(of: "shmem_aops"))
    // The latter until 5.11.
    inMemory = swapping.union(["ram_aops", "ramfs_aops"].flatMap { symbols.addresses(of: $0) })
  }

  private struct FileSystem {
    var address: VirtualAddress
    var device: UInt64
    var type: [UInt8]
    var isSharedMemory: Bool
    /// The `vfsmount` through which its files are named, null where there is none.
    var mount: VirtualAddress
  }

  // MARK: Files

  func read(_ kernel: Kernel) throws -> CachedFileTable {
    let space = kernel.addressSpace
    var table = CachedFileTable()
    let supers = space.list(of: superBlock, through: \.link, head: supers, limit: 1 << 16, &table.faults)
    if supers.isEmpty, let fault = table.faults.first { throw fault }
    let systems = readFileSystems(supers, in: space, &table.faults)

    let inodes = space.members(
      of: inode, through: \.link, heads: systems.map { $0.address + superBlock.inodes.offset },
      limit: space.mostObjects(ofSize: inode.size), &table.faults)
    var found: [CachedInode] = []
    for (index, list) in inodes.enumerated() {
      for start in stride(from: 0, to: list.count, by: Self.window) {
        let part = Array(list[start..<min(start + Self.window, list.count)])
        found += withPages(part, system: index, isSharedMemory: systems[index].isSharedMemory, in: space, &table.faults)
      }
    }
    readFiles(found, systems, in: space, into: &table)
    return table
  }

  private func readFileSystems(
    _ supers: Structs<SuperBlock>, in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [FileSystem] {
    let names = space.strings(at: space.read(kind, at: supers.pointers(\.kind)).pointers(\.name), limit: 64)
    let mounts = readMounts(supers, in: space)
    return supers.compactMap(&faults) { (system) throws(MemoryFault) in
      FileSystem(
        address: system.address, device: try system.device, type: try names[system.index].get(),
        isSharedMemory: try sharedOperations == system.operations, mount: mounts[system.index])
    }
  }

  /// For each file system the mount of its root that the first process sees, else any mount of its root.
  private func readMounts(_ supers: Structs<SuperBlock>, in space: AddressSpace) -> [VirtualAddress] {
    let lists = mounts.mounts(of: supers.addresses, in: space, limit: 1 << 18).lists
    let systems = lists.enumerated().flatMap { index, list in list.map { _ in index } }
    let roots = supers.pointers(\.root)
    let own = space.read(proxy, at: space.read(task, at: [initTask]).pointers(\.namespaces)).pointers(\.mounts).first
    var chosen = [(mount: VirtualAddress, isOwn: Bool)?](repeating: nil, count: supers.count)
    for mount in space.read(mount, at: lists.flatMap { $0 }) {
      let system = systems[mount.index]
      guard let seen = try? mount.root, seen == roots[system], let namespace = try? mount.namespace else { continue }
      let known = chosen[system]
      if known == nil || (known?.isOwn == false && namespace == own) {
        chosen[system] = (mount.address(of: \.shared), namespace == own)
      }
    }
    return chosen.map { $0?.mount ?? VirtualAddress(0) }
  }

  /// An inode of which pages are in memory or swapped out.
  private struct CachedInode {
    var address: VirtualAddress
    var system: Int
    var swapped: UInt64
  }

  private func withPages(
    _ addresses: [VirtualAddress], system: Int, isSharedMemory: Bool, in space: AddressSpace,
    _ faults: inout [MemoryFault]
  ) -> [CachedInode] {
    let swaps =
      isSharedMemory ? shared.map { own in space.read(own, at: addresses.map { $0 - own.inode.offset }) } : nil
    return space.read(inode, at: addresses).compactMap(&faults) { (inode) throws(MemoryFault) in
      let swapped = try swaps?[inode.index].swapped ?? 0
      guard try inode.pageCount > 0 || swapped > 0 else { return nil }
      return CachedInode(address: inode.address, system: system, swapped: swapped)
    }
  }

  private func readFiles(
    _ found: [CachedInode], _ systems: [FileSystem], in space: AddressSpace, into table: inout CachedFileTable
  ) {
    let nodes = space.read(node, at: found.map(\.address))
    let entries = nodes.pointers(\.entry)
    let named = entries.indices.filter { entries[$0].rawValue != 0 }
    let ends = named.map {
      FilePath(mount: systems[found[$0].system].mount, dentry: entries[$0] - entry.link.offset)
    }
    var names: [Int: FileName] = [:]
    for (index, name) in zip(named, paths.names(of: ends, in: space)) { names[index] = table.faults.keep(name.get) }
    var files = nodes.compactMap(&table.faults) {
      (node) throws(MemoryFault) -> (file: CachedFile, system: Int, flags: UInt64, head: VirtualAddress) in
      let item = found[node.index]
      let system = systems[item.system]
      let mode = try node.mode
      let raw = try node.rawDevice
      var name = names[node.index] ?? FileName(bytes: [], isReachable: false)
      // A device's own pages belong to an inode that has no entry. S_IFBLK is 06 << 12 (inode(7)).
      if name.bytes.isEmpty, mode >> 12 == 0o6 {
        name.bytes = Array("[block \(raw >> 20):\(raw & 0xfffff)]".utf8)
      }
      let file = CachedFile(
        name: name, fileSystem: system.type, major: system.device >> 20, minor: system.device & 0xfffff,
        inode: try node.number, mode: mode, size: try node.size, links: try node.links,
        cachedPages: try node.pageCount, swappedPages: item.swapped, address: item.address)
      return (file, item.system, try node.flags, try node.head)
    }
    for mark in PageCacheTree.Mark.allCases {
      let marked = files.indices.filter { mark.isSet(inFlags: files[$0].flags) }
      let counts = tree.count(
        of: mark, below: marked.map { files[$0].head }, in: space, limit: space.mostObjects(ofSize: 576))
      table.faults += counts.faults
      for (position, index) in marked.enumerated() {
        switch mark {
        case .dirty: files[index].file.dirtyPages = counts.counts[position]
        case .writeback: files[index].file.writebackPages = counts.counts[position]
        }
      }
    }
    files.sort { ($0.system, $1.file.cachedPages, $0.file.inode) < ($1.system, $0.file.cachedPages, $1.file.inode) }
    table.files = files.map(\.file)
  }

  // MARK: Contents

  /// Reads those of the file's pages that `wanted` names; without a `body` no more than whether they are there.
  func read(
    _ file: CachedFile, _ wanted: Range<UInt64> = 0..<UInt64.max, in space: AddressSpace,
    _ body: ((_ offset: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool)?
  ) throws -> CachedContents {
    guard file.fileSystem != Array("hugetlbfs".utf8) else {
      throw KernelError(Self.subject, .inconsistent("files of hugetlbfs count in pages of other sizes"))
    }
    let inode = space.read(node, at: [file.address])[0]
    let size = try inode.size
    guard size >= 0, try inode.number == file.inode else {
      throw MemoryFault(.virtual(file.address), .inconsistent("the inode is gone, or has a size below zero"))
    }
    let operations = try inode.operations
    var part = Part(
      contents: CachedContents(size: UInt64(size)), mapping: inode.address(of: \.mapping),
      start: try pages.start(in: space), swaps: swapping.contains(operations), wanted: wanted)
    let faults = tree.forEachPart(
      below: try inode.head, in: space, limit: space.mostObjects(ofSize: 576), of: wanted
    ) { entries in
      readPages(of: entries, &part, in: space, body)
    }
    part.contents.faults += faults
    // A node that could not be read may have held anything.
    part.addGaps(isInMemory: inMemory.contains(operations) && faults.isEmpty)
    return part.contents
  }

  /// What was read of a file so far.
  private struct Part {
    var contents: CachedContents
    let mapping: VirtualAddress
    let start: VirtualAddress
    let swaps: Bool
    let wanted: Range<UInt64>
    /// In pages; neighbours of one kind are one range.
    private var known: [(range: Range<UInt64>, reason: CachedContents.Gap?)] = []

    init(
      contents: CachedContents, mapping: VirtualAddress, start: VirtualAddress, swaps: Bool, wanted: Range<UInt64>
    ) {
      self.wanted = wanted
      self.contents = contents
      self.mapping = mapping
      self.start = start
      self.swaps = swaps
    }

    var pageCount: UInt64 { contents.size / pageSize + (contents.size % pageSize == 0 ? 0 : 1) }
    /// The page behind the last one that is wanted.
    var end: UInt64 { min(pageCount, wanted.upperBound) }

    mutating func note(_ range: Range<UInt64>, _ reason: CachedContents.Gap?) {
      if let last = known.last, last.range.upperBound == range.lowerBound, last.reason == reason {
        known[known.count - 1].range = last.range.lowerBound..<range.upperBound
      } else {
        known.append((range, reason))
      }
    }

    mutating func lose(_ range: Range<UInt64>, to fault: MemoryFault) {
      note(range, .unreadable)
      contents.faults.append(fault)
    }

    /// Turns what is known, and what is not, into gaps in bytes.
    mutating func addGaps(isInMemory: Bool) {
      var place = wanted.lowerBound
      func add(
        _ from: UInt64, _ to: UInt64, _ reason: CachedContents.Gap, _ gaps: inout [(Range<UInt64>, CachedContents.Gap)]
      ) {
        // Both are at most the file's number of pages.
        let range = from * pageSize..<min(to * pageSize, contents.size)
        if let last = gaps.last, last.0.upperBound == range.lowerBound, last.1 == reason {
          gaps[gaps.count - 1].0 = last.0.lowerBound..<range.upperBound
        } else if !range.isEmpty {
          gaps.append((range, reason))
        }
      }
      var gaps: [(Range<UInt64>, CachedContents.Gap)] = []
      for item in known.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
        if item.range.lowerBound > place, !isInMemory { add(place, item.range.lowerBound, .notCached, &gaps) }
        if let reason = item.reason { add(max(place, item.range.lowerBound), item.range.upperBound, reason, &gaps) }
        place = max(place, item.range.upperBound)
      }
      if place < end, !isInMemory { add(place, end, .notCached, &gaps) }
      contents.gaps = gaps.map { (range: $0.0, reason: $0.1) }
    }
  }

  /// Reads the pages of `entries`, and hands them on until `body` returns false.
  private func readPages(
    of entries: [PageCacheTree.Entry], _ part: inout Part, in space: AddressSpace,
    _ body: ((UInt64, ArraySlice<UInt8>) -> Bool)?
  ) -> Bool {
    let end = part.end
    var folios: [(index: UInt64, pages: UInt64, head: VirtualAddress)] = []
    for entry in entries where entry.index < end {
      let index = max(entry.index, part.wanted.lowerBound)
      guard index < min(end, entry.index &+ entry.pages) else { continue }
      let pages = min(entry.index &+ entry.pages, end) - index
      switch entry.value {
      case .exceptional where part.swaps: part.note(index..<index + pages, .swapped)
      case .exceptional: break
      case .folio(let head): folios.append((index, pages, head))
      }
    }
    let heads = space.read(folio, at: folios.map(\.head))
    var wanted: [(index: UInt64, page: VirtualAddress, head: VirtualAddress)] = []
    for (item, head) in zip(folios, heads) {
      do throws(MemoryFault) {
        let first = try head.first
        guard try head.mapping == part.mapping, first <= item.index, item.index - first < 1 << 20 else {
          throw MemoryFault(.virtual(item.head), .inconsistent("a folio of another file, or of another place in it"))
        }
        let flags = try head.flags
        if let upToDate, flags >> upToDate & 1 == 0 {
          part.note(item.index..<item.index + item.pages, .notRead)
          continue
        }
        guard body != nil else {
          part.note(item.index..<item.index + item.pages, nil)
          continue
        }
        for page in 0..<item.pages {
          let distance = Int(item.index - first + page) * pages.pageSize
          wanted.append((item.index + page, item.head + distance, item.head))
          // A folio may have more pages than are wise to hold at once.
          if wanted.count == Self.pagesPerPart {
            if !hand(on: wanted, &part, in: space, body) { return false }
            wanted = []
          }
        }
      } catch {
        part.lose(item.index..<item.index + item.pages, to: error)
      }
    }
    return wanted.isEmpty || hand(on: wanted, &part, in: space, body)
  }

  private func hand(
    on wanted: [(index: UInt64, page: VirtualAddress, head: VirtualAddress)], _ part: inout Part,
    in space: AddressSpace, _ body: ((UInt64, ArraySlice<UInt8>) -> Bool)?
  ) -> Bool {
    // Each page but the first of a folio says which folio it belongs to.
    var links = ReadBatch<VirtualAddress>()
    for item in wanted { links.add(item.page + pages.compound.offset, count: 8) }
    space.read(&links)
    var batch = ReadBatch<PhysicalAddress>()
    var entries: [(index: UInt64, entry: Int)] = []
    for (position, item) in wanted.enumerated() {
      do throws(MemoryFault) {
        let link = try links.reader(position).u64(0)
        guard item.page == item.head || PageMap.head(of: item.page, compound: link) == item.head,
          let place = pages.physicalAddress(ofPage: item.page, start: part.start)
        else { throw MemoryFault(.virtual(item.page), .inconsistent("a page that is no part of its folio")) }
        entries.append((item.index, batch.add(place, count: Int(Self.pageSize))))
      } catch {
        part.lose(item.index..<item.index + 1, to: error)
      }
    }
    space.memory.read(&batch)
    for (index, entry) in entries {
      if let fault = batch.faults[entry] {
        part.lose(index..<index + 1, to: fault)
        continue
      }
      part.note(index..<index + 1, nil)
      let offset = index * Self.pageSize
      let count = min(Self.pageSize, part.contents.size - offset)
      part.contents.count += count
      let start = batch.entries[entry].offset
      if let body, !body(offset, batch.bytes[start..<start + Int(count)]) { return false }
    }
    return true
  }
}

/// Bytes of a page.
private let pageSize: UInt64 = 4096

extension Kernel {
  /// The files of which pages are in memory.
  ///
  /// Cost: a few round trips, one for each inode in a row whose neighbours lie elsewhere, and about two for each directory
  /// on the way to the deepest file.
  public func cachedFiles() throws(KernelError) -> CachedFileTable { try read(PageCacheReader.self) }

  /// Reads what is in memory of a file's contents, and calls `body` with each page of it until it returns false: its
  /// offset in the file, and its bytes, of which those behind the file's end are left out.
  ///
  /// Pages come in ascending order but for large folios, which may come before smaller ones. Cost: three batches for each
  /// 4 MiB.
  public func contents(
    of file: CachedFile, _ body: (_ offset: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool
  ) throws(KernelError) -> CachedContents {
    let reader = try reader(PageCacheReader.self)
    return try KernelError.reading(subject(of: PageCacheReader.self)) {
      try withoutActuallyEscaping(body) { body in try reader.read(file, in: addressSpace, body) }
    }
  }

  /// The same of those `pages` of the file whose inode lies at `address` and has this number; without a `body` no more than what is
  /// there and what is not.
  package func contents(
    ofInode address: VirtualAddress, number: UInt64, pages: Range<UInt64> = 0..<UInt64.max,
    _ body: ((_ offset: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool)?
  ) throws(KernelError) -> CachedContents {
    let file = CachedFile(
      name: FileName(bytes: [], isDeleted: false), fileSystem: [], major: 0, minor: 0, inode: number, mode: 0, size: 0,
      links: 0, cachedPages: 0, swappedPages: 0, address: address)
    let reader = try reader(PageCacheReader.self)
    return try KernelError.reading(subject(of: PageCacheReader.self)) {
      try reader.read(file, pages, in: addressSpace, body)
    }
  }
}
