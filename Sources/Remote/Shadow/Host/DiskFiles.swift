import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/partitions and /proc/diskstats.
///
/// Source: block/genhd.c, `show_partition` and `diskstats_show`; drivers/base/class.c. Kernels before 5.11 keep disks in other
/// structs.
struct DiskFiles: KernelReader {
  static let subject = "the disks"

  private struct Class: KernelShape {
    static let type = "class"
    // The struct of the class's devices, until 6.4.
    let own = Field<VirtualAddress?>(optional: "p")
  }

  private struct Subsystem: KernelShape {
    static let type = "subsys_private"
    let object = Place("subsys.kobj.entry"), devices = Place("klist_devices.k_list")
    let about = Field<VirtualAddress>("class")
  }

  private struct KSet: KernelShape {
    static let type = "kset"
    let members = Place("list")
  }

  private struct Member: KernelShape {
    static let type = "device_private"
    let link = Place("knode_class.n_node"), device = Field<VirtualAddress>("device")
  }

  private struct Block: KernelShape {
    static let type = "block_device"
    let device = Place("bd_device"), number = Field<UInt64>("bd_dev"), sectors = Field<UInt64>("bd_nr_sectors")
    // Eight bits of its flags from 6.10 on.
    let part = Field<UInt64>("bd_partno", before: "6.10", "__bd_flags.counter")
    let disk = Field<VirtualAddress>("bd_disk"), statistics = Field<VirtualAddress>("bd_stats")
    let start = Field<UInt64>("bd_start_sect"), isReadOnly = Field<Bool>(optional: "bd_read_only")
  }

  private struct Disk: KernelShape {
    static let type = "gendisk"
    let name = Field<[UInt8]>("disk_name"), flags = Field<UInt64>("flags"), queue = Field<VirtualAddress>("queue")
    let parts = Field<VirtualAddress>("part_tbl.xa_head"), state = Field<UInt64>("state")
  }

  private struct Statistics: KernelShape {
    static let type = "disk_stats"
    let nanoseconds = Field<[UInt64]>("nsecs"), sectors = Field<[UInt64]>("sectors"), requests = Field<[UInt64]>("ios")
    let merges = Field<[UInt64]>("merges"), busy = Field<UInt64>("io_ticks"), waiting = Field<RawBytes>("in_flight")
  }

  private struct Queue: KernelShape {
    static let type = "request_queue"
    let operations = Field<VirtualAddress?>("mq_ops"), contexts = Field<VirtualAddress?>(optional: "hctx_table.xa_head")
    // An array before 5.18, and again from 7.1 on.
    let array = Field<VirtualAddress?>(optional: "queue_hw_ctx"), count = Field<UInt32>("nr_hw_queues")
  }

  private struct Context: KernelShape {
    static let type = "blk_mq_hw_ctx"
    let tags = Field<VirtualAddress>("tags")
  }

  private struct Tags: KernelShape {
    static let type = "blk_mq_tags"
    let count = Field<UInt32>("nr_tags"), requests = Field<VirtualAddress>("rqs")
  }

  private struct Request: KernelShape {
    static let type = "request"
    let queue = Field<VirtualAddress>("q"), state = Field<UInt64>("state"), part = Field<VirtualAddress>("part")
  }

  /// A disk or a part of one.
  private struct Part {
    var block: Reading<Block>
    var disk: Reading<Disk>
    var name: [UInt8]
    var isPart: Bool
  }

  private let classes: Bound<Class>, subsystem: Bound<Subsystem>, kset: Bound<KSet>, member: Bound<Member>
  private let block: Bound<Block>, disk: Bound<Disk>, statistics: Bound<Statistics>
  private let queue: Bound<Queue>, context: Bound<Context>, tags: Bound<Tags>, request: Bound<Request>
  private let xarray: XArray
  private let blockClass: VirtualAddress
  private let hidden: UInt64

  /// More disks than a host has, and more requests of one queue.
  private static let limit = 1 << 16

  init(kernel: Kernel) throws {
    let types = kernel.types
    (classes, subsystem, kset, member) = try types.bind()
    (block, disk, statistics) = try types.bind()
    (queue, context, tags, request) = try types.bind()
    xarray = try XArray(types: types)
    blockClass = try kernel.symbol("block_class", for: Self.self)
    hidden = types.enumerator("GENHD_FL_HIDDEN").map { UInt64(bitPattern: $0) } ?? 0x400
  }

  /// /proc/partitions.
  func partitions(_ kernel: Kernel) throws -> [UInt8] {
    let parts = try parts(kernel)
    var text = ProcText()
    guard !parts.isEmpty else { return [] }
    text.line("major minor  #blocks  name\n")
    var isShown = false
    for part in parts {
      let sectors = try part.block.sectors
      if !part.isPart { isShown = try sectors != 0 && part.disk.flags & hidden == 0 }
      guard isShown, sectors != 0 else { continue }
      text.add("\(try Self.numbers(part.block, "  ")) \(ProcText.padded("\(sectors >> 1)", 10)) ")
      text.add(part.name)
      text.line("")
    }
    return text.bytes
  }

