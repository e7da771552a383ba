import Binding
import Devices
import Foundation
import Host
import KernelInfo
import KernelViews
import LLView
import Lab
import Links
import Memory
import Records
import Remote
import Synchronization
import Testing

@testable import LinuxKernel

extension GuestTests {
  /// Modules as grassd runs them, end to end.
  ///
  /// Each monitor on each kernel is checked by `ViewTests`, whose guests it shares.
  @Suite(.serialized) struct MonitorTests {
    @Test func aMonitorInSwiftSaysWhatItsTwinInCSays() throws {
      let bench = try MonitorBench(try SharedGuests.shared.guest(standardGuests[1]))
      try bench.standingStill {
        let expected = try bench.run("ps").records.map { Array($0.bytes) }.sorted { $0.lexicographicallyPrecedes($1) }
        #expect(expected.count > 50)
        for lanes in [1, 5] {
          let seen = try bench.run("swift/ps.swift", lanes: lanes).records.map { Array($0.bytes) }
          // The records themselves would fill the screen.
          let isSame = seen.sorted { $0.lexicographicallyPrecedes($1) } == expected
          #expect(isSame, "\(seen.count) records of \(seen.first?.count ?? 0) bytes on \(lanes) lanes")
        }
      }
    }

    /// New code takes over while requests are in flight; broken code does not.
    @Test func reloadingLosesNoRequest() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[1])
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-modules-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let source = folder.appendingPathComponent("extra.c")
      func write(_ name: String) throws {
        let header = URL(filePath: monitorPath("ps")).deletingLastPathComponent().appending(path: "grass.h").path
        let text =
          "#include \"\(header)\"\nMONITOR(\(name)) { *(u64 *)grass_emit(run, 1, 8) = grass_argument(run, 0); }\n"
        try Data(text.utf8).write(to: source)
      }
      try write("first")
      let daemon = try GrassDaemon(memory: guest.memoryPath, monitors: [monitorPath("life"), source.path])
      defer { daemon.stop() }

