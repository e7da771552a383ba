import Binding
import KernelInfo
public import KernelViews
import Memory

/// What a process runs, and what it has mapped.
public struct ProcessMemory: Sendable {
  /// The task that leads it, or the first of its threads that is left.
  public var task: KernelTask
  /// Its `mm_struct`.
  public var address: VirtualAddress
  /// The root of its page tables.
  public var root: VirtualAddress
  /// The program that it runs; nil where that cannot be read.
  public var program: ProcessFile?
  public var areas: [ProcessArea] = []
  /// Where its stack began, and where its heap ends.
  public var stack: UInt64
  public var heap: Range<UInt64>
  /// Whether probes of the kernel's are set in what it runs.
  public var hasProbes = false

  var name: String { "\(task.comm.printable) (\(task.tgid))" }
}

/// A file that a process runs or has mapped.
public struct ProcessFile: Sendable {
  public var name: FileName
  public var device: UInt64
  public var inode: UInt64
  public var links: UInt64
  var dentry: VirtualAddress
  var inodeAddress: VirtualAddress

  var path: String { name.bytes.printable }
  /// Whether it lies in no file system that others see: `memfd_create`, and files that were removed, in shared memory.
  var isAnonymous: Bool { path.hasPrefix("/memfd:") }
}

/// One `vm_area_struct` that may be executed.
public struct ProcessArea: Sendable {
  public var range: Range<UInt64>
  /// The bits of `vm_flags`: 1 read, 2 write, 4 execute, 8 shared.
  public var flags: UInt64
  /// The file that is mapped; nil where it is memory of its own.
  public var file: ProcessFile?
  /// Whether the kernel itself mapped it, as it does the vDSO.
  public var isSpecial: Bool
  /// Whether pages of it may be copies of its own.
  public var hasCopies: Bool
  /// Which page of the file its first one is.
  var firstPage: UInt64 = 0

  public var isWritable: Bool { flags & 2 != 0 }
}

/// The processes of a host, each once.
public struct ProcessMemoryTable: Faulted {
  public internal(set) var processes: [ProcessMemory] = []
  public internal(set) var faults: [MemoryFault] = []
}

/// Reads of all processes what they run and which executable memory they have.
///
/// ```
/// task_struct → mm_struct → exe_file → its dentry and inode
///                         → the tree of areas → vm_area_struct → vm_file
/// ```
private struct ProcessMemoryReader: KernelReader {
  static let subject = "the memory of processes"

  struct Space: KernelShape {
    static let type = "mm_struct"
    let root = Field<VirtualAddress>("pgd")
    let program = Field<VirtualAddress>("exe_file")
    let heapStart = Field<UInt64>("start_brk")
    let heapEnd = Field<UInt64>("brk")
    let stack = Field<UInt64>("start_stack")
    let flags = Field<UInt64>("flags")
  }

  struct Area: KernelShape {
    static let type = "vm_area_struct"
    let start = Field<UInt64>("vm_start")
    let end = Field<UInt64>("vm_end")
    let flags = Field<UInt64>("vm_flags")
    let file = Field<VirtualAddress>("vm_file")
    let operations = Field<VirtualAddress>("vm_ops")
    let copies = Field<VirtualAddress>("anon_vma")
    let firstPage = Field<UInt64>("vm_pgoff")
  }

  struct File: KernelShape {
    static let type = "file"
    let mount = Field<VirtualAddress>("f_path.mnt")
    let dentry = Field<VirtualAddress>("f_path.dentry")
    let inode = Field<VirtualAddress>("f_inode")
  }

  struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let links = Field<UInt64>("i_nlink")
    let superBlock = Field<VirtualAddress>("i_sb")
  }

  struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev")
  }

  let space: Bound<Space>, area: Bound<Area>, file: Bound<File>, inode: Bound<Inode>, superBlock: Bound<SuperBlock>
  let paths: PathReader
  let tree: (tree: MapleTree, offset: Int)?
  let list: (head: Int, next: Int)?

  /// Areas of one process: more than it may have (`max_map_count` is 65,530 unless it was raised).
  private static let limit = 1 << 18
  /// Areas of all processes.
  private static let most = 1 << 20

  init(kernel: Kernel) throws {
    let types = kernel.types
    (space, area, file, inode, superBlock) = try types.bind()
    paths = try kernel.reader(PathReader.self)
    let layout = try types.structure("mm_struct")
    // A list until 6.0.
    if layout.hasField("mm_mt") {
      tree = (try MapleTree(types: types), try layout.field("mm_mt").offset)
      list = nil
    } else {
      tree = nil
      list = (try layout.field("mmap").offset, try types.structure("vm_area_struct").field("vm_next").offset)
    }
  }

  func read(_ marks: TaskMarkTable, in space: AddressSpace) -> ProcessMemoryTable {
    var table = ProcessMemoryTable()
    var owners: [VirtualAddress: KernelTask] = [:]
    for mark in marks.marks where mark.memory.rawValue != 0 && !mark.task.isKernelThread {
      if let known = owners[mark.memory], known.isLeader || !mark.task.isLeader { continue }
      owners[mark.memory] = mark.task
    }
    let spaces = owners.sorted { $0.value.tid < $1.value.tid }
    var drafts: [(process: ProcessMemory, program: VirtualAddress)] = []
    space.read(self.space, at: spaces.map(\.key)).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let (start, end) = (try reading.heapStart, try reading.heapEnd)
      drafts.append(
        (
          ProcessMemory(
            task: spaces[reading.index].value, address: reading.address, root: try reading.root,
            stack: try reading.stack, heap: start..<max(start, end),
            // MMF_HAS_UPROBES (include/linux/sched/coredump.h).
            hasProbes: try reading.flags & 1 << 19 != 0), try reading.program
        ))
    }
    var areas: [(owner: Int, address: VirtualAddress)] = []
    for index in drafts.indices {
      let (found, faults) = addresses(of: drafts[index].process.address, in: space)
      table.faults += faults
      guard areas.count + found.count <= Self.most else {
        table.faults.append(
          MemoryFault(
            .virtual(drafts[index].process.address), .inconsistent("more than \(Self.most) areas of all processes")))
        break
      }
      areas += found.map { (index, $0) }
    }
    var kept: [(owner: Int, area: ProcessArea, file: VirtualAddress)] = []
    space.read(area, at: areas.map(\.address)).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let (start, end, flags) = (try reading.start, try reading.end, try reading.flags)
      guard start < end else {
        throw MemoryFault(.virtual(reading.address), .inconsistent("an area that ends before it starts"))
      }
      guard flags & 4 != 0 else { return }
      let file = try reading.file
      kept.append(
        (
          areas[reading.index].owner,
          ProcessArea(
            range: start..<end, flags: flags, isSpecial: try reading.operations.rawValue != 0 && file.rawValue == 0,
            hasCopies: try reading.copies.rawValue != 0, firstPage: try reading.firstPage), file
        ))
    }
    let files = read(drafts.map(\.program) + kept.map(\.file), in: space, &table.faults)
    for item in kept {
      var area = item.area
      area.file = files[item.file]
      drafts[item.owner].process.areas.append(area)
    }
    table.processes = drafts.map { draft in
      var process = draft.process
      process.program = files[draft.program]
      return process
    }
    return table
  }

  private func addresses(
    of owner: VirtualAddress, in space: AddressSpace
  ) -> (addresses: [VirtualAddress], faults: [MemoryFault]) {
    if let tree {
      let found = tree.tree.entries(at: owner + tree.offset, in: space, limit: Self.limit)
      return (found.entries.map(\.value), found.faults)
    }
    guard let list else { return ([], []) }
    let found = ListWalker(space: space, form: .nullTerminated, next: list.next, limit: Self.limit)
      .members(ofHeads: [owner + list.head])
    return (found.lists.first ?? [], found.faults)
  }

  private func read(
    _ addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [VirtualAddress: ProcessFile] {
    let distinct = Array(Set(addresses.filter { $0.rawValue != 0 }))
    let files = space.read(file, at: distinct)
    let inodes = space.read(inode, at: files.pointers(\.inode))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    let names = paths.names(
      of: zip(files.pointers(\.mount), files.pointers(\.dentry)).map { FilePath(mount: $0, dentry: $1) }, in: space)
    var found: [VirtualAddress: ProcessFile] = [:]
    files.forEach(&faults) { (reading) throws(MemoryFault) in
      let inode = inodes[reading.index]
      found[reading.address] = ProcessFile(
        name: try names[reading.index].get(), device: try supers[reading.index].device, inode: try inode.number,
        links: try inode.links, dentry: try reading.dentry, inodeAddress: inode.address)
    }
    return found
  }
}

extension Look {
  /// What processes run and have mapped that may be executed.
  public func processes() throws(KernelError) -> ProcessMemoryTable {
    let marks = try marks()
    return try once("processes") { kernel throws(KernelError) in
      try kernel.read(with: ProcessMemoryReader.self) { reader in reader.read(marks, in: kernel.addressSpace) }
    }
  }
}
