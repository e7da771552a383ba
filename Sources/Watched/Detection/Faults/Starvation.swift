import Binding
public import KernelViews
import Memory

/// Tasks that become ever more.
public struct ForkBomb: Detector {
  public static let name = "fork-bomb"
  public static let kind = Finding.Kind.fault
  public static let summary = "Somebody's processes multiply."
  public static let rule = """
    Between two looks the processes became 64 and a quarter more at least, and more than half of the new ones have one name and one \
    user. The second look is taken where a dozen of one name and user are younger than 5 s. Threads of a process do not count.
    """
  public static let looksLike = "make -j and servers that start workers: theirs end, or are soon all there."
  public static let remedy = """
    Kill them all at once, by their control group or by killall -9 NAME: one by one they are faster. Then set a limit: \
    ulimit -u, pids.max.
    """
  public static let baseline = Finding.Baseline.threshold

  private static let youth: UInt64 = 5_000_000_000

  private struct Kin: Hashable {
    var comm: [UInt8]
    var user: UInt32
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let now = look.moment.guest ?? 0
    let processes = table.marks.filter(\.task.isLeader)
    let known = Set(try before?.marks().marks.filter(\.task.isLeader).map(\.key) ?? [])
    let new = processes.filter { mark in
      before == nil
        ? mark.task.startTime <= now && now - mark.task.startTime < youth : !known.contains(mark.key)
    }.filter { !$0.task.isKernelThread }
    let groups = Dictionary(grouping: new) { Kin(comm: $0.task.comm, user: $0.task.uid) }
    guard let (kin, members) = groups.max(by: { $0.value.count < $1.value.count }), members.count * 2 > new.count,
      members.count >= 12
    else { return Sightings(faults: table.faults) }
    let counts = (old: known.count, new: processes.count)
    if before != nil {
      guard counts.new - counts.old >= 64, (counts.new - counts.old) * 4 >= counts.old else {
        return Sightings(faults: table.faults)
      }
    }
    let forks = try look.number("total_forks", size: 8) ?? 0
    return Sightings(
      [
        Sighting(
          [.host], .critical, .strong,
          "\(kin.comm.printable) of user \(kin.user) multiplies: \(members.count) new in a moment, \(counts.new) processes in all",
          evidence: [
            .init("processes", seen: "\(counts.new)", expected: before == nil ? nil : "about \(counts.old) as before"),
            .init("total_forks", at: look.kernel.symbols.address(of: "total_forks"), seen: "\(forks)"),
          ], related: Set(members.prefix(64).map { .task($0.task) }))
      ], faults: table.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == TasksExhausted.name || effect.detector == CPUStarvation.name
  }
}

/// A task that could run does not come to.
public struct CPUStarvation: Detector {
  public static let name = "cpu-starvation"
  public static let kind = Finding.Kind.fault
  public static let summary = "A task is ready to run and gets no CPU."
  public static let rule = """
    On a run queue (on_rq), not on a CPU (on_cpu), queued since 2 s (a notice) or 10 s (a warning) by its queue's clock \
    (sched_info.last_queued), the same in both looks.
    """
  public static let looksLike = """
    A control group at its limit of CPU time: its queue is throttled, and it is left out. A machine whose host takes its CPUs \
    away: then all wait.
    """
  public static let remedy = """
    See what has the CPU, and why it does not let go: grassctl top. A real-time task needs sched_rt_runtime_us, or a lower \
    priority: chrt.
    """
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let notice: UInt64 = 2_000_000_000
  private static let warning: UInt64 = 10_000_000_000

  private struct Reader: KernelReader {
    static let subject = "the run queues"

    struct Task: KernelShape {
      static let type = "task_struct"
      let isQueued = Field<UInt32>("on_rq")
      let isRunning = Field<UInt32>("on_cpu")
      let queued = Field<UInt64>("sched_info.last_queued")
      let group = Field<VirtualAddress>("se.cfs_rq")
      let start = Field<UInt64>("start_boottime", before: "5.5", "real_start_time")
    }

    struct Group: KernelShape {
      static let type = "cfs_rq"
      let throttled = Field<Int32>(optional: "throttle_count")
    }

    struct Queue: KernelShape {
      static let type = "rq"
      let clock = Field<UInt64>("clock")
      let current = Field<VirtualAddress>("curr")
    }

    let task: Bound<Task>, group: Bound<Group>, queue: Bound<Queue>
    let queues: VirtualAddress