      // Two remote hosts, one on each link, with requests of every kind.
      let isDone = Atomic<Bool>(false)
      let answered = Atomic<Int>(0)
      let threads = try daemon.urls.map { url in
        let session = try Session(to: LinkAddress(url))
        return try DedicatedThread(name: "asks") {
          while !isDone.load(ordering: .acquiring) {
            do {
              try session.heartbeat()
              let run = try session.run("life")
              #expect(LifeSigns(run.result) != nil && !run.result.isPartial)
              #expect(try session.monitors().first == "life")
              answered.add(3, ordering: .relaxed)
            } catch {
              Issue.record("after \(answered.load(ordering: .relaxed)) answers: \(error)")
              return
            }
          }
        }
      }
      defer {
        isDone.store(true, ordering: .releasing)
        for thread in threads { thread.join() }
      }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      func wait(for name: String) throws -> Bool {
        for _ in 0..<300 {
          if try session.monitors() == ["life", name] { return true }
          usleep(50_000)
        }
        return false
      }
      #expect(try session.run("first", arguments: [7]).result.records.count == 1)
      for name in ["second", "third"] {
        try write(name)
        daemon.signal(SIGHUP)
        #expect(try wait(for: name), "\(name) was not loaded")
        #expect(try session.run(name, arguments: [7]).result.records.count == 1)
      }
      // What cannot be compiled leaves those that work.
      try Data("no C".utf8).write(to: source)
      daemon.signal(SIGHUP)
      usleep(1_500_000)
      #expect(try session.monitors() == ["life", "third"])
      #expect(answered.load(ordering: .relaxed) > 100)
    }

    /// A host that is hung, comes back, and dies: told by grassctl, while grassd's device goes on.
    @Test(arguments: [GuestOptions(kernel: "6.1", memory: 512, sleepers: 5)])
    func lifeAndPanicTellTheDeadFromTheLiving(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.own(kind)
      defer { guest.shutDown() }
      let daemon = try GrassDaemon(
        memory: guest.memoryPath, monitors: ["ps", "cpu", "memory", "life", "panic"].map(monitorPath))
      defer { daemon.stop() }
      let grassctl = BuiltTool(name: "grassctl")
      let source = ["--host", daemon.urls[0]]

      let list = try grassctl.run(["run", "--list"] + source)
      #expect(list.text == "ps\ncpu\nmemory\nlife\npanic\n", "\(list.errors)")
      for (module, heading) in [
        ("ps", "UID"), ("cpu", "CPU ONLINE"), ("memory", "MemTotal:"), ("life", "jiffies"), ("panic", "State: alive"),
      ] {
        let printed = try grassctl.run(["run", module] + source)
        #expect(printed.status == 0, "\(printed.errors)")
        #expect(printed.text.drop { $0 == " " }.hasPrefix(heading), "\(printed.text)")
      }
      let tasks = try grassctl.json(["run", "ps"] + source)
      #expect(tasks.contains { $0["pid"] as? Int == 1 && $0["state"] as? String == "S" })
      let memory = try grassctl.json(["run", "memory"] + source).first
      #expect(memory?["MemTotal"] as? Int ?? 0 > 300_000)

      #expect(try grassctl.json(["memory"] + source).first?["MemFree"] as? Int ?? 0 > 100_000)
      #expect(try grassctl.json(["panic"] + source).first?["panic_cpu"] is NSNull)
      let busy = try guest.run("(while :; do :; done) >/dev/null 2>&1 & echo $!").text
      let cpus = try grassctl.json(["cpu"] + source)
      _ = try guest.run("kill \(busy)")
      #expect(cpus.count == kind.cpus)
      #expect(cpus.compactMap { $0["user"] as? Double }.reduce(0, +) > 50, "\(cpus)")

      #expect(try grassctl.run(["life"] + source).text.hasPrefix("alive"))
      let hang = try guest.hang()
      // The CPUs come to their loop with their next tick.
      usleep(500_000)
      let hung = try grassctl.run(["life", "--interval", "0.5", "--patience", "4"] + source)
      #expect(hung.status == 4)
      #expect(hung.text.hasPrefix("STILL"), "\(hung.text)\(hung.errors)")
      try guest.endHang(hang)
      let back = try grassctl.run(["life"] + source)
      #expect(back.status == 0 && back.text.hasPrefix("alive"), "\(back.text)\(back.errors)")

      try guest.panic()
      let dead = try grassctl.run(["life"] + source)
      #expect(dead.status == 4)
      #expect(dead.text.hasPrefix("PANIC on CPU"))
      let last = try grassctl.run(["run", "panic"] + source)
      #expect(last.text.hasPrefix("State: PANIC on CPU"))
      #expect(last.text.hasSuffix("---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n"))
    }
  }
}

/// One source of each monitor, against the views of the same memory and the guest's own /proc.
struct MonitorComparison {
  private let bench: MonitorBench

  init(_ guest: Guest) throws { bench = try MonitorBench(guest) }

  func compareAll() throws {
    try compareTasks()
    try compareCPUs()
    try compareMemory()
    try compareLife()
    try comparePanic()
    try compareFrames()
  }

