import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// What /proc/stat, /proc/uptime and /proc/loadavg count, of all CPUs.
///
/// Source: fs/proc/stat.c, `show_stat`; fs/proc/uptime.c; fs/proc/loadavg.c.
struct ProcessorTimes: Sendable {
  struct CPU: Sendable {
    var number: Int
    var isOnline: Bool
    /// Nanoseconds: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
    var times: [UInt64]
    var running, switches, waiting: UInt64
    /// Interrupts of devices, and those of the CPU itself.
    var interrupts: UInt64
    var softInterrupts: [UInt64]
  }

  var cpus: [CPU]
  /// Nanoseconds since the boot, as of the last tick.
  var uptime: UInt64
  var forks: UInt64
  var threads: Int32
  /// The id that was given out last.
  var lastPID: Int64
  /// Three averages, in fixed point with 11 bits of fraction.
  var load: [UInt64]
  var interruptErrors: UInt64
}

/// Reads them.
struct ProcessorTimesReader: KernelReader {
  static let subject = "the times of the CPUs"

  private struct Account: KernelShape {
    static let type = "kernel_cpustat"
    let times = Field<[UInt64]>("cpustat")
  }

  private struct Queue: KernelShape {
    static let type = "rq"
    let running = Field<UInt64>("nr_running"), switches = Field<UInt64>("nr_switches")
    let waiting = Field<Int32>("nr_iowait.counter")
  }

  private struct Statistics: KernelShape {
    static let type = "kernel_stat"
    let interrupts = Field<UInt64>("irqs_sum"), softInterrupts = Field<RawBytes>("softirqs")
  }

  private struct Tick: KernelShape {
    static let type = "tick_sched"
    let isIdle = Field<UInt64>("idle_active", before: "6.9", "flags"), entered = Field<UInt64>("idle_entrytime")
    let idle = Field<UInt64>("idle_sleeptime"), waiting = Field<UInt64>("iowait_sleeptime")
  }

  /// `irq_cpustat_t`: interrupts that a CPU counts for itself.
  private struct Own: KernelShape {
    static let type = "irq_cpustat_t"
    let counters = [
      "__nmi_count", "apic_timer_irqs", "irq_spurious_count", "apic_perf_irqs", "apic_irq_work_irqs",
      "icr_read_retry_count", "irq_resched_count", "irq_call_count", "irq_thermal_count", "irq_threshold_count",
      "irq_hv_callback_count", "irq_hv_reenlightenment_count", "hyperv_stimer0_count",
    ].map { Field<UInt64>(optional: $0) }
  }

  private let account: Bound<Account>, queue: Bound<Queue>, statistics: Bound<Statistics>, own: Bound<Own>
  private let tick: Bound<Tick>?
  private let kinds: [Int]
  private let clock: ClockReader
  private let variables: [String: VirtualAddress]
  private let idrNext: VirtualAddress

  /// With a zero of its own where the kernel has no such variable.
  private static let numbers = ["total_forks", "nr_threads", "irq_err_count", "mce_exception_count", "mce_poll_count"]

  init(kernel: Kernel) throws {
    let types = kernel.types
    (account, queue, statistics) = try types.bind()
    own = try Bound(types)
    tick = try? Bound(types)
    let count = Int64(account.times.place.size / 8)
    kinds = try ["USER", "NICE", "SYSTEM", "IDLE", "IOWAIT", "IRQ", "SOFTIRQ", "STEAL", "GUEST", "GUEST_NICE"].map {
      let index = try types.requiredEnumerator("CPUTIME_\($0)")
      guard (0..<count).contains(index) else {
        throw KernelError(Self.subject, .inconsistent("CPUTIME_\($0) is \(index)"))
      }
      return Int(index)
    }
    clock = try ClockReader(kernel: kernel)
    var variables: [String: VirtualAddress] = [:]
    for name in ["kernel_cpustat", "runqueues", "kstat", "irq_stat", "avenrun"] {
      variables[name] = try kernel.symbol(name, for: Self.self)
    }
    for name in Self.numbers + ["tick_cpu_sched"] { variables[name] = kernel.symbols.address(of: name) }
    self.variables = variables
    idrNext = try kernel.symbol("init_pid_ns", for: Self.self) + kernel.offset(of: "idr.idr_next", in: "pid_namespace")
  }

  private func variable(_ name: String) -> VirtualAddress { variables[name] ?? VirtualAddress(0) }

