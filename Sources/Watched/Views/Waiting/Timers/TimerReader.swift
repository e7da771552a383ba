import Binding
import CodeViews
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads what each CPU waits for: the buckets of its timer wheels, and its trees of high-resolution timers.
///
/// Source: kernel/time/timer.c, `timer_bases`; kernel/time/hrtimer.c, `hrtimer_bases`; kernel/time/timer_list.c.
struct TimerReader: KernelReader {
  static let subject = "the timers"
  typealias Field = FieldSelection.Field

  private let wheels, trees, ticks: VirtualAddress
  private let wheelSize, wheelCount, buckets, bucketCount: Int
  private let timer: FieldSelection
  private let expires, function: Field
  private let clockSize, clocks, clockCount: Int
  private let clock: FieldSelection
  private let root, offset: Field
  private let highTimer: FieldSelection
  private let highExpires, highFunction: Field
  private let node: Int
  private let tree: RedBlackTree
  private let timekeeper: ClockReader
  private let owners: [VirtualAddress: OwnerLink]
  private let workFunction: FieldLayout?
  private let delayedWork: VirtualAddress?
  private let delayedTimer: Int
  private let firstTask, pidLink: Int
  private let task: FieldSelection
  private let tid, name: Field

  /// How a timer of some function leads to its task.
  private struct OwnerLink {
    /// From the timer to the pointer.
    var distance: Int
    /// Whether it points to a `struct pid` rather than to a task.
    var isPID: Bool
  }

  /// More timers than any host has armed.
  private static let most = 1 << 22

  init(kernel: Kernel) throws {
    let types = kernel.types
    wheels = try kernel.symbol("timer_bases", for: Self.self)
    trees = try kernel.symbol("hrtimer_bases", for: Self.self)
    ticks = try kernel.symbol("jiffies_64", for: Self.self)
    let base = try types.structure("timer_base")
    wheelSize = max(base.size, 1)
    // One where the kernel never stops its ticks, two up to 6.8, three since.
    wheelCount = min(Int(clamping: kernel.symbols.size(ofSymbolAt: wheels) ?? 0) / wheelSize, 4)
    let vectors = try base.field("vectors")
    buckets = vectors.offset
    // WHEEL_SIZE is 576, or 512 where ticks are rare.
    bucketCount = min(vectors.elementCount ?? 0, 1024)
    var fields = FieldSelection(try types.structure("timer_list"))
    expires = try fields.want("expires")
    function = try fields.want("function")
    timer = fields

    let array = try types.structure("hrtimer_cpu_base").field("clock_base")
    clocks = array.offset
    clockSize = array.elementSize
    clockCount = min(array.elementCount ?? 0, 16)
    fields = FieldSelection(try types.structure("hrtimer_clock_base"))
    root = try fields.want("active.rb_root.rb_root.rb_node")
    offset = try fields.want("offset")
    clock = fields
    let high = try types.structure("hrtimer")
    fields = FieldSelection(high)
    highExpires = try fields.want("node.expires")
    highFunction = try fields.want("function")
    highTimer = fields
    node = try high.field("node.node").offset
    tree = try RedBlackTree(types: types)
    timekeeper = try ClockReader(kernel: kernel)

    // What the functions are called with, as far as it leads to a task.
    let links: [(function: String, structure: String, timer: String, task: String, isPID: Bool)] = [
      ("hrtimer_wakeup", "hrtimer_sleeper", "timer", "task", false),
      ("process_timeout", "process_timer", "timer", "task", false),
      ("posix_timer_fn", "k_itimer", "it.real.timer", "it_pid", true),
      // The leader's, PIDTYPE_TGID.
      ("it_real_fn", "signal_struct", "real_timer", "pids", true),
    ]
    var owners: [VirtualAddress: OwnerLink] = [:]
    for link in links {
      guard let address = kernel.symbols.address(of: link.function),
        let structure = try? types.structure(link.structure), let timer = try? structure.field(link.timer),
        let task = try? structure.field(link.task)
      else { continue }
      let element = task.elementCount == nil ? 0 : 8
      owners[address] = OwnerLink(distance: task.offset + element - timer.offset, isPID: link.isPID)
    }
    self.owners = owners
    delayedWork = kernel.symbols.address(of: "delayed_work_timer_fn")
    let work = try? types.structure("delayed_work")
    workFunction = try? work?.field("work.func")
    delayedTimer = (try? work?.field("timer").offset) ?? 0
    let kind = Int(clamping: try types.requiredEnumerator("PIDTYPE_PID"))
    firstTask = try types.structure("pid").field("tasks").offset &+ kind &* 8
    let layout = try types.structure("task_struct")
    pidLink = try layout.field("pid_links").offset &+ kind &* 16
    fields = FieldSelection(layout)
    tid = try fields.want("pid")
    name = try fields.want("comm")
    task = fields
  }