  /// Of each disk in /sys/block its name, its number, and its files; and below it those of its parts.
  ///
  /// Source: block/genhd.c, `disk_attrs`; block/partitions/core.c, `part_attrs`.
  func directories(_ kernel: Kernel) throws -> [(name: String, number: UInt64, entries: [ShadowNode.Entry])] {
    let all = try parts(kernel)
    let slaves = try kernel.reader(DiskHolders.self).slaves(
      of: all.filter { !$0.isPart }.map { ($0.name, $0.disk.address) }, kernel)
    return try all.enumerated().filter { !$0.element.isPart }.map { index, disk in
      let own = all[(index + 1)...].prefix { $0.isPart }
      let isHidden = try disk.disk.flags & hidden != 0
      // GENHD_FL_REMOVABLE.
      let isRemovable =
        try disk.disk.flags & UInt64(bitPattern: kernel.types.enumerator("GENHD_FL_REMOVABLE") ?? 1) != 0
      var entries = try common(disk, slaves, kernel)
      entries += [
        Self.file("removable") { isRemovable ? "1" : "0" }, Self.file("hidden") { isHidden ? "1" : "0" },
        .init(
          name: "slaves",
          node: .directory((slaves[disk.name] ?? []).map { .init(name: Self.text($0), node: .directory([])) })),
      ]
      let queue = try disk.disk.queue
      entries.append(.init(name: "queue", node: .directory(try kernel.reader(DiskQueue.self).entries(queue, kernel))))
      for part in own {
        let (start, number) = (try part.block.start, try part.block.part & 0xff)
        let node = ShadowNode.directory(
          try common(part, slaves, kernel)
            + [Self.file("start") { "\(start)" }, Self.file("partition") { "\(number)" }])
        entries.append(.init(name: Self.text(part.name), node: node))
      }
      return (Self.text(disk.name), try disk.block.number & 0xffff_ffff, entries)
    }
  }

  private static func text(_ name: [UInt8]) -> String { String(decoding: name, as: UTF8.self) }

  private static func file(_ name: String, _ make: @escaping @Sendable () throws -> String) -> ShadowNode.Entry {
    .init(name: name, node: .file { Array((try make() + "\n").utf8) })
  }

  /// What disks and their parts have in common.
  private func common(
    _ part: Part, _ slaves: [[UInt8]: [[UInt8]]], _ kernel: Kernel
  ) throws -> [ShadowNode.Entry] {
    let (number, sectors) = (try part.block.number & 0xffff_ffff, try part.block.sectors)
    // A byte of its own until 6.9, then bit 8 of its flags (BD_READ_ONLY); of a disk also bit 1 of its state (GD_READ_ONLY).
    let shape = part.block.shape
    let isLocked =
      try shape.isReadOnly.isPresent ? part.block.isReadOnly : part.block.part >> 8 & 1 != 0
    let isReadOnly = try isLocked || part.disk.state >> 1 & 1 != 0
    let holders = slaves.filter { $0.value.contains(part.name) }.keys.sorted { $0.lexicographicallyPrecedes($1) }
    return [
      Self.file("dev") { "\(number >> 20):\(number & 0xfffff)" }, Self.file("size") { "\(sectors)" },
      Self.file("ro") { isReadOnly ? "1" : "0" },
      Self.file("stat") {
        // The counters of /proc/diskstats, each with as much room as `part_stat_show` gives it.
        try self.columns(of: part, kernel).split(separator: " ").map { ProcText.padded(String($0), 8) }
          .joined(separator: " ")
      },
      .init(name: "holders", node: .directory(holders.map { .init(name: Self.text($0), node: .directory([])) })),
    ]
  }

  /// /proc/diskstats.
  func statistics(_ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText()
    for part in try parts(kernel) {
      if part.isPart, try part.block.sectors == 0 { continue }
      text.add("\(try Self.numbers(part.block, " ")) ")
      text.add(part.name)
      text.line(" \(try columns(of: part, kernel))")
    }
    return text.bytes
  }

