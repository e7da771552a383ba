import Binding
import KernelInfo
public import LinuxKernel
import MachineViews
import Memory
public import NetworkViews
import Paging
import ProcessViews
public import StorageViews
import TaskViews

/// What system calls ask of a host, as the watched one would answer them.
///
/// Each answer is made of one settled look; processes are those of the files of /proc, kept for the same moment.
public struct HostAnswers: Sendable {
  let host: ShadowHost
  private var kernel: Kernel { host.kernel }

  /// - Throws: ``KernelError`` where not even the host's CPUs and clock can be read.
  public init(of kernel: Kernel) throws(KernelError) { host = try ShadowHost(kernel) }

  /// What uname(2) says.
  public struct Names: Sendable {
    public var system, node, release, version, machine, domain: [UInt8]
  }

  /// The names of the host's first namespace.
  public func names() throws(ShadowError) -> Names {
    try ShadowError.answering {
      let names = try KernelSettings.names(kernel)
      // Only x86-64 kernels are found.
      return Names(
        system: names[0], node: names[1], release: names[2], version: names[3], machine: Array("x86_64".utf8),
        domain: names[4])
    }
  }

  /// What sysinfo(2) says; sizes in bytes.
  public struct System: Sendable {
    /// Seconds since the boot.
    public var uptime: Int64
    /// Load averages with 16 bits of fraction.
    public var loads: [UInt64]
    public var memory, freeMemory, sharedMemory, buffers, swap, freeSwap: UInt64
    public var threads: Int32
  }

  public func system() throws(ShadowError) -> System {
    try ShadowError.answering {
      let times = try kernel.reader(ProcessorTimesReader.self).read(kernel)
      let (info, fault) = try kernel.memoryInfo()
      if let fault { throw fault }
      // Rounded up, as the kernel does (kernel/sys.c, `do_sysinfo`).
      return System(
        uptime: Int64((times.uptime &+ 999_999_999) / 1_000_000_000), loads: times.load.map { $0 << 5 },
        memory: info["MemTotal"] ?? 0, freeMemory: info["MemFree"] ?? 0, sharedMemory: info["Shmem"] ?? 0,
        buffers: info["Buffers"] ?? 0, swap: info["SwapTotal"] ?? 0, freeSwap: info["SwapFree"] ?? 0,
        threads: times.threads)
    }
  }

  /// A thread, as calls that name it ask.
  public struct Process: Sendable {
    public var tid, tgid: Int32
    public var group, session: Int32
    public var nice: Int
    /// SCHED_*.
    public var policy: UInt64
    public var realTimePriority: UInt64
    /// The CPUs that it may run on, by bits.
    public var cpus: [UInt64]
    /// Pairs of the limits in force and the highest to be had, by RLIMIT_*; empty where it has none any more.
    public var limits: [UInt64]
  }

  /// The thread `tid`; nil where the host has none of this number.
  public func process(_ tid: Int32) throws(ShadowError) -> Process? {
    try ShadowError.answering { try host.processes()[tid].map(process) }
  }

  /// Whether the host has a thread of this number.
  public func has(_ tid: Int32) throws(ShadowError) -> Bool {
    try ShadowError.answering { try host.processes()[tid] != nil }
  }

  /// The ids of all threads, in ascending order.
  public func threads() throws(ShadowError) -> [Int32] {
    try ShadowError.answering { try host.processes().records.map(\.task.tid) }
  }

  /// The threads of processes in the group `group`.
  public func processes(inGroup group: Int32) throws(ShadowError) -> [Process] {
    try ShadowError.answering { try host.processes().records.map(process).filter { $0.group == group } }
  }

  /// The threads that belong to the user `uid`.
  public func processes(ofUser uid: UInt32) throws(ShadowError) -> [Process] {
    try ShadowError.answering { try host.processes().records.filter { $0.task.uid == uid }.map(process) }
  }

