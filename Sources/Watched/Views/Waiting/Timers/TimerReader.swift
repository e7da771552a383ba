import Binding
import CodeViews
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads what each CPU waits for: the buckets of its timer wheels, and its trees of high-resolution timers.
///
/// Source: kernel/time/timer.c, `timer_bases`; kernel/time/hrtimer.c, `hrtimer_bases`; kernel/time/timer_list.c.
struct TimerReader: SettledReader {
  static let subject = "the timers"

  private struct Wheel: KernelShape {
    static let type = "timer_base"
    // WHEEL_SIZE is 576, or 512 where ticks are rare.
    let buckets = ArrayPlace("vectors", most: 1024)
  }

  /// A timer of a wheel.
  private struct Timer: KernelShape {
    static let type = "timer_list"
    let link = Place("entry")
    let expires = Field<UInt64>("expires")
    let function = Field<VirtualAddress>("function")
  }

  /// The trees of a CPU.
  private struct Trees: KernelShape {
    static let type = "hrtimer_cpu_base"
    let clocks = ArrayPlace("clock_base", most: 16)
  }

  private struct Clock: KernelShape {
    static let type = "hrtimer_clock_base"
    let root = Field<VirtualAddress?>("active.rb_root.rb_root.rb_node")
    let offset = Field<Int64>("offset")
  }

  /// A timer of a tree.
  private struct HighTimer: KernelShape {
    static let type = "hrtimer"
    let node = Place("node.node")
    let expires = Field<UInt64>("node.expires")
    let function = Field<VirtualAddress>("function")
  }

  private struct Work: KernelShape {
    static let type = "delayed_work"
    let timer = Place("timer")
    let function = Field<VirtualAddress>("work.func")
  }

  private struct PID: KernelShape {
    static let type = "pid"
    let first = Element<VirtualAddress?>("tasks", at: "PIDTYPE_PID")
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let link = ElementPlace("pid_links", at: "PIDTYPE_PID")
    let tid = Field<Int32>("pid")
    let name = Field<[UInt8]>("comm")
  }

