import KernelInfo
import KernelViews
import Memory
import Paging
import Samples
import Synchronization
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

private typealias Place = SyntheticLinux.Place

/// Addresses at which no struct of the kernel lies.
private let nowhere: [UInt64] = [0x10, 0x7fff_0000, 0xdead_0000_0000_0100, 0xffff_8880_ffff_0000, .max - 7]

/// Timers of a small Linux: as they are, and made to hurt.
struct HostileTimerTests {
  private func timers(
    bytes: Int = 4 << 20, _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> TimerTable {
    // A tree costs a round trip a level, of 128 at most; each is tried three times.
    try view(change, batches: 3 * 24 * 130, bytes: bytes) { kernel throws(KernelError) in try kernel.timers() }
  }

  private static let all =
    [SyntheticLinux.plainTimer, SyntheticLinux.delayedWork] + (0..<3).map(SyntheticLinux.sleeper)

  @Test func timersAsTheyAre() throws {
    let table = try timers()
    #expect(table.faults.isEmpty)
    #expect(table.timers.map(\.cpu) == [0, 0, 1, 1, 1])
    #expect(table.timers.map(\.queue) == [.wheel(0), .wheel(0)] + Array(repeating: .clock("monotonic"), count: 3))
    // Ticks of 4 ms; the sleepers' clock stands at 1500 ns.
    #expect(
      table.timers.map(\.expiresIn) == [-4_000_000, 1_000_000_000, 10_000_000_000, 20_000_000_000, 30_000_000_000])
    #expect(
      table.timers.map(\.function.symbol)
        == ["other_timer+0x0", "delayed_work_timer_fn+0x0"] + Array(repeating: "hrtimer_wakeup+0x0", count: 3))
    #expect(table.timers.map(\.tid) == [nil, nil, 5, 1, 5])
    #expect(table.timers.map(\.work?.symbol) == [nil, "some_work+0x0", nil, nil, nil])
  }

  @Test func bucketsThatLoopOrShareTheirTimers() throws {
    let table = try timers { linux in
      let first = SyntheticLinux.delayedWork + linux.offset("delayed_work", "timer")
      linux.set("timer_list", at: SyntheticLinux.plainTimer, ["entry.next": first])
      for cpu in 0..<3 {
        for wheel in 0..<2 {
          for bucket in 0..<16 { linux.put(first, at: linux.bucket(bucket, wheel: wheel, cpu: cpu)) }
        }
      }
    }
    // Each timer once: the ring, and every other bucket of all, come to what was seen.
    #expect(table.timers.count == 5 && table.faults.count == 96)
  }

  @Test(arguments: nowhere + [SyntheticLinux.plainTimer + 4])
  func linksThatLeadNowhere(link: UInt64) throws {
    var table = try timers { linux in
      linux.set("timer_list", at: SyntheticLinux.plainTimer, ["entry.next": link])
      linux.put(link, at: linux.bucket(15, cpu: 2))
    }
    #expect(table.timers.count == 5 && table.faults.count == 2)
    table = try timers { linux in
      linux.set("rb_node", at: SyntheticLinux.sleeper(2), ["rb_right": link])
      linux.put(link, at: linux.clockRoot(5, cpu: 2))
    }
    #expect(!table.faults.isEmpty)
    #expect(table.timers.filter { $0.tid != nil }.count == 3)
  }

  @Test func treesThatLoop() throws {
    let table = try timers { linux in
      linux.set("rb_node", at: SyntheticLinux.sleeper(1), ["rb_left": SyntheticLinux.sleeper(0)])
      linux.set(
        "rb_node", at: SyntheticLinux.sleeper(2),
        ["rb_left": SyntheticLinux.sleeper(2), "rb_right": SyntheticLinux.sleeper(1)])
    }
    #expect(table.timers.filter { $0.cpu == 1 }.map(\.expiresIn) == [10, 20, 30].map { $0 * 1_000_000_000 })
    #expect(table.faults.count == 3)
  }

  /// A tree that is a chain: no tree of the kernel is so deep.
  @Test func treeWithoutEnd() throws {
    let table = try timers { linux in
      let first = SyntheticKernel.directMap + 0x50_0000
      for index: UInt64 in 0..<5000 {
        linux.set("rb_node", at: first + index * 64, ["rb_left": first + (index + 1) * 64])
      }
      linux.put(first, at: linux.clockRoot(2))
    }
    #expect(table.faults.contains { $0.description.contains("more than 128 levels") })
    #expect(table.timers.count < 200)
  }

  /// More CPUs than there are, all with the same tree: what is left out is told.
  @Test func oneTreeForEveryClockOfManyCPUs() throws {
    let cpus = 60
    let table = try timers(bytes: 64 << 20) { linux in
      let first = SyntheticKernel.directMap + 0x50_0000
      for index: UInt64 in 0..<255 {
        linux.set(
          "rb_node", at: first + index * 64,
          ["rb_left": first + (2 * index + 1) * 64, "rb_right": first + (2 * index + 2) * 64])
      }
      for clock in 0..<8 { linux.put(first, at: linux.clockRoot(clock)) }
      let copy = Place.copy(of: Place.timerBases, cpu: 1) &- Place.timerBases
      for cpu in 0..<cpus { linux.put(copy, at: Place.perCPUOffsets + UInt64(cpu) * 8) }
      linux.put(1 << UInt64(cpus) - 1, at: Place.masks)
    }
    let most = SyntheticKernel.size / 64
    #expect(table.timers.count <= most + 511)
    #expect(table.faults.contains { $0.description.contains("more than \(most) timers") })
  }

  @Test(arguments: [0, 1, 1 << 62, 1 << 63, .max - 1, .max] as [UInt64])
  func timesAtTheirLimits(time: UInt64) throws {
    let table = try timers { linux in
      linux.set("timer_list", at: SyntheticLinux.plainTimer, ["expires": time])
      linux.set("hrtimer_sleeper", at: SyntheticLinux.sleeper(0), ["timer.node.expires": time])
      linux.put(time, at: SyntheticLinux.scalar("jiffies_64"))
      linux.set("timekeeper", at: Place.clock, ["tkr_mono.base": time, "tkr_mono.shift": time])
      let base = Place.copy(of: Place.clockBases, cpu: 1) + linux.offset("hrtimer_cpu_base", "clock_base")
      linux.set("hrtimer_clock_base", at: base, ["offset": time])
    }
    #expect(table.timers.count == 5 && table.faults.isEmpty)
  }

  @Test(arguments: [0, 1, 1 << 32, 1 << 62, .max] as [UInt64]) func ticksThatAreNone(length: UInt64) throws {
    #expect(throws: KernelError.self) {
      try timers { $0.set("timekeeper", at: Place.clock, ["ntp_tick": length]) }
    }
  }

  @Test(arguments: nowhere) func tasksAndWorksThatAreNowhere(pointer: UInt64) throws {
    let table = try timers { linux in
      linux.set("hrtimer_sleeper", at: SyntheticLinux.sleeper(0), ["task": pointer])
      linux.set("delayed_work", at: SyntheticLinux.delayedWork, ["work.func": pointer])
      linux.set("timer_list", at: SyntheticLinux.plainTimer, ["function": pointer])
    }
    #expect(table.timers.map(\.tid) == [nil, nil, 5, nil, 5])
    #expect(table.timers[0].function.owner == .unknown && table.timers[1].work?.owner == .unknown)
  }

  @Test func namesWithoutAnEnd() throws {
    let table = try timers { linux in
      linux.put([UInt8](repeating: 0x41, count: 16), at: Place.task(0) + linux.offset("task_struct", "comm"))
    }
    #expect(table.timers[3].comm == [UInt8](repeating: 0x41, count: 16))
  }
}

