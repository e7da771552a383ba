import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Finds the files of which pages are in memory.
///
/// ```
/// super_blocks → super_block … → inode … → its entry, its pages
///                             → mount … → where the file system can be seen
/// ```
/// Source: fs/super.c, `super_blocks`; fs/inode.c, `inode_sb_list_add`; include/linux/fs.h, `address_space`.
struct PageCacheReader: KernelReader {
  static let subject = "the page cache"
  typealias Field = FieldSelection.Field

  private let supers: VirtualAddress
  private let superLink, inodeList, inodeLink, identifier: Int
  private let superSelection: FieldSelection
  private let device, root, type, operations: Field
  private let typeSelection: FieldSelection
  private let typeName: Field
  private let countSelection: FieldSelection
  private let pageCount: Field
  private let node: FieldSelection
  private let number, mode, size, links, rawDevice, entries, flags, head, treeOperations: Field
  private let swapped: Int?
  private let sharedMemory: VirtualAddress?
  private let inodeSize, entryLink: Int
  private let mounts: SuperBlockMounts
  private let mountOffset: Int
  private let mount: FieldSelection
  private let mountRoot, mountNamespace: Field
  private let initTask: VirtualAddress
  private let namespaces, mountsOfProxy: FieldLayout
  private let tree: PageCacheTree
  private let paths: PathReader

  // For contents.
  private let mapping: Int
  private let folio: FieldSelection
  private let folioMapping, folioIndex, folioFlags: Field
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
    let superLayout = try types.structure("super_block")
    superLink = try superLayout.field("s_list").offset
    inodeList = try superLayout.field("s_inodes").offset
    identifier = try superLayout.field("s_id").offset
    var fields = FieldSelection(superLayout)
    device = try fields.want("s_dev")
    root = try fields.want("s_root")
    type = try fields.want("s_type")
    operations = try fields.want("s_op")
    superSelection = fields
    fields = FieldSelection(try types.structure("file_system_type"))
    typeName = try fields.want("name")
    typeSelection = fields

    let layout = try types.structure("inode")
    inodeSize = layout.size
    inodeLink = try layout.field("i_sb_list").offset
    mapping = try layout.field("i_data").offset
    fields = FieldSelection(layout)
    pageCount = try fields.want("i_data.nrpages")
    countSelection = fields
    number = try fields.want("i_ino")
    mode = try fields.want("i_mode")
    size = try fields.want("i_size")
    links = try fields.want("i_nlink")
    rawDevice = try fields.want("i_rdev")
    entries = try fields.want("i_dentry.first")
    flags = try fields.want("i_data.i_pages.xa_flags")
    head = try fields.want("i_data.i_pages.xa_head")
    treeOperations = try fields.want("i_data.a_ops")
    node = fields
    // In a union without a name since 7.1.
    entryLink = try types.structure("dentry").field("d_u.d_alias", or: "d_alias").offset
    sharedMemory = symbols.address(of: "shmem_ops")
    if let own = try? types.structure("shmem_inode_info"), let inner = try? own.field("vfs_inode").offset {
      swapped = (try? own.field("swapped").offset).map { $0 - inner }
    } else {
      swapped = nil
    }

    mounts = try SuperBlockMounts(types: types)
    let mountLayout = try types.structure("mount")
    mountOffset = try mountLayout.field("mnt").offset
    fields = FieldSelection(mountLayout)
    mountRoot = try fields.want("mnt.mnt_root")
    mountNamespace = try fields.want("mnt_ns")
    mount = fields
    initTask = try kernel.symbol("init_task", for: Self.self)
    namespaces = try types.structure("task_struct").field("nsproxy")
    mountsOfProxy = try types.structure("nsproxy").field("mnt_ns")
    tree = try PageCacheTree(types: types)
    paths = try kernel.reader(PathReader.self)