  /// The counters of a disk or a part of one, as both files have them.
  private func columns(of part: Part, _ kernel: Kernel) throws -> String {
    let cpus = try kernel.cpus()
    let space = kernel.addressSpace
    let ticks = try kernel.ticksPerSecond()
    let variable = try part.block.statistics
    var sums = [[UInt64]](repeating: [0, 0, 0, 0], count: 4)
    var (busy, waiting): (UInt64, Int64) = (0, 0)
    for own in space.read(statistics, at: cpus.map { $0.address(of: variable) }) {
      for (index, counts) in [try own.requests, try own.merges, try own.sectors, try own.nanoseconds].enumerated() {
        for (kind, count) in counts.prefix(4).enumerated() { sums[index][kind] &+= count }
      }
      busy &+= try own.busy
      for word in try own.waiting.bytes.words { waiting &+= Int64(bitPattern: word) }
    }
    if let started = try started(of: part, in: space) { waiting = Int64(started) }
    func milliseconds(_ value: UInt64) -> UInt64 { value / 1_000_000 & 0xffff_ffff }
    func group(_ kind: Int) -> String {
      "\(sums[0][kind]) \(sums[1][kind]) \(sums[2][kind]) \(milliseconds(sums[3][kind]))"
    }
    let total = sums[3].reduce(0, &+)
    return "\(group(0)) \(group(1)) \(max(0, waiting)) \(busy &* 1000 / ticks) \(milliseconds(total)) \(group(2))"
      + " \(sums[0][3]) \(milliseconds(sums[3][3]))"
  }

  private static func numbers(_ block: Reading<Block>, _ blanks: String) throws -> String {
    // MINORBITS is 20.
    let number = try block.number & 0xffff_ffff
    return "\(ProcText.padded("\(number >> 20)", 4))\(blanks)\(ProcText.padded("\(number & 0xfffff)", 7))"
  }

  /// How many requests its drivers work on; nil where CPUs count those, as they do of queues of the old kind.
  ///
  /// Source: block/blk-mq.c, `blk_mq_check_in_flight`.
  private func started(of part: Part, in space: AddressSpace) throws -> Int? {
    let address = try part.disk.queue
    let own = space.read(queue, at: [address])[0]
    guard try own.operations != nil else { return nil }
    var contexts: [VirtualAddress] = []
    if let head = try own.contexts {
      let found = xarray.values(head: head, in: space, limit: Self.limit)
      if let fault = found.faults.first { throw fault }
      contexts = found.values
    } else if let array = try own.array {
      contexts = try space.pointers(inArrayAt: array, count: Int(min(own.count, UInt32(Self.limit))))
        .filter { $0.rawValue != 0 }
    }
    var requests: Set<VirtualAddress> = []
    let owners = Set(space.read(context, at: contexts).pointers(\.tags))
    for set in space.read(tags, at: Array(owners)) {
      let count = Int(min(try set.count, 1 << 16))
      requests.formUnion(
        try space.pointers(inArrayAt: try set.requests, count: count).filter { $0.rawValue != 0 })
    }
    var started = 0
    for request in space.read(request, at: Array(requests)) {
      // MQ_RQ_IN_FLIGHT. What a slot led to before may be gone.
      guard let owner = try? request.queue, owner == address, try request.state & 0xffff_ffff == 1 else { continue }
      if try !part.isPart || request.part == part.block.address { started += 1 }
    }
    return started
  }

  /// Every disk of the host, each with its parts behind it.
  private func parts(_ kernel: Kernel) throws -> [Part] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let head = try devices(kernel)
    let members = space.list(of: member, through: \.link, head: head, limit: Self.limit, &faults)
    let all = space.read(block, at: members.pointers(\.device).map { $0 - block.device.offset })
    let disks = try all.filter { try $0.part & 0xff == 0 }
    var parts: [Part] = []
    for (first, disk) in zip(disks, space.read(disk, at: try disks.map { try $0.disk })) {
      let found = xarray.values(head: try disk.parts, in: space, limit: Self.limit)
      faults += found.faults
      let order = zip(found.indices, found.values).sorted { $0.0 < $1.0 }.map(\.1)
      let name = try disk.name
      for part in space.read(block, at: order) {
        let number = try part.part & 0xff
        let isPart = part.address != first.address
        let divider = name.last.map { (48...57).contains($0) } ?? false ? "p" : ""
        parts.append(
          Part(block: part, disk: disk, name: name + (isPart ? Array("\(divider)\(number)".utf8) : []), isPart: isPart))
      }
    }
    if let fault = faults.first { throw fault }
    return parts
  }

  /// The list of devices of the class of block devices.
  private func devices(_ kernel: Kernel) throws -> VirtualAddress {
    let space = kernel.addressSpace
    if classes.own.isPresent, let own = try space.read(classes, at: [blockClass])[0].own {
      return own + subsystem.devices.offset
    }
    var faults: [MemoryFault] = []
    let set = try space.pointer(at: kernel.symbol("class_kset", for: Self.self))
    let all = space.list(
      of: subsystem, through: \.object, head: set + kset.members.offset, limit: Self.limit, &faults)
    guard let own = try all.first(where: { try $0.about == blockClass }) else {
      if let fault = faults.first { throw fault }
      throw ShadowError.unreadable("the class of block devices is not among the classes")
    }
    return own.address(of: \.devices)
  }
}