/// Queues of work, pools and workers.
struct HostileWorkQueueTests {
  private func work(
    of linux: SyntheticLinux = SyntheticLinux(), _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> WorkQueueTable {
    try view(change, of: linux, bytes: 16 << 20) { kernel throws(KernelError) in try kernel.workQueues() }
  }

  @Test func workAsItIs() throws {
    let table = try work()
    #expect(table.faults.isEmpty)
    #expect(table.queues.map { String(decoding: $0.name, as: UTF8.self) } == ["events"])
    #expect(table.queues.map(\.active) == [3] && table.queues.map(\.inactive) == [1])
    #expect(table.pools.map(\.id) == [7] && table.pools.map(\.cpu) == [1] && table.pools.map(\.pending) == [1])
    #expect(table.workers.map(\.tid) == [2] && table.workers[0].function?.symbol == "some_work+0x0")
    #expect(Set(table.works.map(\.state)) == [.running, .pending, .scheduled, .inactive])
    #expect(table.works.map(\.address.rawValue).sorted() == (0..<4).map(SyntheticLinux.work))
    #expect(table.works.allSatisfy { String(decoding: $0.queue, as: UTF8.self) == "events" })
    #expect(table.works.filter { $0.state == .running || $0.state == .scheduled }.allSatisfy { $0.tid == 2 })
  }

  /// The head of each list, and where it leads.
  static let heads: [(structure: String, address: UInt64, path: String)] = [
    ("list_head", Place.workQueues, "next"), ("workqueue_struct", SyntheticLinux.queue, "list.next"),
    ("workqueue_struct", SyntheticLinux.queue, "pwqs.next"),
    ("pool_workqueue", SyntheticLinux.poolWorkQueue, "inactive_works.next"),
    ("pool_workqueue", SyntheticLinux.poolWorkQueue, "pwqs_node.next"),
    ("worker_pool", SyntheticLinux.pool, "worklist.next"), ("worker_pool", SyntheticLinux.pool, "workers.next"),
    ("worker", SyntheticLinux.poolWorker, "node.next"), ("worker", SyntheticLinux.poolWorker, "scheduled.next"),
    ("work_struct", SyntheticLinux.work(1), "entry.next"), ("work_struct", SyntheticLinux.work(3), "entry.next"),
  ]

  @Test(arguments: heads.indices, nowhere + [0])
  func linksThatLeadNowhere(head: Int, link: UInt64) throws {
    let head = Self.heads[head]
    do {
      let table = try work { $0.set(head.structure, at: head.address, [head.path: link]) }
      #expect(!table.faults.isEmpty)
      #expect(table.queues.count <= 1 && table.pools.count == 1 && table.workers.count <= 1 && table.works.count <= 4)
    } catch {
      // Without the first queue there is no view.
      #expect(head.address == Place.workQueues)
    }
  }

  /// Every list leads into itself without coming back to its head.
  @Test(arguments: heads.indices) func listsThatLoop(head: Int) throws {
    let head = Self.heads[head]
    let table = try work { linux in
      let spare = SyntheticKernel.directMap + 0x50_0400
      linux.set(head.structure, at: head.address, [head.path: spare])
      linux.put(spare + 0x1000, at: spare)
      linux.put(spare, at: spare + 0x1000)
    }
    #expect(table.faults.contains { $0.description.contains("comes to a member again") })
    #expect(table.queues.count <= 3 && table.workers.count <= 3 && table.works.count <= 8)
  }

  @Test func poolsInATreeThatLoops() throws {
    let table = try work { linux in
      for slot in 1..<64 {
        linux.setSlot(
          of: SyntheticLinux.poolNode, slot, slot % 2 == 0 ? SyntheticLinux.poolNode | 2 : SyntheticLinux.pool)
      }
    }
    // A pool that is listed many times is so many pools with the same lists, which are followed once.
    #expect(!table.faults.isEmpty && table.pools.count <= 64)
    #expect(table.works.count <= 4 && table.workers.count <= 1)
  }

  /// Counts are the memory's claim: they are shown, and nothing is counted by them.
  @Test(arguments: [1 << 31, 1 << 63, UInt64(Int64.max), .max]) func countsThatLie(count: UInt64) throws {
    for wide in [false, true] {
      let table = try work(of: SyntheticLinux(wideCounts: wide)) { linux in
        linux.set(
          "worker_pool", at: SyntheticLinux.pool, ["nr_workers": count, "nr_idle": count, "id": count, "cpu": count])
        // Two pools of one queue, whose counts are added.
        let second = SyntheticKernel.directMap + 0x50_0200
        let (node, works) = (
          linux.offset("pool_workqueue", "pwqs_node"), linux.offset("pool_workqueue", "inactive_works")
        )
        linux.ring(
          SyntheticLinux.queue + linux.offset("workqueue_struct", "pwqs"), SyntheticLinux.poolWorkQueue + node,
          second + node)
        linux.ring(second + works)
        linux.set("pool_workqueue", at: second, ["wq": SyntheticLinux.queue, "nr_active": count])
        linux.set("pool_workqueue", at: SyntheticLinux.poolWorkQueue, ["nr_active": count])
      }
      #expect(table.pools.count == 1 && table.queues.count == 1 && table.queues[0].active >= 0)
    }
  }

  @Test(arguments: nowhere) func whatHangsOnAWorkerIsNowhere(pointer: UInt64) throws {
    for field in ["current_work", "current_func", "current_pwq", "task"] {
      let table = try work { $0.set("worker", at: SyntheticLinux.poolWorker, [field: pointer]) }
      #expect(table.faults.count == (field == "task" ? 1 : 0), "\(field)")
      #expect(table.works.count == 4)
      #expect(table.workers.count == (field == "task" ? 0 : 1))
    }
    let table = try work { linux in
      linux.set("pool_workqueue", at: SyntheticLinux.poolWorkQueue, ["wq": pointer])
      linux.set("worker_pool", at: SyntheticLinux.pool, ["attrs": pointer])
      linux.setSlot(of: SyntheticLinux.poolNode, 5, pointer & ~7)
    }
    #expect(!table.faults.isEmpty && table.queues.count == 1)
  }

  @Test func namesWithoutAnEnd() throws {
    let table = try work { linux in
      linux.put(
        [UInt8](repeating: 0x41, count: 24), at: SyntheticLinux.queue + linux.offset("workqueue_struct", "name"))
      linux.put([UInt8](repeating: 0x42, count: 16), at: Place.task(1) + linux.offset("task_struct", "comm"))
    }
    #expect(table.queues[0].name == [UInt8](repeating: 0x41, count: 24))
    #expect(table.workers[0].comm == [UInt8](repeating: 0x42, count: 16))
  }
}

/// Locks on files, and chains of those that wait for them.
struct HostileFileLockTests {
  private func locks(
    of linux: SyntheticLinux = SyntheticLinux(), batches: Int = 200, bytes: Int = 4 << 20,
    _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> LockTable {
    try view(change, of: linux, batches: batches, bytes: bytes) { kernel throws(KernelError) in
      let reader = try kernel.reader(FileLockReader.self)
      var table = LockTable()
      reader.read(try kernel.cpus(), in: kernel.addressSpace, into: &table)
      return table
    }
  }

  @Test func locksAsTheyAre() throws {
    let table = try locks()
    #expect(table.faults.isEmpty)
    #expect(table.fileLocks.map(\.address.rawValue) == (0..<3).map(SyntheticLinux.fileLock))
    #expect(table.fileLocks.map(\.blocker?.rawValue) == [nil, SyntheticLinux.fileLock(0), SyntheticLinux.fileLock(1)])
    #expect(table.fileLocks.map(\.kind) == ["POSIX", "FLOCK", "FLOCK"] && table.fileLocks.map(\.pid) == [1, 2, 5])
    let first = try #require(table.fileLocks.first)
    #expect((first.mode, first.start, first.end, first.inode) == ("WRITE", 10, 29, 77))
    #expect((first.major, first.minor) == (8, 3) && first.name?.bytes == Array("/locked".utf8))
  }

  @Test func waitersInRings() throws {
    let table = try locks { linux in
      let (requests, member) = (
        linux.offset("file_lock", "fl_blocked_requests"), linux.offset("file_lock", "fl_blocked_member")
      )
      // The last is waited for by the first, which holds; another list comes to itself.
      linux.ring(SyntheticLinux.fileLock(2) + requests, SyntheticLinux.fileLock(0) + member)
      linux.put(SyntheticLinux.fileLock(1) + member, at: SyntheticLinux.fileLock(1) + member)
    }
    #expect(table.fileLocks.count == 3 && !table.faults.isEmpty)
  }

  @Test(arguments: nowhere) func linksThatLeadNowhere(link: UInt64) throws {
    let table = try locks { linux in
      linux.put(link, at: linux.heldLocks(cpu: 2))
      linux.set("file_lock", at: SyntheticLinux.fileLock(0), ["fl_link.next": link])
      linux.set("file_lock", at: SyntheticLinux.fileLock(2), ["fl_blocked_requests.next": link])
    }
    #expect(table.fileLocks.count == 3 && table.faults.count == 3)
  }

  @Test(arguments: nowhere, ["f_inode", "f_path.mnt", "f_path.dentry"]) func filesThatAreNowhere(
    pointer: UInt64, field: String
  ) throws {
    let table = try locks { $0.set("file", at: SyntheticLinux.lockedFile, [field: pointer]) }
    #expect(table.faults.count == 3, "each lock's file cannot be told")
    #expect(table.fileLocks.allSatisfy { $0.name == nil || field == "f_inode" })
  }

  /// Each waits for the one before: the kernel looks for such chains, and lets none of them grow so long.
  @Test func chainOfWaitersWithoutEnd() throws {
    let table = try locks { linux in
      let (requests, member) = (
        linux.offset("file_lock", "fl_blocked_requests"), linux.offset("file_lock", "fl_blocked_member")
      )
      let first = SyntheticKernel.directMap + 0x50_0000
      linux.ring(SyntheticLinux.fileLock(2) + requests, first + member)
      for index: UInt64 in 0..<200 {
        linux.set("file_lock", at: first + index * 0x80, ["fl_file": SyntheticLinux.lockedFile])
        linux.ring(first + index * 0x80 + requests, first + (index + 1) * 0x80 + member)
      }
      linux.ring(first + 200 * 0x80 + requests)
    }
    #expect(table.fileLocks.count > 60 && table.fileLocks.count < 100)
    #expect(table.faults.contains { $0.description.contains("wait for each other") })
  }

  /// A long list that every one of a chain leads into is read anew for none of them.
  @Test func longListAtEachLevel() throws {
    let (list, chain) = (SyntheticKernel.directMap + 0x60_0000, SyntheticKernel.directMap + 0x50_0000)
    let table = try locks(batches: 600, bytes: 24 << 20) { linux in
      let (requests, member) = (
        linux.offset("file_lock", "fl_blocked_requests"), linux.offset("file_lock", "fl_blocked_member")
      )
      // A link a page, each page read for each level.
      for page: UInt64 in 0..<256 { linux.put(list + (page + 1) * 4096, at: list + page * 4096) }
      linux.ring(SyntheticLinux.fileLock(2) + requests, chain + member)
      for index: UInt64 in 0..<60 {
        let lock = chain + index * 0x80
        linux.put(chain + (index + 1) * 0x80 + member, at: lock + requests)
        linux.put(list, at: lock + member)
      }
    }
    #expect(!table.faults.isEmpty)
  }

  @Test(arguments: [UInt64(Int32.max), 1 << 31, 1 << 63, .max]) func namesThatLie(length: UInt64) throws {
    for wide in [false, true] {
      let table = try locks(of: SyntheticLinux(wideCounts: wide)) { linux in
        linux.set("dentry", at: SyntheticLinux.lockedEntry, ["d_name.len": length])
        linux.put(
          [UInt8](repeating: 0x41, count: 32), at: SyntheticLinux.lockedEntry + linux.offset("dentry", "d_iname"))
      }
      #expect(table.fileLocks.count == 3)
      #expect(table.fileLocks.allSatisfy { ($0.name?.bytes.count ?? 0) <= 33 })
    }
  }

  @Test func entriesInARing() throws {
    let table = try locks { linux in
      linux.set("dentry", at: SyntheticLinux.lockedEntry, ["d_parent": SyntheticLinux.lockedEntry + 0x80])
      linux.set("dentry", at: SyntheticLinux.lockedEntry + 0x80, ["d_parent": SyntheticLinux.lockedEntry])
      linux.set("mount", at: SyntheticLinux.lockedEntry + 0x100, ["mnt.mnt_root": 0])
    }
    #expect(table.fileLocks.count == 3 && table.fileLocks.allSatisfy { $0.name == nil })
    #expect(table.faults.count == 3)
  }
}

/// Tables of open files.
struct HostileOpenFileTests {
  private func files(_ change: (inout SyntheticLinux) -> Void = { _ in }) throws -> OpenFileTable {
    try view(change, bytes: 16 << 20) { kernel throws(KernelError) in try kernel.openFiles() }
  }

