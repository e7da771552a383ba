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

/// Memory that counts what is read of it, for bounds that do not depend on a clock.
final class MeasuredMemory: PhysicalMemory {
  private let base: SyntheticMemory
  private let counts = Mutex<(batches: Int, bytes: Int)>((0, 0))

  init(_ base: SyntheticMemory) { self.base = base }

  var segments: [MemorySegment] { base.segments }
  var total: (batches: Int, bytes: Int) { counts.withLock { $0 } }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    let bytes = batch.byteCount
    counts.withLock { $0 = ($0.batches + 1, $0.bytes + bytes) }
    base.read(&batch)
  }
}

private typealias Place = SyntheticLinux.Place

/// Runs a view of a kernel in memory changed by `change`; the view may not read more than the bounds say.
func view<Result>(
  _ change: (inout SyntheticLinux) -> Void = { _ in }, of original: SyntheticLinux = SyntheticLinux(),
  batches: Int = 200, bytes: Int = 4 << 20, _ body: (Kernel) throws(KernelError) -> Result
) throws -> Result {
  var linux = original
  change(&linux)
  let memory = MeasuredMemory(linux.memory)
  let kernel = try Kernel(memory: memory)
  let before = memory.total
  defer {
    let (count, size) = (memory.total.batches - before.batches, memory.total.bytes - before.bytes)
    #expect(count <= batches, "\(count) batches were read")
    #expect(size <= bytes, "\(size) bytes were read")
  }
  return try body(kernel)
}

/// A kernel written in code gives what was written.
struct SyntheticKernelTests {
  @Test func tasks() throws {
    let table = try view { kernel throws(KernelError) in try kernel.tasks(TaskQuery(includesThreads: true)) }
    #expect(table.faults.isEmpty && table.mismatches.isEmpty)
    #expect(table.tasks.map(\.tid) == SyntheticLinux.pidNumbers)
    #expect(table.tasks.map(\.tgid) == [1, 2, 5, 5])
    #expect(table.tasks.map(\.ppid) == [0, 1, 1, 1])
    let names = table.tasks.map { String(decoding: $0.comm, as: UTF8.self) }
    #expect(names == ["init", "kworker/0:1+events", "sh", "sh-thread"])
    #expect(table.tasks.map(\.state) == [.sleeping, .idle, .sleeping, .sleeping])
    #expect(table.tasks.map(\.isKernelThread) == [false, true, false, false])
    #expect(table.tasks.map(\.tty) == [nil, nil, "pts/3", "pts/3"])
    #expect(table.tasks.map(\.threadCount) == [1, 1, 2, 2])
    let first = table.tasks[0]
    #expect(first.commandLine == SyntheticLinux.commandLine && first.commandLineFault == nil)
    #expect(first.arguments == ["/sbin/init", "splash"].map { Array($0.utf8) })
    #expect((first.uid, first.euid, first.suid, first.fsuid) == (1000, 1001, 1002, 1003))
    #expect((first.userTime, first.systemTime, first.nice, first.priority) == (75, 25, 0, 20))
    #expect((first.residentPages, first.virtualPages) == (40, 500))
    #expect(table.tasks[1].commandLine.isEmpty)
    // The process's times are those of both threads.
    #expect((table.tasks[2].processUserTime, table.tasks[2].processSystemTime) == (150, 50))
  }

  @Test func log() throws {
    let log = try view { kernel throws(KernelError) in try kernel.log() }
    #expect(log.torn == 0)
    #expect(log.records.map { String(decoding: $0.text, as: UTF8.self) } == SyntheticLinux.messages)
    #expect(log.records.map(\.sequence) == [0, 1, 2])
    #expect(log.records.map(\.level) == [.info, .info, .info])
  }

  @Test func host() throws {
    let host = try view { kernel throws(KernelError) in try kernel.host() }
    #expect(host.faults.isEmpty)
    #expect(
      [host.sysname, host.nodename, host.release, host.version, host.machine]
        == ["Linux", "small", "6.1.0-test-amd64", "#1 SMP", "x86_64"])
    #expect((host.uptime, host.wallClock, host.load) == (1502, 9, [1, 0.5, 0]))
    #expect((host.onlineCPUs, host.possibleCPUs, host.cpuModel) == (3, 4, "Small CPU"))
    #expect(host.commandLine == Array(SyntheticLinux.kernelCommandLine.utf8))
    #expect(host.taint == "O" && host.panic == nil)
    #expect(host.memory["MemTotal"] == UInt64(8 << 20))
    #expect(host.memory["MemFree"] == UInt64(300 * 4096))
    #expect(host.memory["Buffers"] == UInt64(7 * 4096))
    #expect(host.pagingLevels == 5)
  }
}