    init(kernel: Kernel) throws {
      (task, group, queue) = try kernel.types.bind()
      queues = try kernel.symbol("runqueues", for: Self.self)
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let space = kernel.addressSpace
    let reader = try kernel.reader(Reader.self)
    let table = try look.marks()
    var result = Sightings(outOf: table.marks.count, faults: table.faults)
    var clocks: [UInt32: (now: UInt64, current: VirtualAddress)] = [:]
    let cpus = try kernel.cpus().filter(\.isOnline)
    space.read(reader.queue, at: cpus.map { $0.address(of: reader.queues) }).forEach(&result.faults) {
      (reading) throws(MemoryFault) in
      clocks[UInt32(cpus[reading.index].number)] = (try reading.clock, try reading.current)
    }
    // Since 6.12 who sleeps may still be on its queue.
    let ready = table.marks.filter { $0.state == 0 }
    space.read(reader.task, at: ready.map(\.task.address)).forEach(&result.faults) { (reading) throws(MemoryFault) in
      let task = ready[reading.index].task
      guard try reading.start == task.startTime, try reading.isQueued == 1, try reading.isRunning == 0,
        let clock = clocks[task.cpu]
      else { return }
      let queued = try reading.queued
      guard queued > 0, clock.now > queued, clock.now - queued >= notice else { return }
      let group = try reading.group
      if group.rawValue != 0, try space.read(reader.group, at: [group])[0].throttled > 0 { return }
      let current = table.marks.first { $0.task.address == clock.current }?.task
      let holder =
        current.map { $0.tid == task.tid ? "" : ": \($0.comm.printable) (\($0.tid)) has CPU \(task.cpu)" } ?? ""
      let waited = clock.now - queued
      result.sightings.append(
        Sighting(
          [.task(task)], waited >= warning ? .warning : .notice, .strong,
          "\(task.comm.printable) (\(task.tid)) is ready and has not come to run for \(Text.seconds(waited)) s\(holder)",
          evidence: [
            .init(
              "sched_info.last_queued", at: task.address, seen: "\(Text.seconds(waited)) s ago on CPU \(task.cpu)",
              expected: "less than \(Text.seconds(notice)) s")
          ], persists: [queued], related: Set(current.map { [.task($0)] } ?? [])))
    }
    return result
  }
}

/// The console is held and nobody gets on with it.
public struct ConsoleStuck: Detector {
  public static let name = "console-stuck"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "The lock of the console is held and nothing is written: who logs or switches terminals waits."
  public static let rule = """
    console_sem is taken in both looks and no console got on with the log (console.seq) meanwhile: a notice, and a warning \
    where somebody waits for it.
    """
  public static let looksLike = "A slow serial line: it gets on. Suspend: a console that is suspended is not judged."
  public static let remedy =
    "See who waits and who may have it: grassctl stack, grassctl locks. A panic is shown on it all the same."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.tables

  private struct Reader: KernelReader {
    static let subject = "the console"

    struct Lock: KernelShape {
      static let type = "semaphore"
      let count = Field<UInt32>("count")
      let waiters = Place(optional: "wait_list")
      // A list until 7.0.
      let first = Field<VirtualAddress>("first_waiter", before: "7.1", "wait_list.next")
    }

    struct Console: KernelShape {
      static let type = "console"
      let sequence = Field<UInt64>(optional: "seq")
      // A chain until 6.1.
      let next = Place("node", before: "6.2", "next")
    }

    let lock: Bound<Lock>, console: Bound<Console>
    let address: VirtualAddress
    let list: VirtualAddress?

    init(kernel: Kernel) throws {
      (lock, console) = try kernel.types.bind()
      address = try kernel.symbol("console_sem", for: Self.self)
      list = kernel.symbols.address(of: "console_list") ?? kernel.symbols.address(of: "console_drivers")
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let space = kernel.addressSpace
    let reader = try kernel.reader(Reader.self)
    if let suspended = try look.number("console_suspended"), suspended != 0 { return Sightings() }
    var faults: [MemoryFault] = []
    let lock = space.read(reader.lock, at: [reader.address])[0]
    let (count, first) = try KernelError.reading(kernel.subject(of: Reader.self)) { (try lock.count, try lock.first) }
    guard count == 0 else { return Sightings() }
    let consoles = space.chains(
      of: reader.console, through: \.next, heads: reader.list.map { [$0] } ?? [], limit: 64, &faults
    ).structs
    let sequences = consoles.compactMap(&faults) { (console) throws(MemoryFault) in try console.sequence }
    let isWaited = reader.lock.waiters.isPresent ? first != lock.address(of: \.waiters) : first.rawValue != 0
    return Sightings(
      [
        Sighting(
          [.lock(reader.address, name: "console_sem")], isWaited ? .warning : .notice, isWaited ? .strong : .hint,
          "the console is held and nothing is written\(isWaited ? ", and somebody waits for it" : "")",
          evidence: [.init("count", at: reader.address, symbol: "console_sem", seen: "0", expected: "1")],
          persists: sequences)
      ], faults: faults)
  }
}
