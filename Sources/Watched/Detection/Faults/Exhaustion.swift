import Binding
public import KernelViews
import LinuxKernel

/// The host has nearly all the open files that it may have.
public struct FilesExhausted: Detector {
  public static let name = "files-exhausted"
  public static let kind = Finding.Kind.fault
  public static let summary = "The host has nearly all the open files that it may have: soon nothing can be opened."
  public static let rule = "nr_files reaches 90% of files_stat.max_files (a warning) or 98% (critical)."
  public static let looksLike = "Nothing: the kernel refuses from there on."
  public static let remedy = "See who has them: grassctl lsof. Raise fs.file-max meanwhile."
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let counter = try look.perCPUCounter("nr_files"), let limits = look.kernel.symbols.address(of: "files_stat")
    else {
      return Sightings()
    }
    let kernel = look.kernel
    let most = try KernelError.reading("the limit of open files") {
      let field = try kernel.types.structure("files_stat_struct").field("max_files")
      let bytes = try kernel.addressSpace.read(limits + field.offset, count: 8)
      return try ByteReader(bytes.span.bytes).u64(0)
    }
    return Sightings(
      Exhaustion.sighting(
        [.host], "open files", used: counter, most: most, at: limits, symbol: "files_stat"
      ).map { [$0] } ?? [])
  }
}

/// The host has nearly all the tasks that it may have.
public struct TasksExhausted: Detector {
  public static let name = "pids-exhausted"
  public static let kind = Finding.Kind.fault
  public static let summary = "The host has nearly all the tasks that it may have: soon nothing can be started."
  public static let rule = """
    The tasks reach 90% of max_threads, or those whose numbers are given out again, from 300 on, 90% of the numbers that there are up to \
    pid_max (a warning), or 98% (critical).
    """
  public static let looksLike = "Nothing: the kernel refuses from there on."
  public static let remedy = "See who has them: grassctl ps -T. Raise kernel.pid_max and kernel.threads-max meanwhile."
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let marks = try look.marks()
    let kernel = look.kernel
    var numbers = try look.number("pid_max").map { UInt64($0) } ?? .max
    // Of its namespace since 6.14.
    if let field = try? kernel.types.structure("pid_namespace").field("pid_max"),
      let namespace = kernel.symbols.address(of: "init_pid_ns"),
      let bytes = try? kernel.addressSpace.read(namespace + field.offset, count: 4),
      let own = try? ByteReader(bytes.span.bytes).u32(0)
    {
      numbers = min(numbers, UInt64(own))
    }
    // The lowest are given out once, after the boot, and never again.
    let later = UInt64(marks.marks.count { $0.task.tid >= reserved })
    let limits = [
      (later, numbers > UInt64(reserved) ? numbers - UInt64(reserved) : numbers, "pid_max"),
      (UInt64(marks.marks.count), try look.number("max_threads") ?? .max, "max_threads"),
    ]
    return Sightings(
      limits.lazy.compactMap { used, most, symbol in
        Exhaustion.sighting(
          [.host], "tasks", used: used, most: most, at: kernel.symbols.address(of: symbol), symbol: symbol)
      }.first.map { [$0] } ?? [], faults: marks.faults)
  }

  /// RESERVED_PIDS of kernel/pid.c.
  private static let reserved: Int32 = 300
}

/// A process has all the open files that it may have.
public struct DescriptorsExhausted: Detector {
  public static let name = "fd-exhaustion"
  public static let kind = Finding.Kind.fault
  public static let summary = "A process has nearly all the open files that it may have: what it opens next fails."
  public static let rule = "The open files of a process reach 90% of its limit, signal->rlim[RLIMIT_NOFILE]."
  public static let looksLike = "Programs that lower their own limit: they have few files."
  public static let remedy = "See what it has open: grassctl lsof -p PID. Raise its limit: prlimit --nofile."
  public static let baseline = Finding.Baseline.threshold

  private struct Reader: KernelReader {
    static let subject = "the limits of processes"

    struct Task: KernelShape {
      static let type = "task_struct"
      let signal = Field<VirtualAddress>("signal")
    }

    let task: Bound<Task>
    let limits: Int