struct HostileTaskTests {
  /// What of the tasks is wrong, and what is still to be had.
  private func tasks(_ change: (inout SyntheticLinux) -> Void) throws -> (ids: [Int32], table: TaskTable) {
    let table = try view(change) { kernel throws(KernelError) in try kernel.tasks(TaskQuery(includesThreads: true)) }
    return (table.tasks.map(\.tid), table)
  }

  private func isInconsistent(_ table: TaskTable, _ text: String) -> Bool {
    table.faults.contains { $0.description.contains(text) }
  }

  @Test func listThatLoopsWithoutItsHead() throws {
    let (ids, table) = try tasks { linux in
      let link = linux.offset("task_struct", "tasks")
      linux.set("task_struct", at: Place.task(1), ["tasks.next": Place.task(1) + link])
    }
    #expect(ids == [1, 2, 5, 70])
    // Task 5 is no longer reached by going forward, but the head's backward link names it.
    #expect(table.mismatches.isEmpty)
  }

  @Test func listMemberThatThePidTableDoesNotKnow() throws {
    let (ids, table) = try tasks { $0.setSlot(of: Place.pidLeaf, 2, 0) }
    #expect(ids == [1, 2, 5, 70])
    #expect(table.faults.isEmpty)
    #expect(table.mismatches.map(\.tid) == [2])
    #expect(table.mismatches.map(\.sources) == [.taskList])
  }

  @Test(arguments: [0, 0x1000, 0xdead_0000_0000_0100, 0xffff_8880_ffff_0000, .max] as [UInt64])
  func listLinkThatLeadsNowhere(link: UInt64) throws {
    let (ids, table) = try tasks { $0.set("task_struct", at: Place.task(0), ["tasks.next": link]) }
    #expect(ids == [1, 2, 5, 70])
    #expect(table.faults.count == 1)
  }

  /// Strangers that name strangers: each costs a round trip, and they end with the memory.
  @Test func listOfStrangersWithoutEnd() throws {
    let table = try view(
      { linux in
        let link = linux.offset("task_struct", "tasks")
        let first = SyntheticKernel.directMap + 0x50_0000
        let number: UInt64 = 0x8000 / 8
        linux.set("task_struct", at: Place.task(0), ["tasks.next": first + link])
        // Overlapping by all but eight bytes; the ids are whatever lies there.
        for index in 0..<number { linux.put(first + link + (index + 1) * 8, at: first + link + index * 8) }
        linux.set("task_struct", at: first, ["pid": 900, "tgid": 900, "tasks.next": first + 8 + link])
      }, batches: 3 * 2100
    ) { kernel throws(KernelError) in try kernel.tasks() }
    #expect(!table.faults.isEmpty)
    #expect(table.tasks.count <= 8 << 20 / 4096)
  }

  @Test func moreListMembersThanMemoryHolds() throws {
    let count = 2100
    let table = try view(
      { linux in
        let link = linux.offset("task_struct", "tasks")
        let first = SyntheticKernel.directMap + 0x50_0000
        func address(_ index: Int) -> UInt64 { first + UInt64(index) * 0x200 }
        linux.set("task_struct", at: Place.task(0), ["tasks.next": first + link])
        for index in 0..<count {
          linux.set(
            "task_struct", at: address(index),
            [
              "pid": UInt64(1000 + index), "tgid": UInt64(1000 + index), "tasks.next": address(index + 1) + link,
              "tasks.prev": address(max(0, index - 1)) + link, "real_cred": Place.credentials,
              "signal": Place.signals,
            ])
        }
      }, batches: 3 * 2200, bytes: 16 << 20
    ) { kernel throws(KernelError) in try kernel.tasks() }
    #expect(table.faults.contains { $0.description.contains("more than 2048 members") })
    #expect(table.tasks.count <= 2048)
  }

