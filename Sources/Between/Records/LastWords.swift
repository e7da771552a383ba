import CRegion

/// What a device kept of a kernel that panicked, or whose CPUs all stood still: raw, as it lay in memory then.
public struct LastWords: Sendable {
  /// What the device says of them: it can be read without the rest.
  public struct Head: Hashable, Sendable {
    /// Counts up over all that the device keeps.
    public let number: UInt64
    /// The identity of the finding that they were taken of, and its detector: `enum grass_detector`.
    public let finding: UInt64
    public let detector: UInt32
    /// When they were taken.
    public let taken: FindingRecord.Moment
    /// The id of the host's boot; zeros where the kernel had none yet.
    public let boot: [UInt8]
    /// The kernel's release and build ID in hexadecimal, empty where it has none.
    public let release, buildID: String
    /// What the kernel had added to the addresses of its image.
    public let slide: UInt64
    /// Lanes that could not read all they had to, and the first ones' faults.
    public let faulted: Int
    public let faults: [MonitorResult.Fault]
    /// Bytes of records.
    let size: UInt64

    /// Bytes from the start of a record that hold it.
    public static let byteCount = MemoryLayout<grass_record>.size + MemoryLayout<grass_words_head>.size

    /// Takes the start of a record apart; nil where it is torn, false, or none.
    public init?(_ bytes: UnsafeRawBufferPointer) {
      guard bytes.count >= Self.byteCount else { return nil }
      let record = bytes.loadUnaligned(as: grass_record.self)
      var head = bytes.loadUnaligned(fromByteOffset: MemoryLayout<grass_record>.size, as: grass_words_head.self)
      guard record.sequence != 0, grass_words_head_is_whole(&head, record.sequence),
        record.length >= UInt64(MemoryLayout<grass_words_head>.size),
        head.size == record.length - UInt64(MemoryLayout<grass_words_head>.size)
      else { return nil }
      number = head.number
      finding = head.finding
      detector = head.detector
      taken = .init(device: head.device, guest: head.guest, utc: head.utc)
      boot = withUnsafeBytes(of: head.boot) { Array($0) }
      let words = withUnsafeBytes(of: head.kernel) { Array($0.prefix { $0 != 0 }) }.split(
        separator: UInt8(ascii: " "), maxSplits: 1)
      release = words.first.map { String(decoding: $0, as: UTF8.self) } ?? ""
      buildID = words.dropFirst().first.map { String(decoding: $0, as: UTF8.self) } ?? ""
      slide = head.slide
      faulted = Int(head.faulted)
      size = head.size
      faults = withUnsafeBytes(of: head.faults) { bytes in
        bytes.bindMemory(to: grass_lane_fault.self).prefix(Int(min(head.faulted, UInt32(GRASS_MAX_FAULTS)))).map {
          .init(
            code: $0.fault, lane: Int(clamping: $0.lane), address: $0.address, level: Int($0.level), entry: $0.entry)
        }
      }
    }
  }

  /// A task that ran, or could not be woken.
  public struct Task: Hashable, Sendable {
    /// Why it is kept; any of them.
    public struct Role: OptionSet, Hashable, Sendable {
      public let rawValue: UInt32
      public init(rawValue: UInt32) { self.rawValue = rawValue }
      /// It was on the CPU that panicked.
      public static let panicked = Role(rawValue: GRASS_WORDS_PANICKED.rawValue)
      public static let running = Role(rawValue: GRASS_WORDS_RUNNING.rawValue)
      /// It waited and could not be woken.
      public static let waiting = Role(rawValue: GRASS_WORDS_WAITING.rawValue)
    }

    public let address: UInt64
    public let pid, tgid, ppid: Int32
    /// The CPU that it ran on.
    public let cpu: Int?
    public let uid, flags: UInt32
    /// `__state` and `exit_state`.
    public let state, exitState: UInt32
    public let role: Role
    /// Nanoseconds: since boot when it started, and of CPU time.
    public let start, utime, stime: UInt64
    /// Where its stack lay, where it had left it (nil for one that ran), and from where on it was kept.
    public let stack: Range<UInt64>
    public let stackPointer: UInt64?
    public let stackStart: UInt64
    public let stackBytes: [UInt8]
    public let comm: [UInt8]
  }

  /// A CPU and what it did.
  public struct CPU: Hashable, Sendable {
    public let number: Int
    /// The task that it ran, 0 for none.
    public let pid: Int32
    public let runnable: Int
    /// A kernel that panics takes all others off line.
    public let isOnline: Bool
    public let switches: UInt64
    /// Its scheduler's clock, and the time for which it had set its timer, in nanoseconds.
    public let clock, nextEvent: UInt64
  }

  /// A module's text.
  public struct Module: Hashable, Sendable {
    public let address: UInt64
    public let text: Range<UInt64>
    public let name: [UInt8]
  }

