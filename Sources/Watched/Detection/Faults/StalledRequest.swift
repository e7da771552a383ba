import Binding
import KernelInfo
public import KernelViews
import Memory

/// A disk does not answer.
public struct StalledRequest: Detector {
  public static let name = "io-stall"
  public static let kind = Finding.Kind.fault
  public static let summary = "A disk has taken requests and does not answer them."
  public static let rule = """
    A request in a disk's blk_mq_tags.rqs is in flight (MQ_RQ_IN_FLIGHT) and was given to the driver 5 s (a notice) or 10 s (a \
    warning) ago, which is its deadline less its timeout; the same request and sector in both looks.
    """
  public static let looksLike = """
    Discards, formats and commands of programs take their time: reads, writes and flushes only are judged. Drivers without a \
    handler of timeouts put the deadline off every 30 s: the age is that since then, and never more than it is.
    """
  public static let remedy = """
    Look at the disk, its cable or what it is served by: grassctl dmesg. Tasks that wait for it cannot be killed; do not reboot \
    before what is dirty was saved elsewhere.
    """
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let notice = 5.0
  private static let warning = 10.0

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.requests()
    var disks: [[UInt8]: [DiskRequest]] = [:]
    // Operations 0, 1 and 2 are read, write and flush (include/linux/blk_types.h).
    for request in table.requests where request.age >= notice && request.operation <= 2 {
      disks[request.disk, default: []].append(request)
    }
    let sightings = disks.map { disk, requests -> Sighting in
      let requests = requests.sorted { $0.address < $1.address }
      let oldest = requests.map(\.age).max() ?? 0
      let what = ["read", "write", "flush"][Int(requests[0].operation)]
      let count = requests.count == 1 ? "a \(what)" : "\(requests.count) requests"
      return Sighting(
        [.disk(disk)], oldest >= warning ? .warning : .notice, .strong,
        "disk \(disk.printable) has not answered \(count) for \(Text.seconds(UInt64(oldest * 1e9))) s",
        evidence: requests.prefix(4).map {
          .init(
            "a request in flight", at: $0.address,
            seen: "operation \($0.operation) of sector \($0.sector), tag \($0.tag)",
            expected: "an answer")
        }, persists: requests.flatMap { [$0.address.rawValue, $0.sector] })
    }
    return Sightings(sightings, faults: table.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name
      && effect.evidence.contains { evidence in
        ["io_schedule", "submit_bio_wait", "blk_"].contains { evidence.seen?.contains($0) == true }
      }
  }
}

/// A request that a driver was given and has not answered.
struct DiskRequest: Sendable {
  var address: VirtualAddress
  var disk: [UInt8]
  var operation: UInt64
  var sector: UInt64
  var tag: Int32
  /// Seconds since the driver was given it.
  var age: Double
}

struct DiskRequestTable: Faulted {
  var requests: [DiskRequest] = []
  var faults: [MemoryFault] = []
}

/// Reads the requests in flight of all disks.
///
/// ```
/// blockdev_superblock → inode … → block_device → gendisk → request_queue → blk_mq_tag_set → blk_mq_tags → request …
/// ```
/// Source: block/blk-mq.c, `blk_mq_start_request`; block/blk-mq-tag.c, `bt_tags_iter`.
private struct DiskRequestReader: SettledReader {
  static let subject = "the requests of disks"

  struct SuperBlock: KernelShape {
    static let type = "super_block"
    let inodes = Place("s_inodes")
  }

  struct Inode: KernelShape {
    static let type = "inode"
    let link = Place("i_sb_list")
  }

  struct Device: KernelShape {
    static let type = "bdev_inode"
    let inode = Place("vfs_inode")
    let disk = Field<VirtualAddress>("bdev.bd_disk")
  }

  struct Disk: KernelShape {
    static let type = "gendisk"
    let name = Field<[UInt8]>("disk_name")
    let queue = Field<VirtualAddress>("queue")
  }

  struct Queue: KernelShape {
    static let type = "request_queue"
    let tags = Field<VirtualAddress>("tag_set")
  }

  struct TagSet: KernelShape {
    static let type = "blk_mq_tag_set"
    let count = Field<UInt32>("nr_hw_queues")
    let tags = Field<VirtualAddress>("tags")
  }

  struct Tags: KernelShape {
    static let type = "blk_mq_tags"
    let count = Field<UInt32>("nr_tags")
    let requests = Field<VirtualAddress>("rqs")
  }