    init(kernel: Kernel) throws {
      task = try Bound(kernel.types)
      // RLIMIT_NOFILE is 7 on x86 (include/uapi/asm-generic/resource.h); a limit is two words, the one that holds first.
      limits = try kernel.types.structure("signal_struct").field("rlim").offset + 7 * 16
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let files = try look.openFiles()
    var counts: [Int32: UInt64] = [:]
    for file in files.files { counts[file.pid, default: 0] += 1 }
    let reader = try look.kernel.reader(Reader.self)
    // A process with few files has room.
    let tasks = try look.tasks().tasks.filter { counts[$0.tid] ?? 0 >= 64 }
    let space = look.kernel.addressSpace
    var faults: [MemoryFault] = []
    var sightings: [Sighting] = []
    space.read(reader.task, at: tasks.map(\.address)).forEach(&faults) { (reading) throws(MemoryFault) in
      let task = tasks[reading.index]
      let bytes = try space.read(try reading.signal + reader.limits, count: 8)
      let most = try ByteReader(bytes.span.bytes).u64(0)
      guard let count = counts[task.tid], most > 0, count >= most / 10 * 9 else { return }
      sightings.append(
        Sighting(
          [.task(task)], .warning, .strong,
          "\(task.comm.printable) (\(task.tid)) has \(count) of the \(most) open files that it may have",
          evidence: [.init("RLIMIT_NOFILE", at: try reading.signal + reader.limits, seen: "\(count) of \(most)")]))
    }
    return Sightings(sightings, faults: faults)
  }
}

/// A listener that takes no connections.
public struct AcceptQueueFull: Detector {
  public static let name = "accept-queue-full"
  public static let kind = Finding.Kind.fault
  public static let summary = "A program listens and takes no connections: its queue is full, and more are dropped."
  public static let rule = "sk_ack_backlog is above sk_max_ack_backlog in both looks."
  public static let looksLike = "A burst of connections: its queue is shorter in the second look."
  public static let remedy = "See what the program does: grassctl ps -p PID, grassctl stack PID."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.sockets()
    let full = table.sockets.filter {
      $0.kind == .tcp && $0.stateName == "LISTEN" && $0.sendQueue > 0 && $0.receiveQueue > $0.sendQueue
    }
    return Sightings(
      full.map { socket in
        let owner = socket.owners.first.map { " of \($0.comm.printable) (\($0.pid))" } ?? ""
        return Sighting(
          [.socket(socket.address, name: "port \(socket.localPort)")], .warning, .strong,
          "the listener on port \(socket.localPort)\(owner) takes no connections: \(socket.receiveQueue) wait",
          evidence: [
            .init(
              "connections that wait", at: socket.address, seen: "\(socket.receiveQueue)",
              expected: "\(socket.sendQueue) at most")
          ])
      }, faults: table.faults)
  }
}

/// TCP has nearly all the memory that it may have.
public struct TCPMemoryExhausted: Detector {
  public static let name = "tcp-memory"
  public static let kind = Finding.Kind.fault
  public static let summary = "TCP has nearly all the memory that it may have: connections are dropped and stand still."
  public static let rule = """
    The pages of all TCP sockets (tcp_memory_allocated) reach the second of the three limits of sysctl_tcp_mem, from which on the \
    kernel takes memory away from sockets (a warning), or the third, from which on it drops what comes (critical); in both looks.
    """
  public static let looksLike = "A burst: it is over in the second look."
  public static let remedy = "See whose queues are long: grassctl ss. Raise net.ipv4.tcp_mem meanwhile."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    var counter = look.kernel.symbols.address(of: "tcp_memory_allocated")
    // Since 6.17 it lies beside other counters.
    if counter == nil, let counters = look.kernel.symbols.address(of: "net_aligned_data"),
      let field = try? look.kernel.types.structure("net_aligned_data").field("tcp_memory_allocated")
    {
      counter = counters + field.offset
    }
    guard let counter, let limits = look.kernel.symbols.address(of: "sysctl_tcp_mem")
    else { return Sightings() }
    let space = look.kernel.addressSpace
    let (pressure, most) = try KernelError.reading("the limits of TCP's memory") {
      (try space.load(limits + 8, as: UInt64.self), try space.load(limits + 16, as: UInt64.self))
    }
    let used = try KernelError.reading("TCP's memory") { try space.load(counter, as: UInt64.self) }
    // What CPUs have not yet added may make it negative.
    guard pressure > 0, used < 1 << 62, used >= pressure else { return Sightings() }
    return Sightings([
      Sighting(
        [.host], used >= most ? .critical : .warning, .strong,
        "TCP has \(used) pages of memory, and may have \(most)",
        evidence: [
          .init(
            "tcp_memory_allocated", at: counter, seen: "\(used)",
            expected: "fewer than \(pressure)")
        ])
    ])
  }
}