    // Until 5.15 the first page of those that belong together speaks for all of them.
    fields = FieldSelection(try types.structure(types.hasStructure("folio") ? "folio" : "page"))
    folioMapping = try fields.want("mapping")
    folioIndex = try fields.want("index")
    folioFlags = try fields.want("flags")
    folio = fields
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

  func read(in space: AddressSpace) throws -> CachedFileTable {
    var table = CachedFileTable()
    let members = ListWalker(space: space, form: .circular, limit: 1 << 16).members(ofHeads: [supers])
    if members.lists[0].isEmpty, let fault = members.faults.first { throw fault }
    table.faults += members.faults
    let systems = readFileSystems(members.lists[0].map { $0 - superLink }, in: space, &table.faults)

    let inodes = ListWalker(space: space, form: .circular, limit: space.mostObjects(ofSize: inodeSize))
      .members(ofHeads: systems.map { $0.address + inodeList })
    table.faults += inodes.faults
    var found: [(address: VirtualAddress, system: Int, swapped: UInt64)] = []
    for (index, list) in inodes.lists.enumerated() {
      for start in stride(from: 0, to: list.count, by: Self.window) {
        let part = list[start..<min(start + Self.window, list.count)].map { $0 - inodeLink }
        found += withPages(part, system: index, isSharedMemory: systems[index].isSharedMemory, in: space, &table.faults)
      }
    }
    readFiles(found, systems, in: space, into: &table)
    return table
  }