  /// A record of the kernel's log.
  public struct Line: Hashable, Sendable {
    public let sequence, time: UInt64
    public let caller: UInt32
    public let level, facility: UInt8
    public let text: [UInt8]
  }

  /// The kernel as a whole.
  public struct State: Hashable, Sendable {
    /// Nanoseconds since boot.
    public let now: UInt64
    /// The CPU that panicked, nil where none did.
    public let panicCPU: Int?
    public let isInOops: Bool
    /// Bits as in /proc/sys/kernel/tainted.
    public let taint: UInt64
    public let ticks, killsForMemory, forks, freePages: UInt64
    public let threads: Int
  }

  public let head: Head
  public let state: State
  /// In the order of their numbers.
  public let cpus: [CPU]
  /// The task that panicked first, then those that ran, then those that waited; among them by their numbers.
  public let tasks: [Task]
  public let modules: [Module]
  /// The newest records of the log, oldest first.
  public let lines: [Line]

  /// Takes a whole record apart: what lies in the watched memory may lie, but not make it more than it is.
  ///
  /// Nil where it is none of this version's.
  public init?(record bytes: [UInt8]) {
    guard let head = bytes.withUnsafeBytes({ Head($0) }), UInt64(bytes.count - Head.byteCount) >= head.size else {
      return nil
    }
    let output = Array(bytes[Head.byteCount..<Head.byteCount + Int(head.size)])
    let result = MonitorResult(output: output, faults: head.faults)
    guard let states = result.records(of: GRASS_WORDS_STATE, as: grass_words_state.self), let state = states.first,
      let cpus = result.records(of: GRASS_WORDS_CPU, as: grass_words_cpu.self),
      let modules = result.records(of: GRASS_WORDS_MODULE, as: grass_words_module.self),
      let tasks = result.records(
        of: GRASS_WORDS_TASK, as: grass_words_task.self, followedBy: Int(GRASS_WORDS_PANIC_STACK)),
      let lines = result.records(
        of: GRASS_WORDS_RECORD, as: grass_words_line.self, followedBy: Int(GRASS_WORDS_LINE)),
      tasks.allSatisfy({ $0.head.stack_count <= $0.rest.count }), lines.allSatisfy({ $0.head.length <= $0.rest.count })
    else { return nil }
    self.head = head
    self.state = State(
      now: state.now, panicCPU: state.panic_cpu < 0 ? nil : Int(state.panic_cpu),
      isInOops: state.oops_in_progress != 0, taint: state.tainted, ticks: state.jiffies,
      killsForMemory: state.oom_kills, forks: state.forks, freePages: state.free_pages, threads: Int(state.threads))
    self.cpus = cpus.map {
      CPU(
        number: Int($0.cpu), pid: $0.pid, runnable: Int($0.runnable), isOnline: $0.is_online != 0,
        switches: $0.switches, clock: $0.clock,
        nextEvent: $0.next_event)
    }.sorted { $0.number < $1.number }
    self.modules = modules.map { module in
      Module(
        address: module.module, text: Self.range(module.start, module.size),
        name: withUnsafeBytes(of: module.name) { Array($0.prefix { $0 != 0 }) })
    }.sorted { $0.text.lowerBound < $1.text.lowerBound }
    self.tasks = tasks.map { task, rest in
      Task(
        address: task.task, pid: task.pid, tgid: task.tgid, ppid: task.ppid, cpu: task.cpu < 0 ? nil : Int(task.cpu),
        uid: task.uid, flags: task.flags, state: task.state, exitState: task.exit_state,
        role: .init(rawValue: task.role), start: task.start_boottime, utime: task.utime, stime: task.stime,
        stack: Self.range(task.stack, task.stack_end &- task.stack),
        stackPointer: task.stack_pointer == 0 ? nil : task.stack_pointer, stackStart: task.stack_start,
        stackBytes: Array(rest.prefix(Int(task.stack_count))),
        comm: withUnsafeBytes(of: task.comm) { Array($0.prefix { $0 != 0 }) })
    }.sorted { (Self.rank($0), $0.pid) < (Self.rank($1), $1.pid) }
    self.lines = lines.map { line, rest in
      Line(
        sequence: line.sequence, time: line.time, caller: line.caller, level: line.level, facility: line.facility,
        text: Array(rest.prefix(Int(line.length))))
    }.sorted { $0.sequence < $1.sequence }
  }

  private static func rank(_ task: Task) -> Int {
    task.role.contains(.panicked) ? 0 : task.role.contains(.running) ? 1 : 2
  }

  /// A range that comes from watched memory: empty where it would go round.
  private static func range(_ start: UInt64, _ count: UInt64) -> Range<UInt64> {
    let (end, overflow) = start.addingReportingOverflow(count)
    return overflow ? start..<start : start..<end
  }
}