  private let wheels, trees, ticks: VirtualAddress
  private let wheel: Bound<Wheel>
  private let wheelCount: Int
  private let timer: Bound<Timer>
  private let clocks: ArrayPlace
  private let clock: Bound<Clock>, highTimer: Bound<HighTimer>
  private let tree: RedBlackTree
  private let timekeeper: ClockReader
  private let owners: [VirtualAddress: OwnerLink]
  private let delayedWork: VirtualAddress?
  private let work: Bound<Work>?
  private let pid: Bound<PID>, task: Bound<Task>

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
    (wheel, timer, clock, highTimer, pid, task) = try types.bind()
    // One where the kernel never stops its ticks, two up to 6.8, three since.
    wheelCount = min(Int(clamping: kernel.symbols.size(ofSymbolAt: wheels) ?? 0) / max(wheel.size, 1), 4)
    clocks = try Bound<Trees>(types).clocks
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
    work = try? Bound(types)
  }

  /// A timer half read.
  private struct Draft {
    var timer: KernelTimer
    /// Among the queues of its CPU.
    var order: Int
    var function: VirtualAddress
  }

  func read(_ kernel: Kernel) throws -> TimerTable {
    let space = kernel.addressSpace
    let cpus = try kernel.cpus().filter(\.isOnline)
    let code = try kernel.reader(CodeMap.self).snapshot(in: space)
    var table = TimerTable(faults: code.faults)
    var batch = ReadBatch<VirtualAddress>()
    let tickCount = batch.add(ticks, count: 8)
    let clockRecord = timekeeper.add(to: &batch)
    space.read(&batch)
    let jiffies = try batch.reader(tickCount).u64(0)
    let tick = try timekeeper.readTick(clockRecord, batch)
    var found: [Draft] = []
    readWheels(cpus, code, jiffies, tick.nanosecondsPerTick, in: space, &found, &table.faults)
    readTrees(cpus, code, tick.monotonic, in: space, &found, &table.faults)
    nameOwners(of: &found, code, in: space)
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
    _ found: inout [Draft], _ faults: inout [MemoryFault]
  ) {
    let places = cpus.flatMap { cpu in (0..<wheelCount).map { (cpu: cpu, wheel: $0) } }
    let (owners, timers) = space.lists(
      of: timer, through: \.link,
      inTables: places.map { $0.cpu.address(of: wheels) + $0.wheel * wheel.size + wheel.buckets.offset },
      count: wheel.buckets.count, limit: min(space.mostObjects(ofSize: 32), Self.most), &faults)
    found += timers.compactMap(&faults) { (timer) throws(MemoryFault) in
      let (function, expires) = (try timer.function, try timer.expires)
      let (span, overflow) = Int64(bitPattern: expires &- jiffies).multipliedReportingOverflow(by: tick)
      let place = places[owners[timer.index]]
      return Draft(
        timer: KernelTimer(
          cpu: place.cpu.number, queue: .wheel(place.wheel), address: timer.address,
          function: code.place(of: function), expiresIn: overflow ? .max : span, expires: expires),
        order: place.wheel, function: function)
    }
  }

  private func readTrees(
    _ cpus: [PerCPU.CPU], _ code: CodeMap.Snapshot, _ monotonic: Int64, in space: AddressSpace,
    _ found: inout [Draft], _ faults: inout [MemoryFault]
  ) {
    // enum hrtimer_base_type, include/linux/hrtimer_defs.h.
    let names = ["monotonic", "realtime", "boottime", "tai"]
    let bases = cpus.flatMap { cpu in (0..<clocks.count).map { (cpu: cpu, index: $0) } }
    let limit = min(space.mostObjects(ofSize: 64), Self.most)
    let reads = space.read(
      clock, at: bases.map { $0.cpu.address(of: trees) + clocks.offset + $0.index * clocks.stride })
    for (base, clock) in zip(bases, reads) {
      let name = base.index < 8 ? names[base.index % 4] + (base.index < 4 ? "" : "-soft") : "\(base.index)"
      let start = faults.keep { () throws(MemoryFault) in
        let root = try clock.root
        guard root == nil || found.count < limit else {
          throw MemoryFault(.virtual(clock.address), .inconsistent("more than \(limit) timers"))
        }
        return (root: root, now: monotonic &+ (try clock.offset))
      }
      guard let start, let root = start.root else { continue }
      let nodes = tree.nodes(root: root, in: space, limit: limit)
      faults += nodes.faults
      let timers = space.read(highTimer, at: nodes.nodes.map { $0 - highTimer.node.offset })
      found += timers.compactMap(&faults) { (timer) throws(MemoryFault) in
        let (function, expires) = (try timer.function, try timer.expires)
        let (left, overflow) = Int64(bitPattern: expires).subtractingReportingOverflow(start.now)
        return Draft(
          timer: KernelTimer(
            cpu: base.cpu.number, queue: .clock(name), address: timer.address, function: code.place(of: function),
            expiresIn: overflow ? .max : left, expires: expires), order: 16 + base.index, function: function)
      }
    }
  }

  /// Follows what the timers' functions are known to be called with. What cannot be followed has no name: timers come and
  /// go while they are read.
  private func nameOwners(
    of found: inout [Draft], _ code: CodeMap.Snapshot, in space: AddressSpace
  ) {
    if let work {
      let waiting = found.indices.filter { found[$0].function == delayedWork }
      let works = space.read(work, at: waiting.map { found[$0].timer.address - work.timer.offset })
      for (index, work) in zip(waiting, works) {
        if let function = try? work.function { found[index].timer.work = code.place(of: function) }
      }
    }
    let links = found.indices.compactMap { index in owners[found[index].function].map { (timer: index, link: $0) } }
    let pointers = space.pointers(at: links.map { found[$0.timer].timer.address + $0.link.distance })
    let firsts = space.read(pid, at: zip(links, pointers).map { $0.link.isPID ? $1 : VirtualAddress(0) })
    let tasks = zip(zip(links, pointers), firsts).compactMap { item, pid in
      let address = item.0.link.isPID ? (try? pid.first).map { $0 - task.link.offset } : item.1
      return address.map { (timer: item.0.timer, address: $0) }
    }.filter { $0.address.rawValue != 0 }
    for task in space.read(task, at: tasks.map(\.address)) {
      guard let id = try? task.tid, let name = try? task.name else { continue }
      found[tasks[task.index].timer].timer.tid = id
      found[tasks[task.index].timer].timer.comm = name
    }
  }
}

extension Kernel {
  /// The timers that are armed on each CPU.
  ///
  /// Cost: a round trip a level of each tree of timers, and one for each timer of a bucket whose neighbours lie elsewhere.
  public func timers() throws(KernelError) -> TimerTable { try read(TimerReader.self) }
}
