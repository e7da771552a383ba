import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// How much a file system holds, as statfs(2) says it.
public struct FileSystemRoom: Sendable {
  /// What kind it is, as include/uapi/linux/magic.h numbers them.
  public var magic: UInt64
  /// Bytes of a block, in which the next three are counted.
  public var blockSize: UInt64
  public var blocks, freeBlocks: UInt64
  /// Without those that are kept for root.
  public var availableBlocks: UInt64
  public var files, freeFiles: UInt64
  /// The longest name of a file, in bytes.
  public var longestName: UInt64 = 255
}

/// Reads it of those file systems whose counting is known: those in memory, ext4, those that count nothing, and overlays of these.
///
/// Source: fs/libfs.c, `simple_statfs`; mm/shmem.c, `shmem_statfs`; fs/ext4/super.c, `ext4_statfs`; fs/overlayfs/super.c,
/// `ovl_statfs`.
struct FileSystemRoomReader: KernelReader {
  static let subject = "how full file systems are"

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list"), device = Field<UInt64>("s_dev"), own = Field<VirtualAddress>("s_fs_info")
    let operations = Field<VirtualAddress>("s_op"), magic = Field<UInt64>("s_magic")
    let blockSize = Field<UInt64>("s_blocksize"), type = Field<VirtualAddress>("s_type")
  }

  private struct Operations: KernelShape {
    static let type = "super_operations"
    let statistics = Field<VirtualAddress>("statfs")
  }

  private struct Counter: KernelShape {
    static let type = "percpu_counter"
    let count = Field<Int64>("count"), own = Field<VirtualAddress>("counters")
  }

  private struct SharedMemory: KernelShape {
    static let type = "shmem_sb_info"
    let blocks = Field<UInt64>("max_blocks"), used = Place("used_blocks"), files = Field<UInt64>("max_inodes")
    // In bytes, of which a file takes 1,024, from 6.6 on.
    let free = Field<UInt64>("free_ispace", before: "6.6, e07c469e979d", "free_inodes")
    let isSpace = Place(optional: "free_ispace")
  }

  private struct Ext4: KernelShape {
    static let type = "ext4_sb_info"
    let onDisk = Field<VirtualAddress>("s_es"), clusterBits = Field<UInt64>("s_cluster_bits")
    let overhead = Field<UInt64>("s_overhead"), reserved = Field<UInt64>("s_resv_clusters.counter")
    let free = Place("s_freeclusters_counter"), dirty = Place("s_dirtyclusters_counter")
    let freeFiles = Place("s_freeinodes_counter"), options = Field<UInt64>("s_mount_opt")
  }

  private struct Ext4OnDisk: KernelShape {
    static let type = "ext4_super_block"
    let files = Field<UInt32>("s_inodes_count")
    let blocks = Field<UInt32>("s_blocks_count_lo"), blocksHigh = Field<UInt32>("s_blocks_count_hi")
    let reserved = Field<UInt32>("s_r_blocks_count_lo"), reservedHigh = Field<UInt32>("s_r_blocks_count_hi")
    let features = Field<UInt32>("s_feature_incompat")
  }

  private struct Overlay: KernelShape {
    static let type = "ovl_fs"
    let layers = Field<VirtualAddress>("layers"), count = Field<UInt32>("numlayer")
  }

  private struct Layer: KernelShape {
    static let type = "ovl_layer"
    let mount = Field<VirtualAddress>("mnt")
  }

  private struct Mount: KernelShape {
    static let type = "vfsmount"
    let system = Field<VirtualAddress>("mnt_sb")
  }

  private struct FileSystemType: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name")
  }

  /// What ext4's driver serves.
  private static let overlayName = Array("overlay".utf8)
  private static let ext4Names = ["ext2", "ext3", "ext4"].map { Array($0.utf8) }

  private enum Kind { case simple, sharedMemory, ext4 }

  private let superBlock: Bound<SuperBlock>, operations: Bound<Operations>, counter: Bound<Counter>
  private let type: Bound<FileSystemType>
  /// Whether ext4 is part of the kernel itself.
  private let hasExt4: Bool
  private let sharedMemory: Bound<SharedMemory>?
  private let supers: VirtualAddress
  private let kinds: [VirtualAddress: Kind]

  init(kernel: Kernel) throws {
    (superBlock, operations, counter, type) = try kernel.types.bind()
    hasExt4 = kernel.symbols.address(of: "ext4_statfs") != nil
    sharedMemory = try? Bound(kernel.types)
    supers = try kernel.symbol("super_blocks", for: Self.self)
    var kinds: [VirtualAddress: Kind] = [:]
    let functions = [
      ("simple_statfs", Kind.simple), ("kernfs_statfs", .simple), ("shmem_statfs", .sharedMemory),
      ("ext4_statfs", .ext4),
    ]
    for (name, kind) in functions {
      for address in kernel.symbols.addresses(of: name) { kinds[address] = kind }
    }
    self.kinds = kinds
  }

  /// By the numbers of their devices.
  ///
  /// Cost: four round trips, and where there is an ext4 whose module brings its types, that of reading these.
  func read(_ kernel: Kernel) throws -> [UInt64: FileSystemRoom] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    // No host mounts as many.
    let supers = space.list(of: superBlock, through: \.link, head: supers, limit: 1 << 18, &faults)
    if let fault = faults.first { throw fault }
    let functions = space.read(operations, at: supers.pointers(\.operations)).pointers(\.statistics)
    // A module's functions are known by whose they are.
    let names = space.strings(at: space.read(type, at: supers.pointers(\.type)).pointers(\.name))
    var rooms: [UInt64: FileSystemRoom] = [:]
    var ext4: [(device: UInt64, own: VirtualAddress, blockSize: UInt64)] = []
    for block in supers {
      let (device, own) = (try block.device, try block.own)
      let name = try names[block.index].get()
      let kind = kinds[functions[block.index]] ?? (Self.ext4Names.contains(name) && !hasExt4 ? .ext4 : nil)
      switch kind {
      case .simple:
        rooms[device] = FileSystemRoom(
          magic: try block.magic, blockSize: 4096, blocks: 0, freeBlocks: 0, availableBlocks: 0, files: 0, freeFiles: 0)
      case .sharedMemory:
        if let sharedMemory {
          rooms[device] = try room(space.read(sharedMemory, at: [own])[0], try block.magic, kernel)
        }
      case .ext4: ext4.append((device, own, try block.blockSize))
      case nil: break
      }
    }
    let overlays = supers.filter { (try? names[$0.index].get()) == Self.overlayName }
    let types = ext4.isEmpty && overlays.isEmpty ? nil : try kernel.typesWithModules().types
    if !ext4.isEmpty, let types {
      let (shape, onDisk): (Bound<Ext4>, Bound<Ext4OnDisk>) = try (Bound(types), Bound(types))
      for (device, own, blockSize) in ext4 {
        let system = space.read(shape, at: [own])[0]
        rooms[device] = try room(system, space.read(onDisk, at: [try system.onDisk])[0], blockSize, kernel)
      }
    }
    // An overlay has the room of its uppermost layer; overlays on overlays come after what they lie on.
    if let types, let shape: Bound<Overlay> = try? Bound(types), let layer: Bound<Layer> = try? Bound(types) {
      for block in overlays {
        let own = space.read(shape, at: [try block.own])[0]
        let layers = space.read(layer, at: layer.array(at: try own.layers, count: UInt64(try own.count), limit: 512))
        guard let first = layers.pointers(\.mount).first(where: { $0.rawValue != 0 }) else { continue }
        let system = try kernel.read(Mount.self, at: [first])[0].system
        guard var room = rooms[try space.read(superBlock, at: [system])[0].device] else { continue }
        room.magic = try block.magic
        rooms[try block.device] = room
      }
    }
    return rooms
  }

  private func room(
    _ own: Reading<SharedMemory>, _ magic: UInt64, _ kernel: Kernel
  ) throws -> FileSystemRoom {
    let (blocks, files) = (try own.blocks, try own.files)
    let used = blocks == 0 ? 0 : try sum(own.address(of: \.used), kernel)
    let free = blocks &- min(blocks, used)
    let freeFiles = files == 0 ? 0 : try own.shape.isSpace.isPresent ? own.free / 1024 : own.free
    return FileSystemRoom(
      magic: magic, blockSize: 4096, blocks: blocks, freeBlocks: free, availableBlocks: free, files: files,
      freeFiles: freeFiles)
  }

  private func room(
    _ own: Reading<Ext4>, _ disk: Reading<Ext4OnDisk>, _ blockSize: UInt64, _ kernel: Kernel
  ) throws -> FileSystemRoom {
    // EXT4_FEATURE_INCOMPAT_64BIT is 0x80, EXT4_MOUNT_MINIX_DF 0x80 of the options.
    let isLong = try disk.features & 0x80 != 0
    let blocks = UInt64(try disk.blocks) | (isLong ? UInt64(try disk.blocksHigh) << 32 : 0)
    let shift = min(63, try own.clusterBits)
    let kept = UInt64(try disk.reserved) | (isLong ? UInt64(try disk.reservedHigh) << 32 : 0)
    let reserved = kept &+ (try own.reserved &<< shift)
    let overhead = try own.options & 0x80 != 0 ? 0 : try own.overhead &<< shift
    let (free, dirty) = (try sum(own.address(of: \.free), kernel), try sum(own.address(of: \.dirty), kernel))
    let left = (free &- min(free, dirty)) &<< shift
    return FileSystemRoom(
      magic: 0xef53, blockSize: blockSize, blocks: blocks &- min(blocks, overhead), freeBlocks: left,
      availableBlocks: left &- min(left, reserved), files: UInt64(try disk.files),
      freeFiles: try sum(own.address(of: \.freeFiles), kernel))
  }

  /// A counter, with what CPUs have not yet added.
  private func sum(_ address: VirtualAddress, _ kernel: Kernel) throws -> UInt64 {
    let space = kernel.addressSpace
    let counter = space.read(counter, at: [address])[0]
    let own = try counter.own
    var batch = ReadBatch<VirtualAddress>()
    let cpus = try kernel.cpus()
    for cpu in cpus { batch.add(cpu.address(of: own), count: 4) }
    space.read(&batch)
    var sum = try counter.count
    for index in cpus.indices { sum &+= Int64(try batch.reader(index).load(0, as: Int32.self)) }
    return UInt64(max(0, sum))
  }
}

extension Kernel {
  /// How much each file system holds, by the number of its device; those whose counting is not known are missing.
  ///
  /// Cost: some round trips, and where there is an ext4 whose module brings its types, that of reading these.
  public func fileSystemRooms() throws(KernelError) -> [UInt64: FileSystemRoom] {
    let reader = try reader(FileSystemRoomReader.self)
    return try KernelError.reading(FileSystemRoomReader.subject) { try reader.read(self) }
  }
}