  struct Request: KernelShape {
    static let type = "request"
    let queue = Field<VirtualAddress>("q")
    let state = Field<UInt32>("state")
    let deadline = Field<UInt64>("deadline")
    let timeout = Field<UInt32>("timeout")
    let flags = Field<UInt32>("cmd_flags")
    let sector = Field<UInt64>("__sector")
    let tag = Field<Int32>("tag")
  }

  let superBlock: Bound<SuperBlock>, inode: Bound<Inode>, device: Bound<Device>, disk: Bound<Disk>
  let queue: Bound<Queue>, tagSet: Bound<TagSet>, tags: Bound<Tags>, request: Bound<Request>
  let devices: VirtualAddress
  let ticks: VirtualAddress
  let clock: ClockReader
  let inFlight: UInt32

  /// Tags of one set, and hardware queues: BLK_MQ_MAX_DEPTH is 10,240, and queues are one for each CPU at most.
  private static let mostTags: UInt32 = 1 << 14
  private static let mostQueues: UInt32 = 1 << 13
  /// Hardware queues of all disks, and requests.
  private static let mostArrays = 1 << 16
  private static let most = 1 << 20

  init(kernel: Kernel) throws {
    let types = kernel.types
    (superBlock, inode, device, disk) = try types.bind()
    (queue, tagSet, tags, request) = try types.bind()
    devices = try kernel.symbol("blockdev_superblock", for: Self.self)
    ticks = try kernel.symbol("jiffies_64", for: Self.self)
    clock = try ClockReader(kernel: kernel)
    inFlight = types.enumerator("MQ_RQ_IN_FLIGHT").map { UInt32(truncatingIfNeeded: $0) } ?? 1
  }

  func read(_ kernel: Kernel) throws -> DiskRequestTable {
    let space = kernel.addressSpace
    var table = DiskRequestTable()
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    space.read(&batch)
    let length = Double(try clock.readTick(record, batch).nanosecondsPerTick) / 1e9
    let now = try space.load(ticks, as: UInt64.self)

    let head = try space.pointer(at: devices) + superBlock.inodes.offset
    let inodes = space.members(of: inode, through: \.link, heads: [head], limit: 1 << 16, &table.faults)
    let places = (inodes.first ?? []).map { $0 - device.inode.offset }
    let disks = Array(Set(space.read(device, at: places).pointers(\.disk).filter { $0.rawValue != 0 })).sorted()
    var names: [VirtualAddress: [UInt8]] = [:]
    space.read(disk, at: disks).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let queue = try reading.queue
      if queue.rawValue != 0 { names[queue] = try reading.name }
    }
    // Disks without a set hand on what they are given to others.
    let sets = Set(space.read(queue, at: names.keys.sorted()).pointers(\.tags).filter { $0.rawValue != 0 }).sorted()
    var arrays: [VirtualAddress] = []
    space.read(tagSet, at: sets).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let count = try reading.count
      guard count <= Self.mostQueues, arrays.count <= Self.mostArrays else {
        throw MemoryFault(.virtual(reading.address), .inconsistent("a disk of \(count) queues"))
      }
      arrays += try space.pointers(inArrayAt: try reading.tags, count: Int(count)).filter { $0.rawValue != 0 }
    }
    var found: [VirtualAddress] = []
    space.read(tags, at: Array(Set(arrays)).sorted()).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let count = try reading.count
      guard count <= Self.mostTags, found.count <= Self.most else {
        throw MemoryFault(.virtual(reading.address), .inconsistent("a queue of \(count) requests"))
      }
      found += try space.pointers(inArrayAt: try reading.requests, count: Int(count)).filter { $0.rawValue != 0 }
    }
    space.read(request, at: Array(Set(found)).sorted()).forEach(&table.faults) { (reading) throws(MemoryFault) in
      guard try reading.state == inFlight, let name = names[try reading.queue] else { return }
      let start = try reading.deadline &- UInt64(try reading.timeout)
      let passed = Int64(bitPattern: now &- start)
      table.requests.append(
        DiskRequest(
          address: reading.address, disk: name, operation: UInt64(try reading.flags & 0xff), sector: try reading.sector,
          tag: try reading.tag, age: Double(max(0, passed)) * length))
    }
    return table
  }
}

extension Look {
  /// The requests that disks have not answered.
  func requests() throws(KernelError) -> DiskRequestTable {
    try once("requests") { kernel throws(KernelError) in try kernel.read(DiskRequestReader.self) }
  }
}
