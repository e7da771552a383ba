import Binding
import KernelInfo
package import LinuxKernel
package import Memory
package import Paging

/// Reads tasks: from the pid table to each task, and from there to what hangs on it, one batch a step.
///
/// ```
/// init_pid_ns.idr → xa_node … → struct pid → task_struct → cred, signal, mm, kthread → tty, worker, arguments
/// init_task.tasks → task_struct …                          (the cross-check)
/// ```
package struct TaskReader: KernelReader {
  package static let subject = "the task table"

  private let pidTableHead: VirtualAddress
  private let initTask: VirtualAddress
  private let xarray: XArray
  private let pidSize: Int
  private let pidFirstTask: Int
  private let pidNumber: FieldLayout
  private let pidNumbersOffset: Int
  private let pidLink: Int
  private let task: Bound<TaskShape>
  private let credentials: Bound<CredentialShape>
  private let signal: Bound<SignalShape>
  private let mm: Bound<MemoryShape>
  private let kthread: Bound<KernelThreadShape>
  private let worker: Bound<WorkerShape>
  private let queueName: FieldLayout
  private let ttyName: FieldLayout
  private let subject: String

  package init(kernel: Kernel) throws {
    let types = kernel.types
    subject = kernel.subject(of: Self.self)
    initTask = try kernel.symbol("init_task", for: subject)
    pidTableHead =
      try kernel.symbol("init_pid_ns", for: subject)
      + types.structure("pid_namespace").field("idr.idr_rt.xa_head").offset
    xarray = try XArray(types: types)
    let pid = try types.structure("pid")
    guard let kind = types.enumerator("PIDTYPE_PID") else {
      throw KernelError(subject, .inconsistent("its types do not define PIDTYPE_PID"))
    }
    pidFirstTask = try pid.field("tasks").offset &+ Int(kind) &* 8
    pidNumbersOffset = try pid.field("numbers").offset
    let upid = try types.structure("upid")
    pidNumber = try upid.field("nr")
    pidSize = pidNumbersOffset + upid.size
    pidLink = try types.structure("task_struct").field("pid_links").offset &+ Int(kind) &* 16
    task = try Bound(types)
    credentials = try Bound(types)
    signal = try Bound(types)
    mm = try Bound(types)
    kthread = try Bound(types)
    worker = try Bound(types)
    queueName = try types.structure("workqueue_struct").field("name")
    ttyName = try types.structure("tty_struct").field("name")
  }

  /// A task half read: its fields, and where the next step leads.
  private struct Draft {
    var task: KernelTask
    var time: CPUTime
    var previousTime: (user: UInt64, system: UInt64)
    var parent: VirtualAddress
    var credentials: VirtualAddress
    var signal: VirtualAddress
    var mm: VirtualAddress
    var kthread: VirtualAddress
    var isWorker: Bool
    var nextInList: VirtualAddress
    var previousInList: VirtualAddress
    var tty = VirtualAddress(0)
    var worker = VirtualAddress(0)
    var fullName = VirtualAddress(0)
    var rescuedQueue = VirtualAddress(0)
    var arguments: ArgumentArea?
    var signalTime = CPUTime.zero
    var previousSignalTime: (user: UInt64, system: UInt64) = (0, 0)
  }

  /// Where a process keeps its command line.
  private struct ArgumentArea {
    var root: PhysicalAddress
    var start: UInt64
    var end: UInt64
    var environmentEnd: UInt64
    /// Bytes to read from `start` if the arguments are as `execve` left them.
    var count: Int
    /// Bytes to read from `start` if the process wrote a title over them: one string, a page at most.
    var titleCount: Int
    var isTruncated: Bool
    var isTitleTruncated = false
  }

  // MARK: Reading

  package func read(_ query: TaskQuery, in space: AddressSpace) throws(KernelError) -> TaskTable {
    // On a live host a task may end between two steps; a second look tells that from damage.
    try settled({ $0.faults }) { () throws(KernelError) in try attempt(query, in: space) }
  }

  private func attempt(_ query: TaskQuery, in space: AddressSpace) throws(KernelError) -> TaskTable {
    let memorySize = space.memory.segments.reduce(0 as UInt64) { $0 &+ $1.count }
    // No kernel can have more tasks than fit in its memory, nor more than PID_MAX_LIMIT.
    let limit = Int(min(memorySize / 4096, 4 << 20))

    var roots = ReadBatch<VirtualAddress>()
    roots.add(pidTableHead, count: 8)
    let initRecord = task.selection.add(to: &roots, at: initTask)
    space.read(&roots)
    var faults: [MemoryFault] = []
    var drafts: [Draft] = []
    let head: VirtualAddress
    let idle: Draft
    do throws(MemoryFault) {
      head = try roots.reader(0).pointer(0)
      idle = try Self.draft(of: Structs(task, [initTask], [initRecord], in: roots)[0])
    } catch {
      throw KernelError(subject, .memory(error))
    }

    let entries = xarray.values(head: head, in: space, limit: limit)
    faults += entries.faults
    readTasks(ofPids: entries, in: space, into: &drafts, &faults)
    readUnknownListMembers(idle: idle, in: space, limit: limit, into: &drafts, &faults)
    readAttachments(of: &drafts, in: space, query, &faults)
    shareBudget(query.commandLineBudget, among: &drafts)
    readLeaves(of: &drafts, in: space, &faults)
    setParents(of: &drafts, in: space)
    setProcessTimes(of: &drafts)

    var table = TaskTable()
    table.tasks = drafts.map(\.task).sorted { $0.tid < $1.tid }
    if !query.includesThreads { table.tasks.removeAll { !$0.isLeader } }
    table.faults = faults
    return table
  }

  private func readTasks(
    ofPids entries: XArray.Contents, in space: AddressSpace, into drafts: inout [Draft], _ faults: inout [MemoryFault]
  ) {
    let pids = entries.values
    var batch = ReadBatch<VirtualAddress>()
    batch.reserveCapacity(pids.count)
    for pid in pids { batch.add(pid, count: pidSize) }
    space.read(&batch)
    var found: [(number: Int64, task: VirtualAddress)] = []
    for index in pids.indices {
      do throws(MemoryFault) {
        let reader = try batch.reader(index)
        let number = try pidNumber.loadSigned(reader, base: pidNumbersOffset)
        // Were it not so, one entry written many times would be as many tasks.
        guard number >= 0, UInt64(number) == entries.indices[index] else {
          throw MemoryFault(
            .virtual(pids[index]), .inconsistent("pid \(entries.indices[index]) is stored as pid \(number)"))
        }
        let first = try reader.pointer(pidFirstTask)
        // A pid without a task is a process group or session whose leader is gone.
        if first.rawValue != 0 { found.append((number, first - pidLink)) }
      } catch {
        faults.append(error)
      }
    }
    drafts.reserveCapacity(found.count)
    space.read(task, at: found.map(\.task)).forEach(&faults) { (task) throws(MemoryFault) in
      let number = found[task.index].number
      var draft = try Self.draft(of: task)
      guard Int64(draft.task.tid) == number else {
        throw MemoryFault(
          .virtual(task.address), .inconsistent("the task of pid \(number) has id \(draft.task.tid)"))
      }
      draft.task.sources = .pidTable
      drafts.append(draft)
    }
  }

  /// Compares the task list with what the pid table led to, and follows it where it leads elsewhere.
  ///
  /// The list is a chain, so following it costs a round trip a member; but members already read carry their neighbours'
  /// addresses, so only strangers cost anything.
  private func readUnknownListMembers(
    idle: Draft, in space: AddressSpace, limit: Int, into drafts: inout [Draft], _ faults: inout [MemoryFault]
  ) {
    var indexOfAddress = [VirtualAddress: Int](minimumCapacity: drafts.count)
    for (index, draft) in drafts.enumerated() { indexOfAddress[draft.task.address] = index }
    let nextOffset = task.next.offset
    var visited: Set<VirtualAddress> = [initTask]
    var strangers: [VirtualAddress] = []

    func visit(_ link: VirtualAddress) {
      let address = link - nextOffset
      guard visited.insert(address).inserted else { return }
      if let index = indexOfAddress[address] {
        drafts[index].task.sources.insert(.taskList)
      } else {
        strangers.append(address)
      }
    }
    visit(idle.nextInList)
    visit(idle.previousInList)
    for index in drafts.indices where drafts[index].task.isLeader { visit(drafts[index].nextInList) }

    while !strangers.isEmpty {
      guard drafts.count < limit else {
        faults.append(MemoryFault(.virtual(strangers[0]), .inconsistent("a task list of more than \(limit) members")))
        return
      }
      let wave = strangers
      strangers = []
      // On a live host a stranger that is no task is a link that changed while it was read.
      space.read(task, at: wave).forEach(&faults) { (task) throws(MemoryFault) in
        var draft = try Self.draft(of: task)
        guard draft.task.tid > 0, draft.task.isLeader else {
          throw MemoryFault(
            .virtual(task.address),
            .inconsistent("a member of the task list has id \(draft.task.tid) in process \(draft.task.tgid)"))
        }
        draft.task.sources = .taskList
        drafts.append(draft)
        visit(draft.nextInList)
        visit(draft.previousInList)
      }
    }
  }

  private static func draft(of task: Reading<TaskShape>) throws(MemoryFault) -> Draft {
    let flags = try task.flags
    // Bits of task_struct.flags (include/linux/sched.h, PF_WQ_WORKER and PF_KTHREAD).
    let isWorker = flags & 0x20 != 0
    let isKernelThread = flags & 0x20_0000 != 0
    let read = KernelTask(
      address: task.address, tid: try task.pid, tgid: try task.tgid,
      ppid: 0, uid: 0, euid: 0, suid: 0, fsuid: 0, gid: 0, egid: 0, sgid: 0, fsgid: 0,
      state: TaskState(state: try task.state, exitState: try task.exitState),
      comm: try task.comm, commandLine: [], commandLineFault: nil,
      startTime: try task.startTime, userTime: 0, systemTime: 0, processUserTime: 0, processSystemTime: 0,
      residentPages: 0, virtualPages: 0, tty: nil,
      // MAX_RT_PRIO + NICE_WIDTH / 2, and MAX_RT_PRIO (include/linux/sched/prio.h).
      nice: Int(try task.staticPriority) - 120, priority: Int(try task.priority) - 100, cpu: try task.cpu,
      threadCount: 0, isKernelThread: isKernelThread, sources: [])
    return Draft(
      task: read,
      time: CPUTime(user: try task.userTime, system: try task.systemTime, total: try task.runtime),
      previousTime: (try task.previousUserTime, try task.previousSystemTime),
      parent: try task.realParent, credentials: try task.credentials, signal: try task.signal, mm: try task.mm,
      kthread: isKernelThread ? try task.kthread : VirtualAddress(0), isWorker: isWorker,
      nextInList: try task.next, previousInList: try task.previous)
  }

  /// Credentials, signal struct, memory map, and what makes a kernel thread.
  private func readAttachments(
    of drafts: inout [Draft], in space: AddressSpace, _ query: TaskQuery, _ faults: inout [MemoryFault]
  ) {
    typealias Record = FieldSelection.Record
    var batch = ReadBatch<VirtualAddress>()
    var records: [(credentials: Record, signal: Record, mm: Record?, kthread: Record?)] = []
    records.reserveCapacity(drafts.count)
    for draft in drafts {
      records.append(
        (
          credentials.selection.add(to: &batch, at: draft.credentials),
          signal.selection.add(to: &batch, at: draft.signal),
          draft.mm.rawValue == 0 ? nil : mm.selection.add(to: &batch, at: draft.mm),
          draft.kthread.rawValue == 0 ? nil : kthread.selection.add(to: &batch, at: draft.kthread)
        ))
    }
    space.read(&batch)
    let owners = Structs(credentials, drafts.map(\.credentials), records.map(\.credentials), in: batch)
    let signals = Structs(signal, drafts.map(\.signal), records.map(\.signal), in: batch)
    for (index, record) in records.enumerated() {
      do throws(MemoryFault) {
        let (owner, signal) = (owners[index], signals[index])
        (drafts[index].task.uid, drafts[index].task.euid) = (try owner.uid, try owner.euid)
        (drafts[index].task.suid, drafts[index].task.fsuid) = (try owner.suid, try owner.fsuid)
        (drafts[index].task.gid, drafts[index].task.egid) = (try owner.gid, try owner.egid)
        (drafts[index].task.sgid, drafts[index].task.fsgid) = (try owner.sgid, try owner.fsgid)
        drafts[index].task.threadCount = Int(try signal.threadCount)
        drafts[index].tty = try signal.tty
        drafts[index].signalTime = CPUTime(
          user: try signal.userTime, system: try signal.systemTime, total: try signal.runtime)
        drafts[index].previousSignalTime = (try signal.previousUserTime, try signal.previousSystemTime)
        if let record = record.mm, !drafts[index].task.isKernelThread {
          drafts[index].task.virtualPages = try mm.load(mm.totalPages, record, batch)
          var resident: Int64 = 0
          for counter in mm.residentPages.counters {
            resident &+= max(0, Int64(bitPattern: try mm.selection.load(counter, record, batch)))
          }
          drafts[index].task.residentPages = UInt64(max(0, resident))
          do throws(MemoryFault) {
            drafts[index].arguments = try argumentArea(record, batch, space, query)
          } catch {
            drafts[index].task.commandLineFault = .unreadable(error)
          }
        }
        if let record = record.kthread {
          drafts[index].worker =
            drafts[index].isWorker ? try kthread.load(kthread.data, record, batch) : VirtualAddress(0)
          drafts[index].fullName = try kthread.load(kthread.fullName, record, batch)
        }
      } catch {
        // On a live host the task ended and what hung on it is gone; what was read of it stays.
        faults.append(error)
      }
    }
  }

  private func argumentArea(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>, _ space: AddressSpace,
    _ query: TaskQuery
  ) throws(MemoryFault) -> ArgumentArea? {
    guard query.includesCommandLines else { return nil }
    let start = try mm.load(mm.argumentStart, record, batch)
    let end = try mm.load(mm.argumentEnd, record, batch)
    var environmentEnd = try mm.load(mm.environmentEnd, record, batch)
    // A title may overflow into the environment only where that follows at once (fs/proc/base.c, get_mm_cmdline).
    if try mm.load(mm.environmentStart, record, batch) != end || environmentEnd < end { environmentEnd = end }
    guard start < end else { return nil }
    guard end >> 63 == 0 else {
      throw MemoryFault(.virtual(VirtualAddress(start)), .inconsistent("a command line outside the process's memory"))
    }
    let pgd = try mm.load(mm.pgd, record, batch)
    guard case .physical(let root) = space.location(of: pgd, count: 4096) else {
      throw MemoryFault(.virtual(pgd), .inconsistent("a root page table outside the kernel's direct map"))
    }
    let limit = UInt64(max(0, query.commandLineLimit))
    return ArgumentArea(
      root: root, start: start, end: end, environmentEnd: environmentEnd, count: Int(min(end - start, limit)),
      titleCount: Int(min(4096, environmentEnd - start)), isTruncated: end - start > limit)
  }

  /// Cuts the longest command lines until all of them together take no more than `budget` bytes.
  ///
  /// Many processes that each claim a line of the greatest length thereby cost each other, and no others.
  private func shareBudget(_ budget: Int, among drafts: inout [Draft]) {
    let owners = drafts.indices.filter { drafts[$0].arguments != nil && drafts[$0].task.isLeader }
    var rest = max(0, budget)
    var share = Int.max
    let wanted = owners.map { max(drafts[$0].arguments?.count ?? 0, drafts[$0].arguments?.titleCount ?? 0) }.sorted()
    for (position, count) in wanted.enumerated() {
      if count > rest / (wanted.count - position) {
        share = rest / (wanted.count - position)
        break
      }
      rest -= count
    }
    for index in owners {
      guard var area = drafts[index].arguments, max(area.count, area.titleCount) > share else { continue }
      area.isTruncated = area.isTruncated || area.count > share
      area.isTitleTruncated = area.titleCount > share
      area.count = min(area.count, share)
      area.titleCount = min(area.titleCount, share)
      drafts[index].arguments = area
    }
  }

  /// Terminal names, what kernel workers do, and command lines.
  private func readLeaves(of drafts: inout [Draft], in space: AddressSpace, _ faults: inout [MemoryFault]) {
    let locate = { (address: VirtualAddress, count: Int) in space.location(of: address, count: count) }
    var batch = ReadBatch<MemoryLocation>()
    struct Request {
      var tty: Int?
      var worker: FieldSelection.Record?
      var fullName: Int?
      var lastByte: Int?
      var firstPiece: Int?
    }
    var requests: [Request] = []
    // Threads of a process share its memory: only the leader's arguments are read.
    for draft in drafts {
      var request = Request()
      if draft.tty.rawValue != 0 {
        request.tty = batch.add(locate(draft.tty + ttyName.offset, ttyName.size), count: ttyName.size)
      }
      if draft.worker.rawValue != 0 {
        request.worker = worker.selection.add(to: &batch, at: draft.worker, locate: locate)
      }
      if draft.fullName.rawValue != 0 {
        // As long as the buffer that /proc gives it (fs/proc/array.c, proc_task_name).
        request.fullName = batch.add(locate(draft.fullName, 64), count: 64)
      }
      if let area = draft.arguments, draft.task.isLeader {
        request.lastByte = batch.add(.virtual(VirtualAddress(area.end - 1), root: area.root), count: 1)
        request.firstPiece = batch.entries.count
        Self.addPieces(of: area.start..<area.start + UInt64(area.count), area.root, to: &batch)
      }
      requests.append(request)
    }
    space.walker.read(&batch)

    var more = ReadBatch<MemoryLocation>()
    var queueNames: [(draft: Int, entry: Int)] = []
    var titles: [(draft: Int, first: Int)] = []
    for (index, request) in requests.enumerated() {
      do throws(MemoryFault) {
        if let tty = request.tty { drafts[index].task.tty = Self.terminalName(try batch.reader(tty).cString(0)) }
        if let fullName = request.fullName, request.worker == nil {
          let name = try batch.reader(fullName).cString(0)
          if !name.isEmpty { drafts[index].task.comm = name }
        }
        if let record = request.worker {
          let description = try worker.load(worker.description, record, batch)
          let isBusy = try worker.load(worker.currentWork, record, batch) != 0
          let queue = try worker.load(worker.rescuedQueue, record, batch)
          if queue.rawValue != 0, drafts[index].task.comm.starts(with: Array("kworker/R-".utf8)) {
            let size = queueName.size
            queueNames.append((index, more.add(locate(queue + queueName.offset, size), count: size)))
          }
          if try worker.load(worker.pool, record, batch) != 0, !description.isEmpty {
            drafts[index].task.comm += [UInt8(ascii: isBusy ? "+" : "-")] + description
          }
        }
      } catch {
        // What was read of the task stays; that this is missing is said.
        faults.append(error)
      }
      if let first = request.firstPiece, let lastByte = request.lastByte, let area = drafts[index].arguments {
        if let last = try? batch.reader(lastByte).u8(0), last != 0 {
          titles.append((index, more.entries.count))
          // A title: one string from the start, a page at most, up to the end of the environment.
          Self.addPieces(of: area.start..<area.start + UInt64(area.titleCount), area.root, to: &more)
        } else {
          let (bytes, fault) = Self.join(from: first, count: area.count, batch)
          drafts[index].task.commandLine = bytes
          drafts[index].task.commandLineFault = fault.map { .unreadable($0) } ?? (area.isTruncated ? .truncated : nil)
        }
      }
    }
    guard !more.entries.isEmpty else {
      shareCommandLines(&drafts)
      return
    }
    space.walker.read(&more)
    for (index, entry) in queueNames {
      let name: [UInt8]
      do throws(MemoryFault) {
        name = try more.reader(entry).cString(0)
      } catch {
        faults.append(error)
        continue
      }
      let old = drafts[index].task.comm
      // The name in task_struct is cut to 15 bytes; keep what was appended to it.
      let suffix = old.dropFirst(min(old.count, 15))
      drafts[index].task.comm = Array("kworker/R-".utf8) + name + suffix
    }
    for (index, first) in titles {
      guard let area = drafts[index].arguments else { continue }
      let (bytes, fault) = Self.join(from: first, count: area.titleCount, more)
      // The terminating zero belongs to it if it was found (fs/proc/base.c, get_mm_proctitle).
      let zero = bytes.firstIndex(of: 0)
      drafts[index].task.commandLine = Array(bytes[..<(zero.map { $0 + 1 } ?? bytes.count)])
      // What lies beyond a title's end is no part of it, read or not.
      guard zero == nil else { continue }
      drafts[index].task.commandLineFault = fault.map { .unreadable($0) } ?? (area.isTitleTruncated ? .truncated : nil)
    }
    shareCommandLines(&drafts)
  }

  /// Gives every thread the command line that was read for its leader.
  private func shareCommandLines(_ drafts: inout [Draft]) {
    var leaders: [Int32: Int] = [:]
    for (index, draft) in drafts.enumerated() where draft.task.isLeader { leaders[draft.task.tgid] = index }
    for index in drafts.indices where !drafts[index].task.isLeader {
      guard drafts[index].arguments != nil, let leader = leaders[drafts[index].task.tgid] else { continue }
      drafts[index].task.commandLine = drafts[leader].task.commandLine
      drafts[index].task.commandLineFault = drafts[leader].task.commandLineFault
    }
  }

  /// Asks for a range of a process's memory page by page, so that a missing page loses no other.
  package static func addPieces(
    of range: Range<UInt64>, _ root: PhysicalAddress, to batch: inout ReadBatch<MemoryLocation>
  ) {
    var address = range.lowerBound
    while address < range.upperBound {
      let count = min(4096 - address % 4096, range.upperBound - address)
      batch.add(.virtual(VirtualAddress(address), root: root), count: Int(count))
      address += count
    }
  }

  /// Puts pieces together again up to the first that could not be read.
  package static func join(
    from first: Int, count: Int, _ batch: borrowing ReadBatch<MemoryLocation>
  ) -> (bytes: [UInt8], fault: MemoryFault?) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    var piece = first
    while bytes.count < count {
      do throws(MemoryFault) {
        bytes += try batch.reader(piece).copy()
      } catch {
        return (bytes, error)
      }
      piece += 1
    }
    return (bytes, nil)
  }

  private func setParents(of drafts: inout [Draft], in space: AddressSpace) {
    var tgids: [VirtualAddress: Int32] = [initTask: 0]
    for draft in drafts { tgids[draft.task.address] = draft.task.tgid }
    let unknown = Set(drafts.map(\.parent)).filter { tgids[$0] == nil }.sorted()
    if !unknown.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for address in unknown { batch.add(address + task.tgid.offset, count: 4) }
      space.read(&batch)
      for (index, address) in unknown.enumerated() {
        tgids[address] = (try? batch.reader(index).load(0, as: Int32.self)) ?? 0
      }
    }
    for index in drafts.indices { drafts[index].task.ppid = tgids[drafts[index].parent] ?? 0 }
  }

  private func setProcessTimes(of drafts: inout [Draft]) {
    var totals: [Int32: CPUTime] = [:]
    for draft in drafts { totals[draft.task.tgid, default: .zero] += draft.time }
    for index in drafts.indices {
      let own = drafts[index].time.adjusted(previous: drafts[index].previousTime)
      (drafts[index].task.userTime, drafts[index].task.systemTime) = own
      guard drafts[index].task.isLeader else { continue }
      var total = drafts[index].signalTime
      total += totals[drafts[index].task.tgid] ?? .zero
      let process = total.adjusted(previous: drafts[index].previousSignalTime)
      (drafts[index].task.processUserTime, drafts[index].task.processSystemTime) = process
    }
  }

  /// The terminal's name as its device file has it: the kernel calls the file `pts/3` `pts3`.
  private static func terminalName(_ name: [UInt8]) -> String {
    let text = String(decoding: name, as: UTF8.self)
    guard text.hasPrefix("pts"), text.dropFirst(3).allSatisfy(\.isNumber), text.count > 3 else { return text }
    return "pts/" + text.dropFirst(3)
  }
}
