import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The areas of a process's memory, with what /proc/PID/smaps says of each beside its pages.
///
/// Source: include/linux/mm_types.h, `vm_area_struct`.
struct MappedAreas: KernelReader {
  static let subject = "the areas of memory"

  struct Area {
    var range: Range<UInt64>
    var flags: UInt64
    /// Where in its file it begins, in pages.
    var offset: UInt64
    /// Whether nothing but zeros lies behind it.
    var isAnonymous: Bool
    var policy: VirtualAddress
    var file: File?
  }

  struct File {
    var mode: UInt16
    var size: Int64
    var isBeingWritten: Bool
    /// Of a file system in memory: pages that were swapped out, and how it takes huge pages.
    var swapped: UInt64?
    var hugePages: Int8
    /// Of hugetlbfs: how many pages of 4 KiB a page has, as a power of two.
    var order: UInt64?
    /// Whether large pages may be made of what is read of it (CONFIG_READ_ONLY_THP_FOR_FS).
    var mayBeLarge: Bool
  }

  private struct Space: KernelShape {
    static let type = "mm_struct"
    let root = Field<VirtualAddress>("pgd"), tree = Place(optional: "mm_mt"), list = Place(optional: "mmap")
  }

  private struct Memory: KernelShape {
    static let type = "vm_area_struct"
    let start = Field<UInt64>("vm_start"), end = Field<UInt64>("vm_end"), flags = Field<UInt64>("vm_flags")
    let offset = Field<UInt64>("vm_pgoff"), operations = Field<VirtualAddress>("vm_ops")
    let file = Field<VirtualAddress>("vm_file"), policy = Field<VirtualAddress?>(optional: "vm_policy")
    let next = Place(optional: "vm_next")
  }

  private struct OpenFile: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let mode = Field<UInt16>("i_mode"), size = Field<Int64>("i_size"), writers = Field<Int32>("i_writecount.counter")
    let superBlock = Field<VirtualAddress>("i_sb"), operations = Field<VirtualAddress>("i_data.a_ops")
    let largePages = Place(optional: "i_data.nr_thps")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let own = Field<VirtualAddress>("s_fs_info")
  }

  private struct SharedFile: KernelShape {
    static let type = "shmem_inode_info"
    let inode = Place("vfs_inode"), swapped = Field<UInt64>("swapped")
  }

  private struct SharedSystem: KernelShape {
    static let type = "shmem_sb_info"
    let huge = Field<Int8>(optional: "huge")
  }

  private struct HugeSystem: KernelShape {
    static let type = "hugetlbfs_sb_info"
    let kind = Field<VirtualAddress>("hstate")
  }

  private struct HugeKind: KernelShape {
    static let type = "hstate"
    let order = Field<UInt32>("order")
  }

  private let space: Bound<Space>, memory: Bound<Memory>, file: Bound<OpenFile>, inode: Bound<Inode>
  private let superBlock: Bound<SuperBlock>
  private let shared: Bound<SharedFile>?, sharedSystem: Bound<SharedSystem>?
  private let hugeSystem: Bound<HugeSystem>?, hugeKind: Bound<HugeKind>?
  private let tree: MapleTree?
  private let sharedOperations: Set<VirtualAddress>

  /// VM_HUGETLB, from include/linux/mm.h.
  static let hugetlb: UInt64 = 0x40_0000

  init(kernel: Kernel) throws {
    let types = kernel.types
    (space, memory, file, inode, superBlock) = try types.bind()
    shared = try? Bound(types)
    sharedSystem = try? Bound(types)
    hugeSystem = try? Bound(types)
    hugeKind = try? Bound(types)
    // A list in the order of addresses until 6.0.
    tree = space.tree.isPresent ? try MapleTree(types: types) : nil
    sharedOperations = Set(kernel.symbols.addresses(of: "shmem_aops"))
  }

  /// More areas than a process may have (`max_map_count` is 65,530 unless it was raised).
  private static let limit = 1 << 20

  /// The areas of the `mm_struct` at `address`, in ascending order, and its root page table.
  ///
  /// - Throws: where not all of it can be read.
  func read(_ address: VirtualAddress, _ kernel: Kernel) throws -> (areas: [Area], root: VirtualAddress) {
    let space = kernel.addressSpace
    let root = try space.read(self.space, at: [address])[0].root
    var faults: [MemoryFault] = []
    let places: [VirtualAddress]
    if let tree {
      let found = tree.entries(at: address + self.space.tree.offset, in: space, limit: Self.limit)
      (places, faults) = (found.entries.sorted { $0.first < $1.first }.map(\.value), found.faults)
    } else {
      let found = ListWalker(space: space, form: .nullTerminated, next: memory.next.offset, limit: Self.limit)
        .members(ofHeads: [address + self.space.list.offset])
      (places, faults) = (found.lists.first ?? [], found.faults)
    }
    if let fault = faults.first { throw fault }
    let areas = space.read(memory, at: places)
    let files = try files(of: areas.pointers(\.file), kernel)
    var end: UInt64 = 0
    return (
      try areas.map { area in
        let (first, last) = (try area.start, try area.end)
        guard first >= end, first < last, first & 4095 == 0, last & 4095 == 0, last <= 1 << 56 else {
          throw MemoryFault(.virtual(area.address), .inconsistent("an area from \(first) to \(last)"))
        }
        end = last
        return Area(
          range: first..<last, flags: try area.flags, offset: try area.offset,
          isAnonymous: try area.operations.rawValue == 0, policy: try area.policy ?? VirtualAddress(0),
          file: files[try area.file])
      }, root
    )
  }

  private func files(of addresses: [VirtualAddress], _ kernel: Kernel) throws -> [VirtualAddress: File] {
    let space = kernel.addressSpace
    let open = space.read(file, at: Array(Set(addresses.filter { $0.rawValue != 0 })))
    let inodes = space.read(inode, at: open.pointers(\.inode))
    let own = space.read(superBlock, at: inodes.pointers(\.superBlock)).pointers(\.own)
    func isShared(_ index: Int) throws -> Bool { sharedOperations.contains(try inodes[index].operations) }
    let sharedFiles = try shared.map { shared in
      space.read(
        shared, at: try inodes.map { try isShared($0.index) ? $0.address - shared.inode.offset : VirtualAddress(0) })
    }
    let sharedSystems = try sharedSystem.map { system in
      space.read(system, at: try inodes.map { try isShared($0.index) ? own[$0.index] : VirtualAddress(0) })
    }
    // Where it is none of hugetlbfs this is nothing, and is not looked at.
    let kinds = hugeSystem.flatMap { system in
      hugeKind.map { space.read($0, at: space.read(system, at: own).pointers(\.kind)) }
    }
    var files: [VirtualAddress: File] = [:]
    for (index, file) in open.enumerated() {
      let inode = inodes[index]
      let isShared = try isShared(index)
      files[file.address] = File(
        mode: try inode.mode, size: try inode.size, isBeingWritten: try inode.writers > 0,
        swapped: isShared ? try sharedFiles?[index].swapped : nil,
        hugePages: isShared ? try sharedSystems?[index].huge ?? 0 : 0,
        order: kinds.flatMap { try? UInt64($0[index].order) }, mayBeLarge: self.inode.largePages.isPresent)
    }
    return files
  }
}