  func read(_ cpus: [PerCPU.CPU], _ code: CodeMap.Snapshot, in space: AddressSpace) throws -> TimerTable {
    var table = TimerTable(faults: code.faults)
    var batch = ReadBatch<VirtualAddress>()
    let tickCount = batch.add(ticks, count: 8)
    let clockRecord = timekeeper.add(to: &batch)
    space.read(&batch)
    let jiffies = try batch.reader(tickCount).u64(0)
    let tick = try timekeeper.readTick(clockRecord, batch)
    var found: [(timer: KernelTimer, order: Int, function: VirtualAddress)] = []
    try readWheels(cpus, code, jiffies, tick.nanosecondsPerTick, in: space, &found, &table.faults)
    readTrees(cpus, code, tick.monotonic, in: space, &found, &table.faults)
    nameOwners(of: &found, code, in: space, &table.faults)
    found.sort {
      ($0.timer.cpu, $0.order, $0.timer.expiresIn, $0.timer.address)
        < ($1.timer.cpu, $1.order, $1.timer.expiresIn, $1.timer.address)
    }
    table.timers = found.map(\.timer)
    table.faults += code.symbolFaults
    return table
  }

  private func readWheels(
    _ cpus: [PerCPU.CPU], _ code: CodeMap.Snapshot, _ jiffies: UInt64, _ tick: Int64, in space: AddressSpace,
    _ found: inout [(timer: KernelTimer, order: Int, function: VirtualAddress)], _ faults: inout [MemoryFault]
  ) throws {
    var batch = ReadBatch<VirtualAddress>()
    var owners: [(cpu: Int, wheel: Int, first: VirtualAddress)] = []
    for cpu in cpus {
      for wheel in 0..<wheelCount {
        let first = cpu.address(of: wheels) + wheel * wheelSize + buckets
        owners.append((cpu.number, wheel, first))
        batch.add(first, count: bucketCount * 8)
      }
    }
    space.read(&batch)
    var starts: [(owner: Int, start: ListWalker.Start)] = []
    for (index, owner) in owners.enumerated() {
      do throws(MemoryFault) {
        let reader = try batch.reader(index)
        for bucket in 0..<bucketCount {
          let first = try reader.pointer(bucket * 8)
          if first.rawValue != 0 {
            starts.append((index, ListWalker.Start(head: owner.first + bucket * 8, first: first)))
          }
        }
      } catch {
        faults.append(error)
      }
    }
    let limit = min(space.mostObjects(ofSize: 32), Self.most)
    let lists = ListWalker(space: space, form: .nullTerminated, limit: limit).members(of: starts.map(\.start))
    faults += lists.faults
    // The link is a timer's first field.
    let addresses = lists.lists.flatMap { $0 }
    let owner = lists.lists.enumerated().flatMap { index, list in list.map { _ in starts[index].owner } }
    let reads = space.read(timer, at: addresses)
    for index in reads.indices {
      do throws(MemoryFault) {
        let (function, expires) = (try reads.pointer(index, function), try reads.load(index, expires))
        let (span, overflow) = Int64(bitPattern: expires &- jiffies).multipliedReportingOverflow(by: tick)
        let place = owners[owner[index]]
        found.append(
          (
            KernelTimer(
              cpu: place.cpu, queue: .wheel(place.wheel), address: addresses[index], function: code.place(of: function),
              expiresIn: overflow ? .max : span, expires: expires), place.wheel, function
          ))
      } catch {
        faults.append(error)
      }
    }
  }