/// A control group is at a limit that was set for it.
public struct ControlGroupFull: Detector {
  public static let name = "cgroup-limit"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "A control group has all the memory or tasks that it may have: what it asks for next fails or waits."
  public static let rule = """
    The memory of a control group reaches 98% of memory.max, or its tasks all of pids.max, in both looks. Page cache counts as memory there, \
    and is given back when it has to be.
    """
  public static let looksLike =
    "Limits are there to be reached: it is info. A process that is killed for it is another finding."
  public static let remedy = "See what is in it: grassctl cgroups, grassctl ps. Raise the limit where it is too small."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.controlGroups()
    let sightings = table.groups.flatMap { group -> [Sighting] in
      var told: [Sighting] = []
      func tell(_ what: String, _ used: UInt64, _ most: UInt64) {
        told.append(
          Sighting(
            [.table("control group \(group.path.printable)", entry: nil)], .info, .strong,
            "control group \(group.path.printable) has \(used) of the \(most) \(what) that it may have",
            evidence: [.init(what, at: group.address, seen: "\(used)", expected: "fewer than \(most)")]))
      }
      if let used = group.memoryCurrent, let most = group.memoryMax, most > 0, used >= most - most / 50 {
        tell("bytes of memory", used, most)
      }
      if let used = group.pidsCurrent, let most = group.pidsMax, most > 0, used >= most { tell("tasks", used, most) }
      return Array(told.prefix(1))
    }
    return Sightings(sightings, faults: table.faults)
  }
}

enum Exhaustion {
  /// What is said where nearly all of something is used; nil as long as there is room.
  static func sighting(
    _ subjects: [Subject], _ what: String, used: UInt64, most: UInt64, at address: VirtualAddress?, symbol: String
  ) -> Sighting? {
    guard most > 0, used >= most / 10 * 9 else { return nil }
    let isCritical = used >= most - most / 50
    return Sighting(
      subjects, isCritical ? .critical : .warning, .strong,
      "\(used) of the \(most) \(what) that there may be are in use",
      evidence: [.init(what, at: address, symbol: symbol, seen: "\(used)", expected: "fewer than \(most / 10 * 9)")])
  }
}

extension Look {
  /// The value of a `struct percpu_counter`, with what CPUs have not yet added.
  ///
  /// Nil where there is no such variable.
  func perCPUCounter(_ name: String) throws(KernelError) -> UInt64? {
    guard let address = kernel.symbols.address(of: name) else { return nil }
    return try counter(at: address, "the counter \(name)")
  }

  /// The value of the `struct percpu_counter` at `address`, with what CPUs have not yet added.
  func counter(at address: VirtualAddress, _ subject: String) throws(KernelError) -> UInt64 {
    let kernel = kernel
    return try KernelError.reading(subject) {
      let layout = try kernel.types.structure("percpu_counter")
      let (count, parts) = (try layout.field("count").offset, try layout.field("counters").offset)
      let bytes = try kernel.addressSpace.read(address, count: layout.size)
      let reader = ByteReader(bytes.span.bytes)
      var sum = Int64(bitPattern: try reader.u64(count))
      let part = try reader.pointer(parts)
      for cpu in try kernel.cpus() {
        let own = try kernel.addressSpace.read(cpu.address(of: part), count: 4)
        sum &+= Int64(try ByteReader(own.span.bytes).load(0, as: Int32.self))
      }
      return UInt64(max(0, sum))
    }
  }
}
