import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The files of /sys/block/NAME/queue: what a disk can do, and how its requests are ordered.
///
/// Source: block/blk-sysfs.c; block/elevator.c, `elv_iosched_show`.
struct DiskQueue: KernelReader {
  static let subject = "the queues of disks"

  private struct Queue: KernelShape {
    static let type = "request_queue"
    let flags = Field<UInt64>("queue_flags"), operations = Field<VirtualAddress?>("mq_ops")
    let scheduler = Field<VirtualAddress?>("elevator"), requests = Field<UInt64>("nr_requests")
    let set = Field<VirtualAddress>("tag_set")
    let logical = Field<UInt32>("limits.logical_block_size"), physical = Field<UInt32>("limits.physical_block_size")
    let least = Field<UInt32>("limits.io_min"), best = Field<UInt32>("limits.io_opt")
    let discardUnit = Field<UInt32>("limits.discard_granularity")
    let discardMost = Field<UInt32>("limits.max_discard_sectors")
    let discardPossible = Field<UInt32>("limits.max_hw_discard_sectors")
    let zeroesMost = Field<UInt32>("limits.max_write_zeroes_sectors")
    let most = Field<UInt32>("limits.max_sectors"), possible = Field<UInt32>("limits.max_hw_sectors")
    let segments = Field<UInt16>("limits.max_segments"), segmentSize = Field<UInt32>("limits.max_segment_size")
    // Flags of the queue until 6.10.
    let features = Field<UInt64>(optional: "limits.features")
    let timeout = Field<UInt32>("rq_timeout")
  }

  private struct Scheduler: KernelShape {
    static let type = "elevator_queue"
    let kind = Field<VirtualAddress>("type")
  }

  private struct SchedulerKind: KernelShape {
    static let type = "elevator_type"
    let link = Place("list"), name = Field<VirtualAddress>("elevator_name")
  }

  private struct TagSet: KernelShape {
    static let type = "blk_mq_tag_set"
    let flags = Field<UInt64>("flags")
  }

  private let queue: Bound<Queue>, scheduler: Bound<Scheduler>, kind: Bound<SchedulerKind>, set: Bound<TagSet>
  private let kinds: VirtualAddress
  private let withoutScheduler: UInt64

  init(kernel: Kernel) throws {
    (queue, scheduler, kind, set) = try kernel.types.bind()
    kinds = try kernel.symbol("elv_list", for: Self.self)
    withoutScheduler = kernel.types.enumerator("BLK_MQ_F_NO_SCHED").map { UInt64(bitPattern: $0) } ?? 1 << 6
  }

  func entries(_ address: VirtualAddress, _ kernel: Kernel) throws -> [ShadowNode.Entry] {
    @Sendable func own() -> Reading<Queue> { kernel.addressSpace.read(queue, at: [address])[0] }
    func file(_ name: String, _ make: @escaping @Sendable (Reading<Queue>) throws -> String) -> ShadowNode.Entry {
      .init(name: name, node: .file { Array((try make(own()) + "\n").utf8) })
    }
    /// A feature by its bit since 6.11, and by that of the queue's flags before.
    @Sendable func has(_ own: Reading<Queue>, _ bit: UInt64, _ older: UInt64) throws -> Bool {
      try own.shape.features.isPresent ? own.features >> bit & 1 != 0 : own.flags >> older & 1 != 0
    }
    return [
      // BLK_FEAT_ROTATIONAL, and QUEUE_FLAG_NONROT.
      file("rotational") { own in
        own.shape.features.isPresent ? try has(own, 2, 0) ? "1" : "0" : try own.flags >> 6 & 1 != 0 ? "0" : "1"
      },
      // BLK_FEAT_ADD_RANDOM, QUEUE_FLAG_ADD_RANDOM.
      file("add_random") { try has($0, 3, 10) ? "1" : "0" },
      // BLK_FEAT_WRITE_CACHE, QUEUE_FLAG_WC.
      file("write_cache") { try has($0, 0, 17) ? "write back" : "write through" },
      file("logical_block_size") { "\(try $0.logical)" }, file("hw_sector_size") { "\(try $0.logical)" },
      file("physical_block_size") { "\(try $0.physical)" }, file("minimum_io_size") { "\(try $0.least)" },
      file("optimal_io_size") { "\(try $0.best)" }, file("discard_granularity") { "\(try $0.discardUnit)" },
      file("discard_max_bytes") { "\(UInt64(try $0.discardMost) << 9)" },
      file("discard_max_hw_bytes") { "\(UInt64(try $0.discardPossible) << 9)" },
      file("discard_zeroes_data") { _ in "0" },
      file("write_zeroes_max_bytes") { "\(UInt64(try $0.zeroesMost) << 9)" },
      file("max_sectors_kb") { "\(try $0.most >> 1)" }, file("max_hw_sectors_kb") { "\(try $0.possible >> 1)" },
      file("max_segments") { "\(try $0.segments)" }, file("max_segment_size") { "\(try $0.segmentSize)" },
      file("nr_requests") { "\(try $0.requests & 0xffff_ffff)" },
      file("scheduler") { try schedulers($0, kernel) },
    ]
  }