  private func readTrees(
    _ cpus: [PerCPU.CPU], _ code: CodeMap.Snapshot, _ monotonic: Int64, in space: AddressSpace,
    _ found: inout [(timer: KernelTimer, order: Int, function: VirtualAddress)], _ faults: inout [MemoryFault]
  ) {
    // enum hrtimer_base_type, include/linux/hrtimer_defs.h.
    let names = ["monotonic", "realtime", "boottime", "tai"]
    let bases = cpus.flatMap { cpu in
      (0..<clockCount).map { (cpu: cpu.number, index: $0, address: cpu.address(of: trees) + clocks + $0 * clockSize) }
    }
    let reads = space.read(clock, at: bases.map(\.address))
    let limit = min(space.mostObjects(ofSize: 64), Self.most)
    for (index, base) in bases.enumerated() {
      do throws(MemoryFault) {
        let root = try reads.pointer(index, root)
        guard root.rawValue != 0 else { continue }
        guard found.count < limit else {
          throw MemoryFault(.virtual(base.address), .inconsistent("more than \(limit) timers"))
        }
        let now = monotonic &+ (try reads.signed(index, offset))
        let nodes = tree.nodes(root: root, in: space, limit: limit)
        faults += nodes.faults
        let timers = space.read(highTimer, at: nodes.nodes.map { $0 - node })
        let name = base.index < 8 ? names[base.index % 4] + (base.index < 4 ? "" : "-soft") : "\(base.index)"
        for position in timers.indices {
          do throws(MemoryFault) {
            let function = try timers.pointer(position, highFunction)
            let expires = try timers.load(position, highExpires)
            let (left, overflow) = Int64(bitPattern: expires).subtractingReportingOverflow(now)
            found.append(
              (
                KernelTimer(
                  cpu: base.cpu, queue: .clock(name), address: nodes.nodes[position] - node,
                  function: code.place(of: function), expiresIn: overflow ? .max : left, expires: expires),
                16 + base.index, function
              ))
          } catch {
            faults.append(error)
          }
        }
      } catch {
        faults.append(error)
      }
    }
  }

  /// Follows what the timers' functions are known to be called with. What cannot be followed has no name: timers come and
  /// go while they are read.
  private func nameOwners(
    of found: inout [(timer: KernelTimer, order: Int, function: VirtualAddress)], _ code: CodeMap.Snapshot,
    in space: AddressSpace, _ faults: inout [MemoryFault]
  ) {
    var links = ReadBatch<VirtualAddress>()
    var tasks: [(timer: Int, entry: Int, isPID: Bool)] = []
    var works: [(timer: Int, entry: Int)] = []
    for (index, item) in found.enumerated() {
      if let link = owners[item.function] {
        tasks.append((index, links.add(item.timer.address + link.distance, count: 8), link.isPID))
      } else if item.function == delayedWork, let workFunction {
        let place = item.timer.address - delayedTimer + workFunction.offset
        works.append((index, links.add(place, count: 8)))
      }
    }
    space.read(&links)
    for work in works {
      if let function = try? links.reader(work.entry).pointer(0) {
        found[work.timer].timer.work = code.place(of: function)
      }
    }
    var members = ReadBatch<VirtualAddress>()
    var pointers = tasks.map { (try? links.reader($0.entry).pointer(0)) ?? VirtualAddress(0) }
    let throughPID = tasks.indices.filter { tasks[$0].isPID && pointers[$0].rawValue != 0 }
    for index in throughPID { members.add(pointers[index] + firstTask, count: 8) }
    space.read(&members)
    for (position, index) in throughPID.enumerated() {
      let member = (try? members.reader(position).pointer(0)) ?? VirtualAddress(0)
      pointers[index] = member.rawValue == 0 ? member : member - pidLink
    }
    let wanted = tasks.indices.filter { pointers[$0].rawValue != 0 }
    let reads = space.read(task, at: wanted.map { pointers[$0] })
    for (position, index) in wanted.enumerated() {
      guard let id = try? reads.signed(position, tid), let name = try? reads.string(position, name) else { continue }
      found[tasks[index].timer].timer.tid = Int32(truncatingIfNeeded: id)
      found[tasks[index].timer].timer.comm = name
    }
  }
}

extension Kernel {
  /// The timers that are armed on each CPU.
  ///
  /// Cost: a round trip a level of each tree of timers, and one for each timer of a bucket whose neighbours lie elsewhere.
  public func timers() throws(KernelError) -> TimerTable {
    let reader = try reader(TimerReader.self)
    let map = try self.reader(CodeMap.self)
    let cpus = try cpus().filter(\.isOnline)
    return try settled(\.faults) { () throws(KernelError) in
      try KernelError.reading(subject(of: TimerReader.self)) {
        try reader.read(cpus, map.snapshot(in: addressSpace), in: addressSpace)
      }
    }
  }
}