  private func readFileSystems(
    _ addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [FileSystem] {
    let reads = space.read(superSelection, at: addresses)
    func pointer(_ reads: StructReads, _ index: Int, _ field: Field) -> VirtualAddress {
      (try? reads.pointer(index, field)) ?? VirtualAddress(0)
    }
    let kinds = space.read(typeSelection, at: reads.indices.map { pointer(reads, $0, type) })
    let names = space.strings(at: kinds.indices.map { pointer(kinds, $0, typeName) }, limit: 64)
    let mounts = readMounts(addresses, roots: reads.indices.map { pointer(reads, $0, root) }, in: space)
    var systems: [FileSystem] = []
    for (index, address) in addresses.enumerated() {
      do throws(MemoryFault) {
        systems.append(
          FileSystem(
            address: address, device: try reads.load(index, device), type: try names[index].get(),
            isSharedMemory: try sharedMemory == reads.pointer(index, operations), mount: mounts[index]))
      } catch {
        faults.append(error)
      }
    }
    return systems
  }

  /// For each file system the mount of its root that the first process sees, else any mount of its root.
  private func readMounts(
    _ supers: [VirtualAddress], roots: [VirtualAddress], in space: AddressSpace
  ) -> [VirtualAddress] {
    var candidates: [(system: Int, mount: VirtualAddress)] = []
    for (index, list) in mounts.mounts(of: supers, in: space, limit: 1 << 18).lists.enumerated() {
      candidates += list.map { (index, $0) }
    }
    var own = VirtualAddress(0)
    if let task = try? space.read(initTask + namespaces.offset, count: 8),
      let proxy = try? ByteReader(task.span.bytes).pointer(0),
      let bytes = try? space.read(proxy + mountsOfProxy.offset, count: 8),
      let address = try? ByteReader(bytes.span.bytes).pointer(0)
    {
      own = address
    }
    let reads = space.read(mount, at: candidates.map(\.mount))
    var chosen = [(mount: VirtualAddress, isOwn: Bool)?](repeating: nil, count: supers.count)
    for (index, candidate) in candidates.enumerated() {
      guard let seen = try? reads.pointer(index, mountRoot), seen == roots[candidate.system],
        let namespace = try? reads.pointer(index, mountNamespace)
      else { continue }
      let known = chosen[candidate.system]
      if known == nil || (known?.isOwn == false && namespace == own) {
        chosen[candidate.system] = (candidate.mount + mountOffset, namespace == own)
      }
    }
    return chosen.map { $0?.mount ?? VirtualAddress(0) }
  }

  private func withPages(
    _ addresses: [VirtualAddress], system: Int, isSharedMemory: Bool, in space: AddressSpace,
    _ faults: inout [MemoryFault]
  ) -> [(address: VirtualAddress, system: Int, swapped: UInt64)] {
    let counts = space.read(countSelection, at: addresses)
    var swaps = ReadBatch<VirtualAddress>()
    let offset = isSharedMemory ? swapped : nil
    if let offset {
      for address in addresses { swaps.add(address + offset, count: 8) }
      space.read(&swaps)
    }
    var found: [(address: VirtualAddress, system: Int, swapped: UInt64)] = []
    for (index, address) in addresses.enumerated() {
      do throws(MemoryFault) {
        let swapped = try offset == nil ? 0 : swaps.reader(index).u64(0)
        if try counts.load(index, pageCount) > 0 || swapped > 0 { found.append((address, system, swapped)) }
      } catch {
        faults.append(error)
      }
    }
    return found
  }

  private func readFiles(
    _ found: [(address: VirtualAddress, system: Int, swapped: UInt64)], _ systems: [FileSystem],
    in space: AddressSpace, into table: inout CachedFileTable
  ) {
    let reads = space.read(node, at: found.map(\.address))
    var named: [(index: Int, path: FilePath)] = []
    for index in reads.indices {
      if let entry = try? reads.pointer(index, entries), entry.rawValue != 0 {
        named.append((index, FilePath(mount: systems[found[index].system].mount, dentry: entry - entryLink)))
      }
    }
    var names: [Int: FileName] = [:]
    for (position, name) in paths.names(of: named.map(\.path), in: space).enumerated() {
      do throws(MemoryFault) {
        names[named[position].index] = try name.get()
      } catch {
        table.faults.append(error)
      }
    }
    var files: [(file: CachedFile, system: Int, flags: UInt64, head: VirtualAddress)] = []
    for (index, item) in found.enumerated() {
      let system = systems[item.system]
      do throws(MemoryFault) {
        let mode = try reads.load(index, mode)
        let raw = try reads.load(index, rawDevice)
        var name = names[index] ?? FileName(bytes: [], isReachable: false)
        // A device's own pages belong to an inode that has no entry. S_IFBLK is 06 << 12 (inode(7)).
        if name.bytes.isEmpty, mode >> 12 == 0o6 {
          name.bytes = Array("[block \(raw >> 20):\(raw & 0xfffff)]".utf8)
        }
        let file = CachedFile(
          name: name, fileSystem: system.type, major: system.device >> 20, minor: system.device & 0xfffff,
          inode: try reads.load(index, number), mode: mode, size: try reads.signed(index, size),
          links: try reads.load(index, links), cachedPages: try reads.load(index, pageCount),
          swappedPages: item.swapped, address: item.address)
        files.append((file, item.system, try reads.load(index, flags), try reads.pointer(index, head)))
      } catch {
        table.faults.append(error)
      }
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

  func read(
    _ file: CachedFile, in space: AddressSpace, _ body: (_ offset: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool
  ) throws -> CachedContents {
    guard file.fileSystem != Array("hugetlbfs".utf8) else {
      throw KernelError(Self.subject, .inconsistent("files of hugetlbfs count in pages of other sizes"))
    }
    let reads = space.read(node, at: [file.address])
    let size = try reads.signed(0, size)
    guard size >= 0, try reads.load(0, number) == file.inode else {
      throw MemoryFault(.virtual(file.address), .inconsistent("the inode is gone, or has a size below zero"))
    }
    let operations = try reads.pointer(0, treeOperations)
    var part = Part(
      contents: CachedContents(size: UInt64(size)), mapping: file.address + mapping,
      start: try pages.start(in: space), swaps: swapping.contains(operations))
    let faults = tree.forEachPart(
      below: try reads.pointer(0, head), in: space, limit: space.mostObjects(ofSize: 576)
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
    /// In pages; neighbours of one kind are one range.
    private var known: [(range: Range<UInt64>, reason: CachedContents.Gap?)] = []

    init(contents: CachedContents, mapping: VirtualAddress, start: VirtualAddress, swaps: Bool) {
      self.contents = contents
      self.mapping = mapping
      self.start = start
      self.swaps = swaps
    }

    var pageCount: UInt64 { contents.size / pageSize + (contents.size % pageSize == 0 ? 0 : 1) }

    mutating func note(_ range: Range<UInt64>, _ reason: CachedContents.Gap?) {
      if let last = known.last, last.range.upperBound == range.lowerBound, last.reason == reason {
        known[known.count - 1].range = last.range.lowerBound..<range.upperBound
      } else {
        known.append((range, reason))
      }
    }

    /// Turns what is known, and what is not, into gaps in bytes.
    mutating func addGaps(isInMemory: Bool) {
      var place: UInt64 = 0
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
      if place < pageCount, !isInMemory { add(place, pageCount, .notCached, &gaps) }
      contents.gaps = gaps.map { (range: $0.0, reason: $0.1) }
    }
  }

  /// Reads the pages of `entries`, and hands them on until `body` returns false.
  private func readPages(
    of entries: [PageCacheTree.Entry], _ part: inout Part, in space: AddressSpace,
    _ body: (UInt64, ArraySlice<UInt8>) -> Bool
  ) -> Bool {
    let end = part.pageCount
    var folios: [(index: UInt64, pages: UInt64, head: VirtualAddress)] = []
    for entry in entries where entry.index < end {
      let pages = min(entry.pages, end - entry.index)
      switch entry.value {
      case .exceptional where part.swaps: part.note(entry.index..<entry.index + pages, .swapped)
      case .exceptional: break
      case .folio(let head): folios.append((entry.index, pages, head))
      }
    }
    let heads = space.read(folio, at: folios.map(\.head))
    var wanted: [(index: UInt64, page: VirtualAddress, head: VirtualAddress)] = []
    for (index, item) in folios.enumerated() {
      do throws(MemoryFault) {
        let first = try heads.load(index, folioIndex)
        guard try heads.pointer(index, folioMapping) == part.mapping, first <= item.index, item.index - first < 1 << 20
        else {
          throw MemoryFault(.virtual(item.head), .inconsistent("a folio of another file, or of another place in it"))
        }
        let flags = try heads.load(index, folioFlags)
        if let upToDate, flags >> upToDate & 1 == 0 {
          part.note(item.index..<item.index + item.pages, .notRead)
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
        part.note(item.index..<item.index + item.pages, .unreadable)
        part.contents.faults.append(error)
      }
    }
    return wanted.isEmpty || hand(on: wanted, &part, in: space, body)
  }

  private func hand(
    on wanted: [(index: UInt64, page: VirtualAddress, head: VirtualAddress)], _ part: inout Part,
    in space: AddressSpace, _ body: (UInt64, ArraySlice<UInt8>) -> Bool
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
        part.note(item.index..<item.index + 1, .unreadable)
        part.contents.faults.append(error)
      }
    }
    space.memory.read(&batch)
    for (index, entry) in entries {
      if let fault = batch.faults[entry] {
        part.note(index..<index + 1, .unreadable)
        part.contents.faults.append(fault)
        continue
      }
      part.note(index..<index + 1, nil)
      let offset = index * Self.pageSize
      let count = min(Self.pageSize, part.contents.size - offset)
      part.contents.count += count
      let start = batch.entries[entry].offset
      if !body(offset, batch.bytes[start..<start + Int(count)]) { return false }
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
  public func cachedFiles() throws(KernelError) -> CachedFileTable {
    let reader = try reader(PageCacheReader.self)
    return try settled(\.faults) { () throws(KernelError) in
      try KernelError.reading(subject(of: PageCacheReader.self)) { try reader.read(in: addressSpace) }
    }
  }

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
      try reader.read(file, in: addressSpace, body)
    }
  }
}