  /// The schedulers that there are, the one in use in brackets.
  private func schedulers(_ own: Reading<Queue>, _ kernel: Kernel) throws -> String {
    let space = kernel.addressSpace
    guard try own.operations != nil, try space.read(set, at: [own.set])[0].flags & withoutScheduler == 0 else {
      return "none"
    }
    let chosen = try own.scheduler.map { try space.read(scheduler, at: [$0])[0].kind }
    var faults: [MemoryFault] = []
    let all = space.list(of: kind, through: \.link, head: kinds, limit: 1024, &faults)
    if let fault = faults.first { throw fault }
    let names = space.strings(at: all.pointers(\.name), limit: 64)
    var words = [chosen == nil ? "[none]" : "none"]
    for (item, name) in zip(all, names) {
      let text = String(decoding: try name.get(), as: UTF8.self)
      words.append(item.address == chosen ? "[\(text)]" : text)
    }
    return words.joined(separator: " ") + " "
  }
}

/// Which disks are made of which: device mapper and RAID.
///
/// Source: block/holder.c.
struct DiskHolders: KernelReader {
  static let subject = "the disks that others are made of"

  private struct Disk: KernelShape {
    static let type = "gendisk"
    let slaves = Place(optional: "slave_bdevs")
  }

  private struct Holder: KernelShape {
    static let type = "bd_holder_disk"
    let link = Place("list"), directory = Field<VirtualAddress>("holder_dir")
  }

  private struct Object: KernelShape {
    static let type = "kobject"
    let name = Field<VirtualAddress>("name"), parent = Field<VirtualAddress>("parent")
  }

  private let disk: Bound<Disk>, holder: Bound<Holder>?, object: Bound<Object>

  init(kernel: Kernel) throws {
    disk = try Bound(kernel.types)
    holder = try? Bound(kernel.types)
    object = try Bound(kernel.types)
  }

  /// Of each of `disks` the names of those that it is made of.
  func slaves(
    of disks: [(name: [UInt8], address: VirtualAddress)], _ kernel: Kernel
  ) throws -> [[UInt8]: [[UInt8]]] {
    let space = kernel.addressSpace
    guard disk.slaves.isPresent, let holder else { return [:] }
    var faults: [MemoryFault] = []
    let (owners, holders) = space.lists(
      of: holder, through: \.link, heads: disks.map { $0.address + disk.slaves.offset }, limit: 1 << 16, &faults)
    if let fault = faults.first { throw fault }
    // The directory "holders" lies in that of the disk.
    let parents = space.read(object, at: holders.pointers(\.directory)).pointers(\.parent)
    let names = space.strings(at: space.read(object, at: parents).pointers(\.name), limit: 64)
    var slaves: [[UInt8]: [[UInt8]]] = [:]
    for (owner, name) in zip(owners, names) { slaves[disks[owner].name, default: []].append(try name.get()) }
    return slaves
  }
}
