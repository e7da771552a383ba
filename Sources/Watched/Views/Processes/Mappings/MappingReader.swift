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

  typealias Field = FieldSelection.Field
  private let task: FieldSelection
  private let mm: Field
  private let space: FieldSelection
  private let heapStart, heapEnd, stackStart: Field
  private let areas: Areas
  private let area: FieldSelection
  private let start, end, flags, pageOffset, file, operations, data: Field
  private let files: OpenFileFields
  private let specialOperations: Set<VirtualAddress>
  private let special: FieldSelection
  private let specialName: Field
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
    var fields = FieldSelection(try types.structure("task_struct"))
    mm = try fields.want("mm")
    task = fields
    let layout = try types.structure("mm_struct")
    fields = FieldSelection(layout)
    heapStart = try fields.want("start_brk")
    heapEnd = try fields.want("brk")
    stackStart = try fields.want("start_stack")
    space = fields
    let areaLayout = try types.structure("vm_area_struct")
    // A list in the order of addresses until 6.0.
    areas =
      layout.hasField("mm_mt")
      ? .tree(try MapleTree(types: types), offset: try layout.field("mm_mt").offset)
      : .list(head: try layout.field("mm_mt", or: "mmap").offset, next: try areaLayout.field("vm_next").offset)
    fields = FieldSelection(areaLayout)
    start = try fields.want("vm_start")
    end = try fields.want("vm_end")
    flags = try fields.want("vm_flags")
    pageOffset = try fields.want("vm_pgoff")
    file = try fields.want("vm_file")
    operations = try fields.want("vm_ops")
    data = try fields.want("vm_private_data")
    area = fields
    files = try OpenFileFields(types)
    specialOperations = Set(kernel.symbols.addresses(of: "special_mapping_vmops"))
    fields = FieldSelection(try types.structure("vm_special_mapping"))
    specialName = try fields.want("name")
    special = fields
    paths = try kernel.reader(PathReader.self)
  }

  func read(task address: VirtualAddress, in kernel: AddressSpace) throws(KernelError) -> MappingTable {
    try settled({ $0.faults }) { () throws(KernelError) in
      do throws(MemoryFault) {
        return try attempt(address, in: kernel)
      } catch {
        throw KernelError("the mappings of the task at \(address)", .memory(error))
      }
    }
  }

  private func attempt(_ address: VirtualAddress, in kernel: AddressSpace) throws(MemoryFault) -> MappingTable {
    var table = MappingTable()
    let tasks = kernel.read(task, at: [address])
    let owner = try tasks.pointer(0, mm)
    // Kernel threads have none, and zombies have given theirs back.
    guard owner.rawValue != 0 else { return table }
    let owners = kernel.read(space, at: [owner])
    let heap = (start: try owners.load(0, heapStart), end: try owners.load(0, heapEnd))
    let stack = try owners.load(0, stackStart)

    let found = areas.addresses(of: owner, in: kernel, limit: Self.limit)
    table.faults = found.faults
    let areas = kernel.read(area, at: found.addresses)
    func pointers(_ field: Field) -> [VirtualAddress] {
      areas.indices.map { (try? areas.pointer($0, field)) ?? VirtualAddress(0) }
    }
    let opened = files.read(pointers(file), paths: paths, in: kernel)
    let specials = kernel.read(special, at: pointers(data))
    let specialNames = kernel.strings(
      at: areas.indices.map { index in
        guard let operations = try? areas.pointer(index, operations), specialOperations.contains(operations),
          let name = try? specials.pointer(index, specialName)
        else { return VirtualAddress(0) }
        return name
      }, limit: 64)
    for index in areas.indices {
      do throws(MemoryFault) {
        let first = try areas.pointer(index, start)
        let last = try areas.pointer(index, end)
        guard first < last else {
          throw MemoryFault(.virtual(areas.addresses[index]), .inconsistent("a mapping from \(first) to \(last)"))
        }
        let file = try opened[index]?.get()
        var name = try specialNames[index].get()
        if let file { name = file.name.display }
        if name.isEmpty {
          if first.rawValue <= heap.end, last.rawValue >= heap.start {
            name = Array("[heap]".utf8)
          } else if first.rawValue <= stack, last.rawValue >= stack {
            name = Array("[stack]".utf8)
          }
        }
        let flags = try areas.load(index, flags)
        table.mappings.append(
          MemoryMapping(
            range: first..<last, permissions: Self.permissions(flags),
            offset: file == nil ? 0 : try areas.load(index, pageOffset) &* 4096, major: (file?.device ?? 0) >> 20,
            minor: (file?.device ?? 0) & 0xfffff, inode: file?.inode ?? 0, name: name))
      } catch {
        table.faults.append(error)
      }
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
    return try reader(MappingReader.self).read(task: task.address, in: addressSpace)
  }
}