  @Test func filesAsTheyAre() throws {
    let table = try files()
    #expect(table.faults.isEmpty && table.files.count == 1)
    let file = try #require(table.files.first)
    #expect((file.pid, file.descriptor, file.inode) == (1, 3, 77) && file.name.bytes == Array("/locked".utf8))
  }

  /// What lies behind the table is no file, and is not looked at word by word.
  @Test func tableThatClaimsMoreThanItHas() throws {
    let table = try files { linux in
      linux.set("fdtable", at: SyntheticLinux.descriptorTable, ["max_fds": 1 << 18])
      linux.put([UInt8](repeating: 0x41, count: 1 << 19), at: SyntheticKernel.directMap + 0x50_0000)
    }
    #expect(table.files.contains { $0.descriptor == 3 })
    #expect(!table.faults.isEmpty && table.faults.count < 100)
  }
}

/// Trees of control groups, and where tasks are in them.
struct HostileControlGroupTests {
  private func groups(
    of linux: SyntheticLinux = SyntheticLinux(), batches: Int = 300, bytes: Int = 8 << 20,
    _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> ControlGroupTable {
    try view(change, of: linux, batches: batches, bytes: bytes) { kernel throws(KernelError) in
      try kernel.controlGroups()
    }
  }

  private func paths(_ table: ControlGroupTable) -> [String] {
    table.groups.map { String(decoding: $0.path, as: UTF8.self) }
  }

  @Test func groupsAsTheyAre() throws {
    let table = try groups()
    #expect(table.faults.isEmpty)
    #expect(paths(table) == ["/", "/outer", "/outer/inner"])
    #expect(table.groups.map(\.level) == [0, 1, 2] && table.groups.map(\.id) == [1, 2, 3])
    #expect(table.groups.map(\.processes) == [0, 0, 2] && table.groups.map(\.threads) == [0, 0, 2])
    #expect(table.groups.allSatisfy { $0.controllers == ["memory", "pids"] && !$0.isDying })
    let inner = try #require(table.groups.last)
    #expect((inner.memoryCurrent, inner.memoryMax, inner.memoryHigh) == (5 * 4096, 100 * 4096, nil))
    #expect((inner.pidsCurrent, inner.pidsMax) == (2, 40))
    #expect(table.controllers.map(\.name) == ["memory", "pids"] && table.controllers.map(\.groups) == [3, 3])
  }

  /// A group that is its own child, one that is its parent's parent, one that two groups have.
  @Test(arguments: [0, 1, 2], [0, 1, 2]) func treesThatLoop(parent: Int, child: Int) throws {
    guard child != parent + 1 else { return }
    let table = try groups { linux in
      linux.put(
        linux.group(child) + linux.offset("cgroup", "self.sibling"),
        at: linux.group(parent) + linux.offset("cgroup", "self.children"))
    }
    #expect(!table.faults.isEmpty)
    #expect(Set(table.groups.map(\.address)).count == table.groups.count && table.groups.count <= 3)
  }

  @Test(arguments: nowhere) func linksThatLeadNowhere(link: UInt64) throws {
    let changes: [(inout SyntheticLinux) -> Void] = [
      { $0.set("cgroup", at: $0.group(1), ["self.sibling.next": link]) },
      { $0.set("cgroup", at: $0.group(2), ["self.children.next": link]) },
      { $0.set("cgroup", at: $0.group(2), ["kn": link]) },
      { $0.set("cgroup", at: $0.group(2), ["root": link]) },
      { $0.set("kernfs_node", at: $0.groupNode(2), ["parent": link]) },
      { $0.set("kernfs_node", at: $0.groupNode(2), ["name": link]) },
      { $0.put(link, at: $0.group(2) + $0.offset("cgroup", "subsys")) },
      { $0.put(link, at: SyntheticLinux.groupSet) },
      { $0.set("cgroup_root", at: Place.defaultRoot, ["root_list.next": link]) },
      { $0.set("task_struct", at: Place.task(0), ["cgroups": link]) },
    ]
    for (index, change) in changes.enumerated() {
      let table = try groups(change)
      #expect(!table.faults.isEmpty, "change \(index)")
      #expect(paths(table).starts(with: ["/", "/outer"]), "change \(index)")
    }
    // Without the controllers there is nothing to say of any group.
    for place in [Place.subsystems, Place.groups] {
      #expect(throws: KernelError.self) { try groups { $0.put(link, at: place) } }
    }
  }

  @Test func directoriesInARing() throws {
    let table = try groups { $0.set("kernfs_node", at: $0.groupNode(1), ["parent": $0.groupNode(2)]) }
    #expect(paths(table) == ["/"] && table.faults.count == 2)
  }

  @Test func setsThatLoop() throws {
    let table = try groups { linux in
      let link = SyntheticLinux.groupSet + 0x40 + linux.offset("cgrp_cset_link", "cgrp_link")
      linux.put(link, at: link)
    }
    #expect(table.groups.map(\.processes) == [0, 0, 2] && !table.faults.isEmpty)
  }

  /// Groups in groups, deeper than anybody makes them.
  @Test func treeWithoutEnd() throws {
    let first = SyntheticKernel.directMap + 0x50_0000
    let table = try groups(batches: 3 * 4200, bytes: 64 << 20) { linux in
      let (children, sibling) = (linux.offset("cgroup", "self.children"), linux.offset("cgroup", "self.sibling"))
      linux.ring(linux.group(2) + children, first + sibling)
      for index: UInt64 in 0..<1100 {
        linux.set("cgroup", at: first + index * 0x100, ["root": Place.defaultRoot, "kn": linux.groupNode(2)])
        linux.ring(first + index * 0x100 + children, first + (index + 1) * 0x100 + sibling)
      }
    }
    #expect(table.groups.count <= 1026)
    #expect(table.faults.contains { $0.description.contains("more than 1024 levels") })
  }

  /// A long list of groups that those of every level lead into is read once, not once a level.
  @Test func longListAtEachLevel() throws {
    let (list, chain) = (SyntheticKernel.directMap + 0x60_0000, SyntheticKernel.directMap + 0x50_0000)
    let table = try groups(batches: 3 * 4200, bytes: 64 << 20) { linux in
      let (children, sibling) = (linux.offset("cgroup", "self.children"), linux.offset("cgroup", "self.sibling"))
      for index: UInt64 in 0..<256 { linux.put(list + (index + 1) * 4096, at: list + index * 4096) }
      linux.ring(linux.group(2) + children, chain + sibling)
      for index: UInt64 in 0..<1000 {
        linux.put(chain + (index + 1) * 0x100 + sibling, at: chain + index * 0x100 + children)
        linux.put(list, at: chain + index * 0x100 + sibling)
      }
    }
    #expect(!table.faults.isEmpty && table.faults.count < 20_000)
  }

  @Test(arguments: [1 << 31, 1 << 63, UInt64(Int64.max), .max]) func numbersAtTheirLimits(number: UInt64) throws {
    for wide in [false, true] {
      let table = try groups(of: SyntheticLinux(wideCounts: wide)) { linux in
        linux.set("cgroup", at: linux.group(2), ["level": number])
        linux.set(
          "cgroup_root", at: Place.defaultRoot, ["hierarchy_id": number, "nr_cgrps": number, "subsys_mask": number])
        linux.set(
          "mem_cgroup", at: SyntheticLinux.memoryGroup,
          ["memory.usage": number, "memory.max": number, "memory.high": number])
        linux.set("pids_cgroup", at: SyntheticLinux.memoryGroup + 0x100, ["counter": number, "limit": number])
      }
      #expect(table.groups.count == 3 && table.faults.isEmpty)
    }
  }

  @Test func namesWithoutAnEnd() throws {
    let table = try groups { linux in
      let text = SyntheticKernel.directMap + 0x50_0000
      linux.put([UInt8](repeating: 0x41, count: 0x2000), at: text)
      linux.set("kernfs_node", at: linux.groupNode(2), ["name": text])
      linux.set("cgroup_subsys", at: Place.groups, ["name": text])
      linux.put([UInt8](repeating: 0x42, count: 64), at: Place.defaultRoot + linux.offset("cgroup_root", "name"))
    }
    #expect(table.groups.last?.path.count == 7 + 256)
    #expect(table.controllers.first?.name.count == 64)
  }
}

/// Memory that becomes another in the middle of a look, as a live host's does.
private final class TurningMemory: PhysicalMemory {
  private let before, after: SyntheticMemory
  private let left = Mutex(Int.max)