  @Test func pidTreeThatLoops() throws {
    let (ids, table) = try tasks { $0.setSlot(of: Place.pidRoot, 2, Place.pidRoot | 2) }
    #expect(ids == [1, 2, 5, 70])
    #expect(isInconsistent(table, "which the tree holds elsewhere"))
  }

  @Test func pidNodeThatIsShared() throws {
    let (ids, table) = try tasks { linux in
      for slot in 2..<64 { linux.setSlot(of: Place.pidRoot, slot, Place.pidLeaf | 2) }
    }
    #expect(ids == [1, 2, 5, 70])
    #expect(isInconsistent(table, "which the tree holds elsewhere"))
  }

  @Test(arguments: [1, 5, 7, 12, 58, 63, 64, 255] as [UInt64])
  func pidNodeOfAWrongShift(shift: UInt64) throws {
    let (ids, table) = try tasks { $0.set("xa_node", at: Place.pidLeaf, ["shift": shift]) }
    // The other leaf is read, and the task list knows the leaders.
    #expect(ids == [1, 2, 5, 70])
    #expect(isInconsistent(table, "a node of shift \(shift) on its level"))
    #expect(table.mismatches.map(\.tid) == [1, 2, 5])
  }

  @Test(arguments: [0, 1, 5, 12, 60, 63, 64, 255] as [UInt64])
  func pidRootOfAWrongShift(shift: UInt64) throws {
    let (ids, table) = try tasks { $0.set("xa_node", at: Place.pidRoot, ["shift": shift]) }
    #expect(ids == [1, 2, 5])
    #expect(!table.faults.isEmpty)
  }

  @Test(arguments: [0x1000, 0x7fff_ffff_fffc, 0xdead_0000_0000_0000, 0xffff_8880_ffff_0000, .max - 3] as [UInt64])
  func pidThatPointsAstray(pointer: UInt64) throws {
    let (ids, table) = try tasks { $0.setSlot(of: Place.pidLeaf, 9, pointer) }
    #expect(ids == [1, 2, 5, 70])
    #expect(table.faults.count == 1)
  }

  @Test func headOfThePidTableThatPointsAstray() throws {
    for head: UInt64 in [0x1000, 0xffff_8880_ffff_0002, .max - 1, 0x7fff_0002] {
      let (ids, table) = try tasks { $0.set("pid_namespace", at: Place.pidNamespace, ["idr.idr_rt.xa_head": head]) }
      #expect(ids == [1, 2, 5])
      #expect(table.mismatches.count == 3)
      #expect(table.faults.count == 1, "\(head)")
    }
  }

  /// One `struct pid` in every slot of a leaf is one task.
  @Test func pidThatIsStoredManyTimes() throws {
    let (ids, table) = try tasks { linux in
      for slot in 0..<64 { linux.setSlot(of: Place.pidLeaf, slot, Place.pid(0)) }
    }
    #expect(ids == [1, 2, 5, 70])
    #expect(table.faults.count == 63)
    #expect(isInconsistent(table, "pid 7 is stored as pid 1"))
  }

  @Test func taskOfAnotherPid() throws {
    let (ids, table) = try tasks { $0.set("task_struct", at: Place.task(3), ["pid": 71]) }
    #expect(ids == [1, 2, 5])
    #expect(isInconsistent(table, "the task of pid 70 has id 71"))
  }

  @Test(arguments: ["real_cred", "signal", "mm", "worker_private"], [0x10, 0xdead_0000_0000_0000, .max] as [UInt64])
  func attachmentThatPointsAstray(field: String, pointer: UInt64) throws {
    let (ids, table) = try tasks { linux in
      for index in 0..<4 { linux.set("task_struct", at: Place.task(index), [field: pointer]) }
    }
    #expect(ids == [1, 2, 5, 70])
    // Only the kernel's own thread has the one, only the others have the other.
    #expect(table.faults.count == ["worker_private": 1, "mm": 3][field, default: 4])
  }

  /// A name that cannot be read is not the same as no name.
  @Test func terminalAndWorkerThatPointAstray() throws {
    let (ids, table) = try tasks { linux in
      linux.set("signal_struct", at: Place.signals + 0x200, ["tty": .max - 20])
      linux.set("kthread", at: Place.worker, ["data": 0xdead_0000_0000_0000])
    }
    #expect(ids == [1, 2, 5, 70])
    #expect(table.tasks.allSatisfy { $0.tty == nil })
    #expect(table.faults.count == 3)
  }