  /// The online CPUs, by bits, and how many sets of CPUs have room for.
  public func onlineCPUs() throws(ShadowError) -> (bits: [UInt64], room: Int) {
    try ShadowError.answering {
      let room = host.constants.cpus
      var bits = [UInt64](repeating: 0, count: (room + 63) / 64)
      for cpu in try host.onlineCPUs() where cpu < room {
        bits[cpu / 64] |= 1 << UInt64(cpu % 64)
      }
      return (bits, room)
    }
  }

  /// How much the file system at `path` holds, and the flags of its mount (ST_*), as the first process sees it.
  ///
  /// - Throws: ``ShadowError/unreadable(_:)`` where it is not known how that kind of file system counts.
  public func fileSystem(at path: [UInt8]) throws(ShadowError) -> (room: FileSystemRoom, flags: UInt64) {
    try ShadowError.answering {
      let mounts = try host.mounts()
      let slash = UInt8(ascii: "/")
      func holds(_ mount: MountPoint) -> Bool {
        mount.mountPoint == path || mount.mountPoint == [slash] || path.starts(with: mount.mountPoint + [slash])
      }
      // Of those at one place the last one covers the others.
      guard
        let mount = mounts.filter(holds).enumerated().max(by: {
          ($0.element.mountPoint.count, $0.offset) < ($1.element.mountPoint.count, $1.offset)
        })?.element
      else { throw ShadowError.missing }
      guard let room = try kernel.fileSystemRooms()[mount.major << 20 | mount.minor] else {
        let kind = String(decoding: mount.fileSystem, as: UTF8.self)
        throw ShadowError.unreadable("how full a file system of the kind \(kind) is")
      }
      // ST_VALID, and what mount options say (include/linux/statfs.h).
      let bits: [String: UInt64] = [
        "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 0x400, "nodiratime": 0x800, "relatime": 0x1000,
      ]
      return (room, mount.options.reduce(0x20) { $0 | (bits[$1] ?? 0) })
    }
  }

  /// What stat(2) says of a file of the host at `path`, where that is one: what a link of /proc/PID leads to, and where something is
  /// mounted.
  ///
  /// Nil for everything else: files on disk are this machine's.
  public func status(at path: [UInt8]) throws(ShadowError) -> FileStatus? {
    try ShadowError.answering {
      let parts = path.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
      if parts.first == "proc" { return try linkStatus(parts) }
      guard let mount = try host.mounts().last(where: { $0.mountPoint == path }),
        mount.root == [UInt8(ascii: "/")]
      else { return nil }
      return try kernel.reader(FileStatusReader.self).status(
        rootOf: mount.major << 20 | mount.minor, in: kernel.addressSpace)
    }
  }

  /// By the parts of /proc/PID/exe, cwd, root, fd/N, ns/KIND and task/TID/….
  private func linkStatus(_ parts: [String]) throws -> FileStatus? {
    var parts = parts.dropFirst()
    guard var tid = parts.popFirst().flatMap({ Int32($0) }) else { return nil }
    if parts.first == "task", let thread = parts.dropFirst().first.flatMap({ Int32($0) }) {
      tid = thread
      parts = parts.dropFirst(2)
    }
    guard let kind = parts.popFirst(), let record = try host.processes()[tid] else { return nil }
    let (reader, space) = (try kernel.reader(FileStatusReader.self), kernel.addressSpace)
    switch (kind, parts.first) {
    case ("fd", let number?) where parts.count == 1:
      guard let number = Int(number) else { return nil }
      return try reader.status(descriptor: number, ofTask: record.task.address, in: space)
    case ("exe", nil):
      guard let file = try record.details.get().memory?.executable else { throw ShadowError.missing }
      return try reader.status(file: file, in: space)
    case ("cwd", nil), ("root", nil):
      let details = try record.details.get()
      guard let place = kind == "cwd" ? details.working : details.root else { throw ShadowError.missing }
      return try reader.status(dentry: place.dentry, in: space)
    case ("ns", let kind?) where parts.count == 1:
      let table = try kernel.details(of: [record.task], .namespaces).whole()
      let found = table.details.first?.namespaces.first { $0.key.rawValue == kind }
      return try found.map { try reader.status(namespace: $0.value.number, kernel) }
    default: return nil
    }
  }