  init(_ before: SyntheticMemory, _ after: SyntheticMemory) { (self.before, self.after) = (before, after) }

  var segments: [MemorySegment] { before.segments }

  /// Turns after `batches` more reads.
  func turn(after batches: Int) { left.withLock { $0 = batches } }
  var hasTurned: Bool { left.withLock { $0 < 0 } }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    let isLater = left.withLock { left in
      left -= 1
      return left < 0
    }
    if isLater { after.read(&batch) } else { before.read(&batch) }
  }
}

/// What is there before and after a change in the middle of a look is seen, or its lack is marked; nothing is seen twice.
struct ChangingMemoryTests {
  private func look(
    _ change: (inout SyntheticLinux) -> Void, kept: Set<UInt64>,
    _ body: (Kernel) throws(KernelError) -> (seen: [UInt64], faults: [MemoryFault])
  ) throws {
    let before = SyntheticLinux()
    var after = before
    change(&after)
    for batches in 0..<60 {
      let memory = TurningMemory(before.memory, after.memory)
      let kernel = try Kernel(memory: memory)
      memory.turn(after: batches)
      let (seen, faults) = try body(kernel)
      #expect(Set(seen).count == seen.count, "after \(batches) reads: \(seen)")
      #expect(!faults.isEmpty || kept.isSubset(of: seen), "after \(batches) reads: \(seen)")
      if !memory.hasTurned { return }
    }
    Issue.record("the view read more than 60 times")
  }