  @Test func namesWithoutAnEnd() throws {
    let (_, table) = try tasks { linux in
      linux.put([UInt8](repeating: 0x41, count: 16), at: Place.task(0) + linux.offset("task_struct", "comm"))
      linux.put([UInt8](repeating: 0x42, count: 256), at: Place.terminal)
      linux.put([UInt8](repeating: 0x43, count: 64), at: Place.worker + 0x100 + linux.offset("worker", "desc"))
    }
    #expect(table.tasks[0].comm == [UInt8](repeating: 0x41, count: 16))
    #expect(table.tasks[2].tty == String(repeating: "B", count: 64))
    #expect(table.tasks[1].comm.count == 12 + 24)
  }
}

struct HostileCommandLineTests {
  private func first(
    _ query: TaskQuery = TaskQuery(), bytes: Int = 4 << 20, _ change: (inout SyntheticLinux) -> Void
  ) throws -> KernelTask {
    let table = try view(change, bytes: bytes) { kernel throws(KernelError) in try kernel.tasks(query) }
    #expect(table.tasks.count == 3)
    return table.tasks[0]
  }

  private static func map(_ linux: inout SyntheticLinux, _ fields: [String: UInt64]) {
    linux.set("mm_struct", at: Place.memoryMap, fields)
  }

  @Test(
    arguments: [
      (0x7000, 0x6000), (0x7000, 0x7000), (0, 0), (.max, 0), (0x7000, .max), (1 << 63, .max), (.max - 1, .max),
    ] as [(UInt64, UInt64)])
  func endsThatMakeNoSense(start: UInt64, end: UInt64) throws {
    let task = try first { Self.map(&$0, ["arg_start": start, "arg_end": end]) }
    #expect(task.commandLine.isEmpty)
    // An empty range is an empty line, as in /proc; one that lies in the kernel's half is none.
    #expect((task.commandLineFault != nil) == (start < end))
  }

  /// 2^40 bytes: the pages that are there, then the mark.
  @Test func lineOfATerabyte() throws {
    let task = try first { linux in
      Self.map(&linux, ["arg_end": SyntheticLinux.argumentStart + 1 << 40])
    }
    // Its last byte cannot be read either, so it is taken as written by execve.
    #expect(task.commandLine.starts(with: SyntheticLinux.commandLine))
    #expect(task.commandLine.count == 4100)
    guard case .unreadable = task.commandLineFault else {
      Issue.record("\(String(describing: task.commandLineFault))")
      return
    }
  }

  /// A process whose page tables name themselves has memory without end, all of it tables.
  @Test func tablesThatPointToThemselves() throws {
    let task = try first { linux in
      for entry: UInt64 in 0..<512 {
        linux.putPhysical(SyntheticLinux.processRoot | 0x67, at: SyntheticLinux.processRoot + entry * 8)
      }
      // Its last byte is the middle of a table's entry, zero.
      Self.map(&linux, ["arg_start": 0x1000, "arg_end": 0x1000 + 1 << 40])
    }
    #expect(task.commandLine.count == 1 << 20)
    #expect(task.commandLineFault == .truncated)
  }

  @Test(arguments: [0, 0x1000, .max - 7, 0xffff_8880_ffff_f000] as [UInt64])
  func rootThatPointsAstray(root: UInt64) throws {
    let task = try first { Self.map(&$0, ["pgd": root]) }
    #expect(task.commandLine.isEmpty)
    #expect(task.commandLineFault != nil)
  }