  /// Nanoseconds of the clocks that begin at the boot, as of the host's last tick: without the time that it slept, and with it.
  public func runningClocks() throws(ShadowError) -> (monotonic: Int64, boot: Int64) {
    try ShadowError.answering {
      let uptime = try kernel.reader(ProcessorTimesReader.self).read(kernel).uptime
      return (try kernel.monotonicTime(), Int64(clamping: uptime))
    }
  }

  /// How the host's clock is kept.
  public func clock() throws(ShadowError) -> ClockState { try ShadowError.answering { try ClockState(kernel) } }

  /// The log, as syslog(2) hands it out: each line after its priority and time.
  public func log() throws(ShadowError) -> [UInt8] {
    try ShadowError.answering {
      try kernel.log().records.flatMap { record -> [UInt8] in
        let priority = Array("<\(UInt32(record.facility) << 3 | UInt32(record.level.rawValue))>".utf8)
        return record.lines.flatMap { priority + $0 + [10] }
      }
    }
  }

  /// The interfaces, neighbours and routes of the first process's network namespace.
  public func network() throws(ShadowError) -> NetworkConfiguration {
    let number = try firstNetwork()
    return try ShadowError.answering {
      var found = try host.network()
      found.interfaces.removeAll { $0.namespace != number }
      found.neighbours.removeAll { $0.namespace != number }
      found.routes.removeAll { $0.namespace != number }
      return found
    }
  }

  /// The rules of routing of the first process's network namespace.
  public func routingRules() throws(ShadowError) -> [RoutingRule] {
    let number = try firstNetwork()
    return try ShadowError.answering {
      let (namespaces, faults) = try kernel.reader(NetworkNamespaceReader.self).read(in: kernel.addressSpace)
      let own = namespaces.first { $0.number == number }
      guard let own else { throw faults.first ?? ShadowError.missing }
      return try kernel.reader(RoutingRuleReader.self).read(own.address, in: kernel.addressSpace)
    }
  }

  /// The sockets of the first process's network namespace.
  public func sockets() throws(ShadowError) -> [NetworkSocket] {
    let number = try firstNetwork()
    return try ShadowError.answering { try host.sockets().filter { $0.namespace == number } }
  }

  /// The number of the first process's network namespace.
  private func firstNetwork() throws(ShadowError) -> UInt64 {
    try ShadowError.answering { try NetworkFiles.namespace(of: host.thread(1).task, kernel) }
  }

  private func process(_ record: ProcessRecord) throws -> Process {
    let details = try record.details.get()
    return Process(
      tid: record.task.tid, tgid: record.task.tgid, group: details.pids?.group.first?.number ?? 0,
      session: details.pids?.session.first?.number ?? 0, nice: record.task.nice, policy: details.policy,
      realTimePriority: details.realTimePriority, cpus: details.cpus, limits: details.process?.limits ?? [])
  }

  /// The I/O priority that the thread `tid` was given; nil where the host has no such thread.
  ///
  /// Source: block/ioprio.c, `get_task_raw_ioprio`.
  public func ioPriority(of tid: Int32) throws(ShadowError) -> UInt16? {
    try ShadowError.answering {
      guard let record = try host.processes()[tid] else { return nil }
      let context = try kernel.read(Task.self, at: [record.task.address])[0].context
      // Who was given none has no class, and until 6.0 the fourth priority of it.
      guard context.rawValue != 0 else { return host.constants.isAtLeast(6, 0) ? 0 : 4 }
      return try kernel.read(Context.self, at: [context])[0].priority
    }
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let context = Field<VirtualAddress>("io_context")
  }

  private struct Context: KernelShape {
    static let type = "io_context"
    let priority = Field<UInt16>("ioprio")
  }
}
