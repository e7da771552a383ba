import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging
import StorageViews
import TaskViews

/// Reads the mapped areas of a process, from the tree or the list that holds them.
///
/// Source: fs/proc/task_mmu.c, `show_map_vma` and `get_vma_name`. The page for old system calls that all processes share
/// (`[vsyscall]`) belongs to none of them and is left out.
struct MappingReader: KernelReader {
  static let subject = "the memory mappings"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let mm = Field<VirtualAddress>("mm")
  }

  private struct Space: KernelShape {
    static let type = "mm_struct"
    let heapStart = Field<UInt64>("start_brk")
    let heapEnd = Field<UInt64>("brk")
    let stackStart = Field<UInt64>("start_stack")
  }

  private struct Area: KernelShape {
    static let type = "vm_area_struct"
    let start = Field<VirtualAddress>("vm_start")
    let end = Field<VirtualAddress>("vm_end")
    let flags = Field<UInt64>("vm_flags")
    let pageOffset = Field<UInt64>("vm_pgoff")
    let file = Field<VirtualAddress>("vm_file")
    let operations = Field<VirtualAddress>("vm_ops")
    let data = Field<VirtualAddress>("vm_private_data")
  }

  private struct Special: KernelShape {
    static let type = "vm_special_mapping"
    let name = Field<VirtualAddress>("name")
  }

  private let task: Bound<Task>, space: Bound<Space>
  private let areas: Areas
  private let area: Bound<Area>
  private let files: OpenFileFields
  private let specialOperations: Set<VirtualAddress>
  private let special: Bound<Special>
  private let paths: PathReader

  /// Where an address space keeps its areas.
  private enum Areas: Sendable {
    case tree(MapleTree, offset: Int)
    case list(head: Int, next: Int)

    /// The areas of the `mm_struct` at `owner`, in the order of the addresses that they map.
    func addresses(
      of owner: VirtualAddress, in space: AddressSpace, limit: Int
    ) -> (addresses: [VirtualAddress], faults: [MemoryFault]) {
      switch self {
      case .tree(let tree, let offset):
        let found = tree.entries(at: owner + offset, in: space, limit: limit)
        return (found.entries.sorted { $0.first < $1.first }.map(\.value), found.faults)
      case .list(let head, let next):
        let found = ListWalker(space: space, form: .nullTerminated, next: next, limit: limit)
          .members(ofHeads: [owner + head])
        return (found.lists.first ?? [], found.faults)
      }
    }
  }

  /// More areas than a process may have (`max_map_count` is 65,530 unless it was raised).
  private static let limit = 1 << 20

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, space, area, special) = try types.bind()
    let layout = try types.structure("mm_struct")
    // A list in the order of addresses until 6.0.
    areas =
      layout.hasField("mm_mt")
      ? .tree(try MapleTree(types: types), offset: try layout.field("mm_mt").offset)
      : .list(
        head: try layout.field("mm_mt", or: "mmap").offset,
        next: try types.structure("vm_area_struct").field("vm_next").offset)
    files = try OpenFileFields(types)
    specialOperations = Set(kernel.symbols.addresses(of: "special_mapping_vmops"))
    paths = try kernel.reader(PathReader.self)
  }

  /// The mappings of the process of the task at `address`.
  func read(task address: VirtualAddress, in kernel: AddressSpace) throws(MemoryFault) -> MappingTable {
    var table = MappingTable()
    let owner = try kernel.read(task, at: [address])[0].mm
    // Kernel threads have none, and zombies have given theirs back.
    guard owner.rawValue != 0 else { return table }
    let own = kernel.read(space, at: [owner])[0]
    let heap = (start: try own.heapStart, end: try own.heapEnd)
    let stack = try own.stackStart

    let found = self.areas.addresses(of: owner, in: kernel, limit: Self.limit)
    table.faults = found.faults
    let areas = kernel.read(area, at: found.addresses)
    let opened = files.read(areas.pointers(\.file), paths: paths, in: kernel)
    let names = kernel.read(special, at: areas.pointers(\.data)).pointers(\.name)
    let specialNames = kernel.strings(
      at: zip(areas.pointers(\.operations), names).map { specialOperations.contains($0) ? $1 : VirtualAddress(0) },
      limit: 64)
    table.mappings = areas.compactMap(&table.faults) { (area) throws(MemoryFault) in
      let first = try area.start
      let last = try area.end
      guard first < last else {
        throw MemoryFault(.virtual(area.address), .inconsistent("a mapping from \(first) to \(last)"))
      }
      let file = try opened[area.index]?.get()
      var name = try specialNames[area.index].get()
      if let file { name = file.name.display }
      if name.isEmpty {
        if first.rawValue <= heap.end, last.rawValue >= heap.start {
          name = Array("[heap]".utf8)
        } else if first.rawValue <= stack, last.rawValue >= stack {
          name = Array("[stack]".utf8)
        }
      }
      return MemoryMapping(
        range: first..<last, permissions: Self.permissions(try area.flags),
        offset: file == nil ? 0 : try area.pageOffset &* 4096, major: (file?.device ?? 0) >> 20,
        minor: (file?.device ?? 0) & 0xfffff, inode: file?.inode ?? 0, name: name)
    }
    return table
  }

  /// Bits of vm_flags, macros of include/linux/mm.h: VM_READ, VM_WRITE, VM_EXEC, VM_MAYSHARE.
  private static func permissions(_ flags: UInt64) -> String {
    (flags & 1 != 0 ? "r" : "-") + (flags & 2 != 0 ? "w" : "-") + (flags & 4 != 0 ? "x" : "-")
      + (flags & 0x80 != 0 ? "s" : "p")
  }
}

extension Kernel {
  /// The address space of process `pid`; empty for a kernel thread. Cost: as ``mounts(ofProcess:)``.
  public func mappings(ofProcess pid: Int32) throws(KernelError) -> MappingTable {
    let task = try process(pid)
    return try read(with: MappingReader.self, about: "the mappings of the task at \(task.address)") { reader in
      try reader.read(task: task.address, in: addressSpace)
    }
  }
}