  /// All lines together stay within the budget; short ones stay whole.
  @Test func budgetOfAllLines() throws {
    func tasks(_ budget: Int) throws -> TaskTable {
      try view(
        { linux in
          // A second process with 4000 bytes of arguments, mapped by the same tables.
          let second = Place.memoryMap + 0x200
          linux.set(
            "mm_struct", at: second,
            [
              "pgd": SyntheticKernel.directMap + SyntheticLinux.processRoot, "arg_start": 0x7fff_1000,
              "arg_end": 0x7fff_1000 + 4000, "env_start": 0, "env_end": 0,
            ])
          linux.set("task_struct", at: Place.task(2), ["mm": second])
          linux.set("task_struct", at: Place.task(3), ["mm": second])
          Self.map(&linux, ["env_start": 0, "env_end": 0])
        }
      ) { kernel throws(KernelError) in try kernel.tasks(TaskQuery(includesThreads: true, commandLineBudget: budget)) }
    }
    let whole = try tasks(64 << 20)
    #expect(whole.tasks.map(\.commandLine.count) == [18, 0, 4000, 4000])
    #expect(whole.tasks.allSatisfy { $0.commandLineFault == nil })
    let cut = try tasks(1018)
    #expect(cut.tasks.map(\.commandLine.count) == [18, 0, 1000, 1000])
    #expect(cut.tasks.map(\.commandLineFault) == [nil, nil, .truncated, .truncated])
    let none = try tasks(0)
    #expect(none.tasks.map(\.commandLine.count) == [0, 0, 0, 0])
    #expect(none.tasks.map(\.commandLineFault) == [.truncated, nil, .truncated, .truncated])
  }

  /// A title written over the arguments ends with its zero, or with a page.
  @Test func titles() throws {
    let end = SyntheticLinux.argumentStart + UInt64(SyntheticLinux.commandLine.count)
    let task = try first { linux in
      linux.memory(write: Array("XYZ\0".utf8), at: 0x39_0000 + 13)
      Self.map(&linux, ["env_start": end, "env_end": end + 1 << 40])
    }
    #expect(task.commandLine == Array("/sbin/init\0".utf8))
    #expect(task.commandLineFault == nil)
    let endless = try first { linux in
      linux.memory(write: [UInt8](repeating: 0x41, count: 0x1000), at: 0x39_0000)
      linux.memory(write: [UInt8](repeating: 0x41, count: 4), at: 0x38_0ffc)
      Self.map(&linux, ["env_start": end, "env_end": end + 1 << 40])
    }
    #expect(endless.commandLine == [UInt8](repeating: 0x41, count: 4096))
  }
}

extension SyntheticLinux {
  fileprivate mutating func memory(write bytes: [UInt8], at address: UInt64) {
    put(bytes, at: SyntheticKernel.directMap + address)
  }
}

struct HostileLogTests {
  private func log(_ change: (inout SyntheticLinux) -> Void) throws -> KernelLog {
    try view(change) { kernel throws(KernelError) in try kernel.log() }
  }