  private func compareTasks() throws {
    let monitor = try bench.monitor("ps")
    let query = TaskQuery(includesThreads: true, includesCommandLines: false)
    // The guest lives on between two looks: what both views agree on must be in the records between them.
    for (lanes, linear) in [(1, true), (7, true), (64, false)] {
      let before = try bench.kernel.tasks(query)
      let result = monitor.run(on: bench.machine(usesLinearRanges: linear), lanes: lanes)
      let after = Dictionary(uniqueKeysWithValues: try bench.kernel.tasks(query).tasks.map { ($0.tid, $0) })
      #expect(result.faults.isEmpty)
      let threads = try #require(ThreadList(result)).threads
      let seen = Dictionary(threads.map { ($0.tid, $0) }) { first, _ in first }
      #expect(seen.count == threads.count)
      #expect(seen.count > 80)
      for task in before.tasks {
        guard let later = after[task.tid] else { continue }
        let thread = try #require(seen[task.tid], "task \(task.tid) is missing")
        #expect(thread.tgid == task.tgid)
        #expect(thread.ppid == task.ppid || thread.ppid == later.ppid)
        #expect(thread.uid == task.uid || thread.uid == later.uid)
        #expect(thread.startTime == task.startTime)
        // A worker's name is longer in the view, which adds what it works on.
        #expect(
          task.comm.starts(with: thread.comm) || later.comm.starts(with: thread.comm)
            || thread.comm.starts(with: Array("kworker".utf8)))
      }
      let known = Set(before.tasks.map(\.tid)).union(after.keys)
      // One that began and ended between the two looks is seen by neither.
      #expect(seen.keys.filter { !known.contains($0) }.count <= 2)
    }
  }

  private func compareCPUs() throws {
    let before = try bench.cpuTimes()
    let usage = try #require(CPUUsage(try bench.run("cpu", lanes: 3)))
    let after = try bench.cpuTimes()
    #expect(usage.cpus.map(\.number) == Array(0..<bench.guest.options.cpus))
    for cpu in usage.cpus {
      #expect(cpu.isOnline)
      for (index, time) in cpu.times.enumerated() {
        let (low, high) = (before[cpu.number][index], after[cpu.number][index])
        // An idle CPU's share of the present is as old as the last tick.
        let slack = time.name == "idle" || time.name == "iowait" ? 500 : 0
        // In ticks of 1/100 s.
        let value = Int(time.nanoseconds / 10_000_000)
        #expect(
          (low - slack...high).contains(value),
          "\(time.name) of CPU \(cpu.number) is \(value), the guest says \(low) and \(high)")
      }
    }
  }

  private func compareMemory() throws {
    let before = try HostOracle(bench.guest).memory
    // While the guest stands still, monitor and view must say the same.
    let (usage, host) = try bench.standingStill {
      (try #require(MemoryUsage(try bench.run("memory"))), try bench.kernel.host())
    }
    #expect(usage.lines.map(\.name) == host.memory.lines.map(\.name))
    #expect(usage.lines.map(\.bytes) == host.memory.lines.map(\.bytes))
    for line in usage.lines {
      let value = Int(line.bytes / 1024)
      let low = try #require(before[line.name])
      #expect(abs(value - low) <= 4096, "\(line.name) is \(value) kB, the guest says \(low)")
    }
  }

  private func compareLife() throws {
    // Counts of all CPUs' switches bound the monitor's sum.
    let before = try bench.switches()
    let (first, early) = try bench.standingStill {
      (try #require(LifeSigns(try bench.run("life", lanes: 2))), try bench.kernel.host())
    }
    let after = try bench.switches()
    let sum = first.cpus.reduce(0) { $0 + $1.switches }
    #expect((before...after).contains(sum), "\(sum) switches, the guest says \(before) and \(after)")
    #expect(first.cpus.map(\.number) == Array(0..<bench.guest.options.cpus))
    #expect(!first.cpus.contains { !$0.isOnline })
    #expect(first.panicCPU == nil)
    #expect(first.verdict(since: first) == .still)

    // A task that only computes: one CPU has it, and has ticks.
    let busy = try bench.guest.run("(while :; do :; done) >/dev/null 2>&1 & echo $!").text
    usleep(1_000_000)
    let (second, late, queued) = try bench.standingStill {
      (try #require(LifeSigns(try bench.run("life", lanes: 2))), try bench.kernel.host(), try bench.queuedTasks())
    }
    _ = try bench.guest.run("kill \(busy)")
    #expect(second.verdict(since: first) == .alive)
    #expect(second.cpus.contains { !$0.isIdle && $0.runnable > 0 })
    // Not by their states: who is about to sleep or was just woken is on a queue in another state than running. A CPU
    // counts a task and marks it as queued one after the other, and the stop may fall between the two.
    let runnable = second.cpus.reduce(0) { $0 + $1.runnable }
    #expect(abs(runnable - queued) <= second.cpus.count, "\(runnable) counted, \(queued) on queues")
    // Debian's CONFIG_HZ is 250.
    let ticks = Double(second.jiffies &- first.jiffies) / 250
    #expect(abs(ticks - Double(late.uptime &- early.uptime) / 1e9) < 0.1)
  }

  private func compareFrames() throws {
    try bench.standingStill {
      let kernel = bench.kernel
      let read = try kernel.frameMap(asksDevice: false).parts.map(\.classes)
      for (lanes, lies) in [(1, false), (100, false), (3, true)] {
        let memory = DescribedMemory(bench, lanes: lanes, lies: lies)
        let space = AddressSpace(memory: memory, format: kernel.addressSpace.format, root: kernel.addressSpace.root)
        let described = Kernel(
          ProvenKernel(memory: memory, found: kernel.found, addressSpace: space, tables: kernel.symbolTables, notes: [])
        )
        let told = try described.frameMap()
        #expect(told.faults.isEmpty)
        #expect(memory.said.load(ordering: .relaxed) == read.reduce(0) { $0 + $1.count })
        // The arrays themselves would fill the screen.
        for (told, read) in zip(told.parts.map(\.classes), read) {
          #expect(told.count == read.count)
          let other = zip(told, read).enumerated().first { $0.element.0 != $0.element.1 }
          #expect(other == nil, "\(lanes) lanes: frame \(other?.offset ?? 0) of a part")
        }
      }
    }
  }

  private func comparePanic() throws {
    let (state, log) = try bench.standingStill {
      (try #require(PanicState(try bench.run("panic", lanes: 5))), try bench.kernel.log())
    }
    #expect(state.panicCPU == nil)
    #expect(!state.isInOops)
    let taint = try bench.guest.run("cat /proc/sys/kernel/tainted").text
    #expect("\(state.taint)\n" == taint)
    compareLines(state.lines, log)
  }
}

/// A bench's memory with a device beside it that describes page frames.
private final class DescribedMemory: FrameDescribingMemory, @unchecked Sendable {
  // Sendable because one thread uses it.
  private let bench: MonitorBench
  private let lanes: Int
  /// Whether it leaves out half of what it finds, and says other things besides.
  private let lies: Bool
  let said = Atomic(0)

  init(_ bench: MonitorBench, lanes: Int, lies: Bool = false) {
    (self.bench, self.lanes, self.lies) = (bench, lanes, lies)
  }

  var segments: [MemorySegment] { bench.kernel.memory.segments }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) { bench.kernel.memory.read(&batch) }

  func frames(from first: UInt64, count: Int, arguments: [UInt64]) -> [FrameRun]? {
    guard let monitor = try? bench.monitor("frames") else { return nil }
    let result = monitor.run(on: bench.machine(), lanes: lanes, arguments: [first, UInt64(count)] + arguments)
    guard let runs = FrameDescriptions(result)?.runs else { return nil }
    said.add(runs.reduce(0) { $0 + $1.count }, ordering: .relaxed)
    guard lies else { return runs }
    let half = runs.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    return [FrameRun(first: first &- 9, count: 1 << 40, word: 0x12)] + half.flatMap { [$0, $0] }
      + [FrameRun(first: first + UInt64(count), count: 7, word: 2), FrameRun(first: first, count: count, word: 2)]
  }
}

/// The last lines of the log, whole.
private func compareLines(_ lines: [PanicState.Line], _ log: KernelLog) {
  let expected = log.records.suffix(lines.count)
  #expect(lines.count > 50)
  #expect(lines.map(\.sequence) == expected.map(\.sequence))
  #expect(lines.map(\.time) == expected.map(\.time))
  #expect(lines.map(\.level) == expected.map(\.level.rawValue))
  #expect(lines.map(\.facility) == expected.map(\.facility))
  #expect(lines.map(\.text) == expected.map { Array($0.text.prefix(512)) })
}

/// Monitors on this machine's processor over a guest.
final class MonitorBench {
  let guest: Guest
  let kernel: Kernel
  private let memory: FileMemory
  private let names: KernelNames
  private var monitors: [String: NativeMonitor] = [:]

  init(_ guest: Guest) throws {
    self.guest = guest
    kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
    memory = try #require(kernel.memory as? FileMemory)
    names = KernelNames(kernel.found)
  }

  func bound(_ name: String) throws -> BoundMonitor {
    try BoundMonitor(try Bitcodes.shared.bitcode(name), name: name, for: names)
  }

  func monitor(_ name: String) throws -> NativeMonitor {
    if let known = monitors[name] { return known }
    let new = try NativeMonitor(bound(name))
    monitors[name] = new
    return new
  }

  func machine(usesLinearRanges: Bool = true) -> WatchedMachine {
    WatchedMachine(
      memory, space: kernel.addressSpace, slide: kernel.found.slide,
      usesLinearRanges: usesLinearRanges)
  }

  /// Runs a monitor, which must end by itself.
  func run(_ name: String, lanes: Int = 1) throws -> MonitorResult {
    let result = try monitor(name).run(on: machine(), lanes: lanes)
    #expect(result.faults.isEmpty, "\(name): \(result.faults)")
    return result
  }

  func standingStill<T>(_ body: () throws -> T) throws -> T {
    try guest.pause()
    defer { try? guest.resume() }
    return try body()
  }

  /// Ten columns for each CPU, in ticks of 1/100 s.
  func cpuTimes() throws -> [[Int]] {
    try guest.run("grep '^cpu[0-9]' /proc/stat").text.split(separator: "\n").map { line in
      let times = line.split(separator: " ").dropFirst().compactMap { Int($0) }
      try #require(times.count == 10)
      return times
    }
  }

  private struct QueuedTask: KernelShape {
    static let type = "task_struct"
    let isQueued = Field<UInt32>("on_rq")
  }

  /// How many tasks are on a run queue, those among them that run.
  func queuedTasks() throws -> Int {
    let task: Bound<QueuedTask> = try kernel.types.bind()
    let tasks = try kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
    var (count, faults) = (0, tasks.faults)
    kernel.addressSpace.read(task, at: tasks.tasks.map(\.address)).forEach(&faults) { (reading) throws(MemoryFault) in
      if try reading.isQueued == 1 { count += 1 }
    }
    #expect(faults.isEmpty, "\(faults)")
    return count
  }

  func switches() throws -> UInt64 {
    let line = try guest.run("grep ^ctxt /proc/stat").text
    return try #require(line.split(whereSeparator: \.isWhitespace).last.flatMap { UInt64($0) })
  }
}

/// Monitors' bitcode: one of each, for all kernels.
private final class Bitcodes: @unchecked Sendable {
  // Sendable because the lock guards the table.
  static let shared = Bitcodes()
  private let lock = NSLock()
  private var made: [String: [UInt8]] = [:]

  func bitcode(_ name: String) throws -> [UInt8] {
    lock.lock()
    defer { lock.unlock() }
    if let known = made[name] { return known }
    let new = try FrontEnd().compile(monitorPath(name))
    made[name] = new
    return new
  }
}

/// A monitor's source, in C unless its name says otherwise.
func monitorPath(_ name: String) -> String {
  let file = name.hasSuffix(".swift") ? name : name + ".c"
  return URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../monitors/\(file)").standardized
    .path
}
