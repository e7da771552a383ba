import Binding
public import KernelViews
import LinuxKernel
import Memory

/// A process that works for somebody else's purse.
public struct Miner: Detector {
  public static let name = "miner"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process computes all the time and talks to a pool of miners: the host's power is stolen."
  public static let rule = """
    Three signs together: the process had 45 s of CPU time or more, and half a CPU between both looks; it has an established TCP \
    connection to a host other than loopback, the same in both; and its own memory holds words of the pools' language \
    (stratum+tcp, stratum+ssl, mining.submit, mining.subscribe, "method":"login" with "algo").
    """
  public static let looksLike = """
    Scanners, proxies and this tool have such words, too: they do not compute all the time. Whoever mines on purpose allows the \
    program by its inode.
    """
  public static let remedy = """
    See what it is and where it came from: grassctl ps -p PID, grassctl lsof -p PID, grassctl ss. Whoever started it is still \
    in: look for how before it is killed.
    """
  public static let techniques = ["T1496"]
  public static let baseline = Finding.Baseline.threshold

  static let words = [
    "stratum+tcp://", "stratum+ssl://", "stratum2+tcp://", "mining.submit", "mining.subscribe", "mining.authorize",
  ]

  private struct Reader: KernelReader {
    static let subject = "the time that processes had"

    struct Task: KernelShape {
      static let type = "task_struct"
      let time = Field<UInt64>("se.sum_exec_runtime")
      let start = Field<UInt64>("start_boottime", before: "5.5", "real_start_time")
    }

    let task: Bound<Task>
    init(kernel: Kernel) throws { task = try Bound(kernel.types) }
  }

  /// Nanoseconds of CPU time of each process that had some in a look, by the number of the process, and when they were read by the
  /// guest's clock: a look takes its time.
  private static func times(
    _ look: Look
  ) throws(KernelError) -> (times: [Int32: UInt64], now: UInt64, faults: [MemoryFault]) {
    let reader = try look.kernel.reader(Reader.self)
    let tasks = try look.tasks().tasks.filter { !$0.isKernelThread }
    return try look.once("times of processes") { kernel throws(KernelError) in
      var faults: [MemoryFault] = []
      var times: [Int32: UInt64] = [:]
      let now = try kernel.uptime()
      kernel.addressSpace.read(reader.task, at: tasks.map(\.address)).forEach(&faults) {
        (reading) throws(MemoryFault) in
        let task = tasks[reading.index]
        guard try reading.start == task.startTime else { return }
        times[task.tgid] = (times[task.tgid] ?? 0) &+ (try reading.time)
      }
      return (times, now, faults)
    }
  }

  /// Whether it is an established connection to a host other than this one's loopback.
  private static func isForeign(_ socket: NetworkSocket) -> Bool {
    guard socket.kind == .tcp, socket.state == 1, let remote = socket.remote else { return false }
    return !remote.isLoopback
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let (times, now, faults) = try times(look)
    var result = Sightings(faults: faults)
    let busy = times.filter { $0.value >= 45_000_000_000 }
    guard !busy.isEmpty else { return result }
    var lately: [Int32: UInt64] = [:]
    if let before {
      let (old, then, _) = try Self.times(before)
      guard then < now else { return result }
      for (pid, time) in busy {
        guard let earlier = old[pid], time > earlier, (time - earlier) >= (now - then) / 2 else { continue }
        lately[pid] = time - earlier
      }
    }
    let sockets = try look.sockets()
    result.faults += sockets.faults
    let tasks = try look.tasks().tasks
    for (pid, time) in busy.sorted(by: { $0.key < $1.key }) where before == nil || lately[pid] != nil {
      // One and the same in both looks, whatever order they are read in.
      let connection = sockets.sockets
        .filter { Self.isForeign($0) && $0.owners.contains { owner in owner.pid == pid } }
        .min { $0.address < $1.address }
      guard let connection, let remote = connection.remote, let task = tasks.first(where: { $0.tid == pid }) else {
        continue
      }
      let found = try look.words(words, inMemoryOf: pid)
      result.faults += found.faults
      guard let word = found.words.first else { continue }
      result.sightings.append(
        Sighting(
          [.task(task)], .warning, .strong,
          "\(task.comm.printable) (\(pid)) computes all the time and talks to \(remote) port \(connection.remotePort) as miners do",
          evidence: [
            .init("time on CPUs", at: task.address, seen: "\(Text.seconds(time)) s"),
            .init("TCP", at: connection.address, seen: "\(remote) port \(connection.remotePort)"),
            .init("its own memory", at: word.address, seen: word.text),
          ], persists: [task.startTime, connection.address.rawValue],
          related: [.socket(connection.address, name: "port \(connection.localPort)")]))
    }
    return result
  }
}