  func read(_ kernel: Kernel) throws -> ProcessorTimes {
    let space = kernel.addressSpace
    let cpus = try kernel.cpus()
    func own(_ name: String) -> [VirtualAddress] { cpus.map { $0.address(of: variable(name)) } }
    var batch = ReadBatch<VirtualAddress>()
    let clockRecord = clock.add(to: &batch)
    let accounts = batch.add(account, at: own("kernel_cpustat")), queues = batch.add(queue, at: own("runqueues"))
    let statistics = batch.add(self.statistics, at: own("kstat"))
    let interrupts = batch.add(self.own, at: own("irq_stat"))
    let ticks = tick.flatMap { tick in
      variables["tick_cpu_sched"].map { _ in batch.add(tick, at: own("tick_cpu_sched")) }
    }
    let load = batch.add(variable("avenrun"), count: 24)
    let next = batch.add(idrNext, count: 4)
    let numbers = Self.numbers.prefix(3).map { name in
      variables[name].map { batch.add($0, count: name == "total_forks" ? 8 : 4) }
    }
    let machineChecks = Self.numbers.suffix(2).map { name in
      variables[name].map { variable in cpus.map { batch.add($0.address(of: variable), count: 4) } }
    }
    space.read(&batch)

    let uptime = try clock.read(clockRecord, batch).uptime
    let monotonic = try clock.readTick(clockRecord, batch).monotonic
    let (accountOf, queueOf) = (accounts.structs(in: batch), queues.structs(in: batch))
    let (statisticsOf, interruptsOf) = (statistics.structs(in: batch), interrupts.structs(in: batch))
    let tickOf = ticks?.structs(in: batch)
    func number(_ entry: Int?) throws -> UInt64 {
      guard let entry else { return 0 }
      let reader = try batch.reader(entry)
      return reader.count == 8 ? try reader.u64(0) : UInt64(try reader.u32(0))
    }
    var result = ProcessorTimes(
      cpus: [], uptime: uptime, forks: try number(numbers[0]),
      threads: Int32(truncatingIfNeeded: try number(numbers[1])),
      lastPID: Int64(try number(next)) - 1, load: try (0..<3).map { try batch.reader(load).u64($0 * 8) },
      interruptErrors: try number(numbers[2]))
    for (index, cpu) in cpus.enumerated() {
      let account = try accountOf[index].times
      var times = kinds.map { account[$0] }
      let waiting = UInt64(max(0, try queueOf[index].waiting))
      // Without ticks the scheduler's clock counts; before the first of such times, the ticks do.
      if cpu.isOnline, let tick = tickOf?[index], try tick.entered != 0 {
        // TS_FLAG_IDLE_ACTIVE is bit 2 where flags are one word.
        let isIdle = tick.shape.isIdle.place.size == 8 ? try tick.isIdle >> 2 & 1 != 0 : try tick.isIdle != 0
        let now = UInt64(max(0, monotonic)), entered = try tick.entered
        let delta = isIdle && now > entered ? now - entered : 0
        times[3] = try tick.idle &+ (waiting == 0 ? delta : 0)
        times[4] = try tick.waiting &+ (waiting == 0 ? 0 : delta)
      }
      var own = try statisticsOf[index].interrupts
      let counters = interruptsOf[index]
      for field in counters.shape.counters { own &+= try counters.load(field) }
      for entries in machineChecks { own &+= try number(entries?[index]) }
      let soft = try statisticsOf[index].softInterrupts.bytes
      result.cpus.append(
        .init(
          number: cpu.number, isOnline: cpu.isOnline, times: times, running: try queueOf[index].running,
          switches: try queueOf[index].switches, waiting: waiting, interrupts: own,
          softInterrupts: (0..<soft.count / 4).map { word in
            (0..<4).reduce(0) { $0 | UInt64(soft[word * 4 + $1]) << UInt64($1 * 8) }
          }))
    }
    return result
  }
}

extension ProcessorTimes {
  /// /proc/uptime.
  var uptimeLine: String {
    let idle = cpus.reduce(0 as UInt64) { $0 &+ $1.times[3] }
    func seconds(_ value: UInt64) -> String {
      "\(value / 1_000_000_000).\(ProcText.padded("\(value / 10_000_000 % 100)", 2, "0"))"
    }
    return "\(seconds(uptime)) \(seconds(idle))\n"
  }

  /// /proc/loadavg.
  var loadLine: String {
    // LOAD_INT and LOAD_FRAC of what was rounded by FIXED_1/200.
    let averages = load.map { value -> String in
      let rounded = value &+ 10
      return "\(rounded >> 11).\(ProcText.padded("\(((rounded & 2047) * 100) >> 11)", 2, "0"))"
    }
    return "\(averages.joined(separator: " ")) \(running)/\(threads) \(lastPID)\n"
  }

  private var running: UInt64 { cpus.filter(\.isOnline).reduce(0) { $0 &+ $1.running } }

  /// /proc/stat, with how often each interrupt came, by number.
  func statistics(bootTime: Int64, interrupts: [UInt64]) -> String {
    func ticks(_ times: [UInt64]) -> String { times.map { "\(ProcText.ticks($0))" }.joined(separator: " ") }
    func sum(_ value: (CPU) -> UInt64) -> UInt64 { cpus.reduce(0) { $0 &+ value($1) } }
    var text = "cpu  \(ticks((0..<10).map { kind in sum { $0.times[kind] } }))\n"
    for cpu in cpus where cpu.isOnline { text += "cpu\(cpu.number) \(ticks(cpu.times))\n" }
    text += "intr \(sum(\.interrupts) &+ interruptErrors)"
    for count in interrupts { text += " \(count)" }
    text += "\nctxt \(sum(\.switches))\nbtime \(bootTime)\nprocesses \(forks)\nprocs_running \(running)\n"
    text += "procs_blocked \(sum(\.waiting))\n"
    let kinds = cpus.first?.softInterrupts.count ?? 0
    let soft = (0..<kinds).map { kind in sum { $0.softInterrupts[safe: kind] ?? 0 } & 0xffff_ffff }
    text += "softirq \(soft.reduce(0, &+)) \(soft.map { "\($0)" }.joined(separator: " "))\n"
    return text
  }
}