  @Test(
    arguments: [
      ("desc_ring.count_bits", 0), ("desc_ring.count_bits", 63), ("desc_ring.count_bits", 0xffff_ffff),
      ("desc_ring.count_bits", 24), ("text_data_ring.size_bits", 0), ("text_data_ring.size_bits", 64),
      ("text_data_ring.size_bits", 0xffff_ffff), ("text_data_ring.size_bits", 31),
      ("desc_ring.descs", 0), ("desc_ring.infos", .max), ("text_data_ring.data", 0xdead_0000_0000_0000),
    ] as [(String, UInt64)])
  func ringThatLies(field: String, value: UInt64) {
    let error = #expect(throws: KernelError.self) {
      try log { $0.set("printk_ringbuffer", at: Place.log, [field: value]) }
    }
    #expect(error?.description.contains("the kernel log of Linux 6.1.0-test-amd64") == true)
  }

  @Test(arguments: [0, 0x10, .max - 3, 0xffff_8880_ffff_0000] as [UInt64])
  func ringThatIsNowhere(pointer: UInt64) {
    #expect(throws: KernelError.self) { try log { $0.put(pointer, at: SyntheticLinux.scalar("prb")) } }
  }

  /// Ids from a tail and to a head that the descriptors do not bear out: what fits is shown, the rest is counted.
  @Test(
    arguments: [
      (8, 7, 3, 5), (8, 1 << 40, 3, 5), (0, 10, 0, 8), (.max, 0, 0, 2), (8, 8, 1, 0), (9, 10, 2, 0), (11, 10, 0, 8),
    ] as [(UInt64, UInt64, Int, Int)])
  func tailAndHeadThatLie(tail: UInt64, head: UInt64, records: Int, torn: Int) throws {
    let log = try log {
      $0.set("printk_ringbuffer", at: Place.log, ["desc_ring.tail_id": tail, "desc_ring.head_id": head])
    }
    #expect(log.records.count == records)
    #expect(log.torn == torn)
  }

  /// Blocks that wrap twice, end before they begin, are too short for their id, or belong to another record.
  @Test(
    arguments: [
      (512, 512), (520, 512), (512, 516), (512, 5120), (.max - 1, 6), (0, 1 << 63), (1024 - 8, 1024 + 8), (544, 600),
      (1, 1), (3, 1), (1, 3),
    ] as [(UInt64, UInt64)])
  func blockThatLies(begin: UInt64, next: UInt64) throws {
    let log = try log { linux in
      linux.set(
        "prb_desc", at: linux.descriptor(9), ["text_blk_lpos.begin": begin, "text_blk_lpos.next": next])
    }
    #expect(log.records.map { String(decoding: $0.text, as: UTF8.self) } == [0, 2].map { SyntheticLinux.messages[$0] })
    #expect(log.torn == 1)
  }

  @Test func emptyLineIsNoLostText() throws {
    let log = try log { linux in
      linux.set("prb_desc", at: linux.descriptor(9), ["text_blk_lpos.begin": 3, "text_blk_lpos.next": 3])
    }
    #expect(log.records.map(\.text.count) == [30, 0, 14])
    #expect(log.torn == 0)
  }

  @Test func blockThatWraps() throws {
    let log = try log { linux in
      // It would cross the ring's end, so its text lies at the start.
      linux.writeRecord(2, "wrapped", at: 1024)
      linux.set("prb_desc", at: linux.descriptor(10), ["text_blk_lpos.begin": 1016])
    }
    #expect(log.records.map { String(decoding: $0.text, as: UTF8.self) }.last == "wrapped")
    // Which overwrote the first record's text.
    #expect(log.records.count == 2 && log.torn == 1)
  }

  @Test(arguments: [33, 0xffff] as [UInt64])
  func textLongerThanItsBlock(length: UInt64) throws {
    let log = try log { linux in linux.set("printk_info", at: linux.info(8), ["text_len": length]) }
    #expect(log.records.count == 2)
    #expect(log.torn == 1)
  }

  /// Blocks that lie within each other would be copied again and again.
  @Test func blocksThatOverlap() throws {
    let log = try log { linux in
      for index in 0..<3 {
        let begin = 512 + UInt64(index) * 8
        linux.set(
          "prb_desc", at: linux.descriptor(8 + index),
          ["text_blk_lpos.begin": begin, "text_blk_lpos.next": 1016])
        linux.put(8 + UInt64(index), at: Place.texts + begin % 512)
        linux.set("printk_info", at: linux.info(8 + index), ["text_len": 400])
      }
    }
    #expect(log.records.count == 1)
    #expect(log.torn == 2)
  }

  @Test func recordBeingWritten() throws {
    let log = try log { linux in linux.set("prb_desc", at: linux.descriptor(9), ["state_var": 9]) }
    #expect(log.records.count == 2)
    #expect(log.torn == 1)
  }
}

struct HostileHostTests {
  private func host(_ change: (inout SyntheticLinux) -> Void) throws -> HostInfo {
    try view(change, batches: 4200) { kernel throws(KernelError) in try kernel.host() }
  }

  /// Every bit of both masks: no more CPUs than a mask has bits, whatever a number elsewhere says.
  @Test func masksOfAllCPUs() throws {
    let host = try host { $0.put([UInt8](repeating: 0xff, count: 0x800), at: Place.masks) }
    #expect((host.onlineCPUs, host.possibleCPUs) == (8192, 8192))
  }

  @Test func namesWithoutAnEnd() throws {
    let host = try host { $0.put([UInt8](repeating: 0x41, count: 0x800), at: Place.names) }
    #expect(host.nodename == String(repeating: "A", count: 65))
  }

  @Test func numbersAtTheirLimits() throws {
    let host = try host { linux in
      linux.put([UInt8](repeating: 0xff, count: 0x200), at: Place.clock)
      linux.put([UInt8](repeating: 0xff, count: 24), at: SyntheticLinux.scalar("avenrun"))
      linux.put([UInt8](repeating: 0xff, count: 0x200), at: Place.counters)
      linux.put([UInt8](repeating: 0xff, count: 0x400), at: Place.node)
      linux.put(.max, at: SyntheticLinux.scalar("tainted_mask"))
      for name in ["_totalram_pages", "nr_swap_pages", "totalreserve_pages"] {
        linux.put(.max >> 1, at: SyntheticLinux.scalar(name))
      }
    }
    #expect(host.load.count == 3)
    #expect(host.memory["MemFree"] == 0)
    #expect(host.taint.count == 32)
  }