  @Test func timers() throws {
    try look(
      { linux in
        // The plain timer moves to another CPU's wheel; the tree loses its root, and its left takes its place.
        let delayed = SyntheticLinux.delayedWork + linux.offset("delayed_work", "timer")
        linux.put(SyntheticLinux.plainTimer, at: linux.bucket(2, cpu: 2))
        linux.set("timer_list", at: delayed, ["entry.next": 0])
        linux.put(SyntheticLinux.sleeper(1), at: linux.clockRoot(0))
        linux.set("rb_node", at: SyntheticLinux.sleeper(1), ["rb_right": SyntheticLinux.sleeper(2)])
      }, kept: [SyntheticLinux.delayedWork + 0x20]
    ) { kernel throws(KernelError) in
      let table = try kernel.timers()
      return (table.timers.map(\.address.rawValue), table.faults)
    }
  }

  @Test func work() throws {
    try look(
      { linux in
        // The pending work becomes the worker's next; the one that ran is over.
        let entry = linux.offset("work_struct", "entry")
        let pool = SyntheticLinux.pool + linux.offset("worker_pool", "worklist")
        linux.ring(pool)
        linux.ring(
          SyntheticLinux.poolWorker + linux.offset("worker", "scheduled"), SyntheticLinux.work(2) + entry,
          SyntheticLinux.work(1) + entry)
        linux.set("worker", at: SyntheticLinux.poolWorker, ["current_work": 0])
      }, kept: [SyntheticLinux.work(2), SyntheticLinux.work(3)]
    ) { kernel throws(KernelError) in
      let table = try kernel.workQueues()
      // A work can be on its way and be seen in two states, but in none twice.
      #expect(Set(table.works.map { "\($0.state) \($0.address)" }).count == table.works.count)
      return (Array(Set(table.works.map(\.address.rawValue))), table.faults)
    }
  }

  @Test func controlGroups() throws {
    try look(
      { linux in
        // The inner group is removed, and its memory holds something else.
        linux.ring(linux.group(1) + linux.offset("cgroup", "self.children"))
        linux.put([UInt8](repeating: 0xa5, count: 0x80), at: linux.group(2))
      }, kept: []
    ) { kernel throws(KernelError) in
      let table = try kernel.controlGroups()
      let outer = table.groups.prefix { $0.level < 2 }
      guard outer.count == 2 || !table.faults.isEmpty else { return ([], []) }
      return (table.groups.map(\.address.rawValue), table.faults)
    }
  }
}