  @Test(arguments: [0, 0x1000, 0xdead_0000_0000_0000, .max] as [UInt64])
  func commandLineThatIsNowhere(pointer: UInt64) throws {
    let host = try host { $0.put(pointer, at: SyntheticLinux.scalar("saved_command_line")) }
    #expect(host.commandLine.isEmpty)
    #expect(host.faults.count == 1)
    #expect(host.faults.first?.description.hasPrefix("the kernel's command line cannot be read") == true)
    #expect(host.nodename == "small" && host.memory["MemTotal"] != nil)
  }

  @Test func commandLineWithoutAnEnd() throws {
    let host = try host { linux in
      let start = SyntheticKernel.directMap + 0x60_0000
      linux.put([UInt8](repeating: 0x41, count: 0x2_0000), at: start)
      linux.put(start, at: SyntheticLinux.scalar("saved_command_line"))
    }
    #expect(host.commandLine.isEmpty)
    #expect(host.faults.first?.description.contains("does not end within 65536 bytes") == true)
  }

  @Test func blockDevicesThatLoop() throws {
    let host = try host { linux in
      let inode = Place.devices + 0x100
      linux.set("inode", at: inode, ["i_sb_list.next": inode + linux.offset("inode", "i_sb_list")])
    }
    #expect(host.memory["Buffers"] == nil && host.memory["Cached"] == nil && host.memory["Shmem"] != nil)
    #expect(host.faults.map(\.subject) == ["the list of block devices"])
  }

  @Test func blockDevicesWithoutEnd() throws {
    let host = try host { linux in
      let first = SyntheticKernel.directMap + 0x60_0000
      let next = linux.offset("inode", "i_sb_list")
      for index: UInt64 in 0..<5000 { linux.put(first + next + (index + 1) * 32, at: first + next + index * 32) }
      linux.set("super_block", at: Place.devices, ["s_inodes.next": first + next])
    }
    #expect(host.faults.first?.description.contains("more than 4096 block devices") == true)
  }

  /// A panic whose message cannot be read is a panic all the same.
  @Test func panicWithoutALog() throws {
    let host = try host { linux in
      linux.put(bytes(Int32(2)), at: SyntheticLinux.scalar("panic_cpu"))
      linux.put(0, at: SyntheticLinux.scalar("prb"))
    }
    #expect(host.panic?.cpu == 2 && host.panic?.message == nil)
    #expect(host.faults.count == 1)
  }
}

/// A kernel is opened only where its page tables bear out what its symbols say.
struct HostilePageTableTests {
  private func refusal(_ change: (inout SyntheticLinux) -> Void) -> String {
    let error = #expect(throws: KernelError.self) { try view(change) { _ in } }
    return error?.description ?? ""
  }

  private static let root: UInt64 = SyntheticKernel.physicalImage + 0x4_1000

  @Test func rootThatIsEmpty() {
    #expect(refusal { $0.putPhysical(0, at: Self.root + 511 * 8) }.contains("the level 5 page-table entry is 0x0"))
  }

  @Test func tablesThatPointToThemselves() {
    let text = refusal { linux in
      for entry: UInt64 in 0..<512 { linux.putPhysical(Self.root | 1, at: Self.root + entry * 8) }
    }
    #expect(text.contains("they map 0xffffffff9e200000 to 0x241000, not where its symbols say"))
  }

  @Test(arguments: [0, 1 << 30, 0x000f_ffff_c000_0000] as [UInt64])
  func imageOrDirectMapElsewhere(page: UInt64) {
    #expect(!refusal { $0.putPhysical(page | 0x81, at: 0x30_2000 + 0xf1 * 8) }.isEmpty)
    if page != 0 { #expect(!refusal { $0.putPhysical(page | 0x81, at: 0x30_3000) }.isEmpty) }
  }

  @Test(arguments: [0x1000, 0x80_0000, 0x000f_ffff_ffff_f000] as [UInt64])
  func tableElsewhere(table: UInt64) {
    #expect(!refusal { $0.putPhysical(table | 1, at: Self.root + 511 * 8) }.isEmpty)
  }
}
