import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// Reads of all threads what the files of /proc/PID show beside what the list of tasks has.
///
/// ```
/// task_struct → signal_struct, mm_struct, sighand_struct, cred, files_struct, fs_struct → pid, tty, group_info, ucounts …
/// ```
/// Source: fs/proc/array.c, `do_task_stat` and `proc_pid_status`; fs/proc/base.c.
struct ProcessReader: KernelReader {
  static let subject = "the processes' files"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let flags = Field<UInt64>("flags"), exitCode = Field<Int32>("exit_code"), exitSignal = Field<Int32>("exit_signal")
    let minorFaults = Field<UInt64>("min_flt"), majorFaults = Field<UInt64>("maj_flt")
    let realTimePriority = Field<UInt64>("rt_priority"), policy = Field<UInt64>("policy")
    let guestTime = Field<UInt64>("gtime"), numaGroup = Field<VirtualAddress?>(optional: "numa_group")
    let voluntary = Field<UInt64>("nvcsw"), involuntary = Field<UInt64>("nivcsw")
    let pending = Field<[UInt64]>("pending.signal.sig"), blocked = Field<[UInt64]>("blocked.sig")
    let handlers = Field<VirtualAddress>("sighand"), signal = Field<VirtualAddress>("signal")
    let mm = Field<VirtualAddress>("mm"), context = Field<VirtualAddress>("fs"), files = Field<VirtualAddress>("files")
    let credentials = Field<VirtualAddress>("real_cred"), pid = Field<VirtualAddress>("thread_pid")
    let traced = Field<UInt64>("ptrace"), parent = Field<VirtualAddress>("parent")
    let cpus = Field<VirtualAddress>("cpus_ptr"), memoryNodes = Field<RawBytes>("mems_allowed")
    let atomicFlags = Field<UInt64>("atomic_flags")
    let seccompMode = Field<Int32>(optional: "seccomp.mode")
    let seccompFilters = Field<Int32>(optional: "seccomp.filter_count")
    let delays = Field<VirtualAddress?>(optional: "delays")
    let features = Field<UInt64>(optional: "thread.features")
    let lockedFeatures = Field<UInt64>(optional: "thread.features_locked")
    let accounting = Accounting()
  }

  private struct Signal: KernelShape {
    static let type = "signal_struct"
    let flags = Field<UInt64>("flags"), groupExitCode = Field<Int32>("group_exit_code")
    let minorFaults = Field<UInt64>("min_flt"), majorFaults = Field<UInt64>("maj_flt")
    let childMinorFaults = Field<UInt64>("cmin_flt"), childMajorFaults = Field<UInt64>("cmaj_flt")
    let childUserTime = Field<UInt64>("cutime"), childSystemTime = Field<UInt64>("cstime")
    let guestTime = Field<UInt64>("gtime"), childGuestTime = Field<UInt64>("cgtime")
    let limits = Field<RawBytes>("rlim"), pending = Field<[UInt64]>("shared_pending.signal.sig")
    let adjustment = Field<Int16>("oom_score_adj"), pids = Field<RawBytes>("pids")
    let terminal = Field<VirtualAddress?>("tty"), core = Field<VirtualAddress?>(optional: "core_state")
    let accounting = Accounting()
  }

  private struct Space: KernelShape {
    static let type = "mm_struct"
    let codeStart = Field<UInt64>("start_code"), codeEnd = Field<UInt64>("end_code")
    let stackStart = Field<UInt64>("start_stack")
    let dataStart = Field<UInt64>("start_data"), dataEnd = Field<UInt64>("end_data"), heap = Field<UInt64>("start_brk")
    let argumentStart = Field<UInt64>("arg_start"), argumentEnd = Field<UInt64>("arg_end")
    let environmentStart = Field<UInt64>("env_start"), environmentEnd = Field<UInt64>("env_end")
    let total = Field<UInt64>("total_vm"), highestTotal = Field<UInt64>("hiwater_vm")
    let highestResident = Field<UInt64>("hiwater_rss"), locked = Field<UInt64>("locked_vm")
    let pinned = Field<UInt64>("pinned_vm.counter"), data = Field<UInt64>("data_vm")
    let code = Field<UInt64>("exec_vm"), stack = Field<UInt64>("stack_vm")
    let pageTables = Field<UInt64>("pgtables_bytes.counter")
    let hugePages = Field<UInt64>(optional: "hugetlb_usage.counter")
    let flags = Field<UInt64>("flags"), core = Field<VirtualAddress?>(optional: "core_state")
    let untagMask = Field<UInt64>(optional: "context.untag_mask"), executable = Field<VirtualAddress>("exe_file")
    let counters = PageCounters()
  }

  private struct Handlers: KernelShape {
    static let type = "sighand_struct"
    let actions = Field<RawBytes>("action")
  }

  private struct Credentials: KernelShape {
    static let type = "cred"
    let groups = Field<VirtualAddress>("group_info")
    // Counted with the user itself until 5.14.
    let counts = Field<VirtualAddress>("ucounts", before: "5.14, 905ae01c4ae2", "user")
    let inheritable = Field<UInt64>("cap_inheritable"), permitted = Field<UInt64>("cap_permitted")
    let effective = Field<UInt64>("cap_effective"), bounding = Field<UInt64>("cap_bset")
    let ambient = Field<UInt64>("cap_ambient")
  }

  private struct Groups: KernelShape {
    static let type = "group_info"
    let count = Field<Int32>("ngroups"), first = Place("gid")
  }

  private struct Counts: KernelShape {
    static let type = "ucounts"
    // One array for all kinds until 6.0.
    let limits = Field<[Int64]>("rlimit", before: "6.0", "ucount")
  }

  private struct User: KernelShape {
    static let type = "user_struct"
    let queued = Field<Int64>(optional: "sigpending.counter")
  }

  private struct Context: KernelShape {
    static let type = "fs_struct"
    let umask = Field<Int32>("umask")
    let rootMount = Field<VirtualAddress>("root.mnt"), rootEntry = Field<VirtualAddress>("root.dentry")
    let mount = Field<VirtualAddress>("pwd.mnt"), entry = Field<VirtualAddress>("pwd.dentry")
  }

  private struct Files: KernelShape {
    static let type = "files_struct"
    let table = Field<VirtualAddress>("fdt")
  }

  private struct FileTable: KernelShape {
    static let type = "fdtable"
    let size = Field<UInt64>("max_fds")
  }

  private struct PID: KernelShape {
    static let type = "pid"
    let level = Field<UInt64>("level"), numbers = ArrayPlace("numbers", most: 33)
  }

  private struct PIDNumber: KernelShape {
    static let type = "upid"
    let number = Field<Int32>("nr"), namespace = Field<VirtualAddress>("ns")
  }

  private struct Terminal: KernelShape {
    static let type = "tty_struct"
    let driver = Field<VirtualAddress>("driver"), number = Field<UInt64>("index")
    let group = Field<VirtualAddress>("ctrl.pgrp", before: "5.15", "pgrp")
  }

  private struct Driver: KernelShape {
    static let type = "tty_driver"
    let major = Field<UInt64>("major"), first = Field<UInt64>("minor_start")
  }

  private struct NumaGroup: KernelShape {
    static let type = "numa_group"
    let id = Field<Int32>("gid")
  }

  private struct Delays: KernelShape {
    static let type = "task_delay_info"
    let block = Field<UInt64>("blkio_delay")
  }

  /// `task_io_accounting`, wherever it is embedded as `ioac`; without CONFIG_TASK_XACCT its fields are missing.
  private final class Accounting: DeclaredField, @unchecked Sendable {
    // Bound once, as a Field is.
    private(set) var fields: [FieldSelection.Field] = []
    init() { declare() }

    func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
      throws(KernelInfoError)
    {
      for name in ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"] {
        fields.append(try selection.wantIfPresent("ioac.\(name)"))
      }
    }
  }

  /// The counters of an `mm_struct`'s pages: of files, anonymous, swapped out, shared.
  private final class PageCounters: DeclaredField, @unchecked Sendable {
    // Bound once, as a Field is.
    private(set) var fields: [FieldSelection.Field?] = []
    init() { declare() }

    func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection)
      throws(KernelInfoError)
    {
      // A struct with an array of atomics before 6.2, an array of percpu counters since.
      let array = try structure.field("rss_stat")
      let first = try structure.field("rss_stat.count").offset
      let stride = array.elementCount == nil ? 8 : array.elementSize
      for name in ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES"] {
        // An enumerator that no array has so many elements for is a lie of the types.
        let index = types.enumerator(name).flatMap { (0..<16).contains($0) ? Int($0) : nil }
        fields.append(index.map { selection.want(offset: first + $0 * stride, size: 8) })
      }
    }
  }

  private let task: Bound<Task>, signal: Bound<Signal>, space: Bound<Space>, handlers: Bound<Handlers>
  private let credentials: Bound<Credentials>, groups: Bound<Groups>, counts: Bound<Counts>?, context: Bound<Context>
  private let files: Bound<Files>, fileTable: Bound<FileTable>, pid: Bound<PID>, pidNumber: Bound<PIDNumber>
  private let terminal: Bound<Terminal>, driver: Bound<Driver>
  private let numaGroup: Bound<NumaGroup>?, delays: Bound<Delays>?
  private let actionSize: Int
  private let groupKind, sessionKind, processKind: Int
  /// Where the signals of a user are among its counters; nil where the user itself has them.
  private let queued: Int?
  private let user: Bound<User>
  private let cpuBytes: Int

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, signal, space, handlers) = try types.bind()
    (credentials, groups, context, user) = try types.bind()
    (files, fileTable, pid, pidNumber) = try types.bind()
    (terminal, driver) = try types.bind()
    numaGroup = try? Bound(types)
    delays = try? Bound(types)
    actionSize = max(try types.structure("k_sigaction").size, 8)
    func index(_ name: String) throws -> Int { Int(clamping: max(0, try types.requiredEnumerator(name))) }
    queued = types.enumerator("UCOUNT_RLIMIT_SIGPENDING") == nil ? nil : try index("UCOUNT_RLIMIT_SIGPENDING")
    counts = queued == nil ? nil : try Bound(types)
    groupKind = try index("PIDTYPE_PGID")
    sessionKind = try index("PIDTYPE_SID")
    processKind = try index("PIDTYPE_TGID")
    cpuBytes = min(max((try? types.structure("cpumask").size) ?? 8, 8), 1024)
  }

  /// PF_KTHREAD, of include/linux/sched.h.
  static let kernelThread: UInt64 = 0x20_0000

  func read(_ tasks: [KernelTask], in kernel: AddressSpace) -> (records: [ProcessRecord], faults: [MemoryFault]) {
    let own = kernel.read(task, at: tasks.map(\.address))
    let signals = Shared(kernel.read(signal, at: own.pointers(\.signal).distinct))
    let spaces = Shared(kernel.read(space, at: own.pointers(\.mm).distinct))
    let handlers = Shared(kernel.read(handlers, at: own.pointers(\.handlers).distinct))
    let owners = Shared(kernel.read(credentials, at: own.pointers(\.credentials).distinct))
    let groups = Shared(kernel.read(self.groups, at: owners.structs.pointers(\.groups).distinct))
    let accounts = owners.structs.pointers(\.counts).distinct
    let counts = self.counts.map { Shared(kernel.read($0, at: accounts)) }
    let users = queued == nil ? Shared(kernel.read(user, at: accounts)) : nil
    let contexts = Shared(kernel.read(context, at: own.pointers(\.context).distinct))
    let files = Shared(kernel.read(self.files, at: own.pointers(\.files).distinct))
    let tables = Shared(kernel.read(fileTable, at: files.structs.pointers(\.table).distinct))
    let terminals = Shared(kernel.read(terminal, at: signals.structs.pointers(\.terminal).distinct))
    let drivers = Shared(kernel.read(driver, at: terminals.structs.pointers(\.driver).distinct))
    let numa = numaGroup.map { Shared(kernel.read($0, at: own.pointers(\.numaGroup).distinct)) }
    let delays = self.delays.map { Shared(kernel.read($0, at: own.pointers(\.delays).distinct)) }
    let (members, masks) = readLeaves(groups.structs, own.pointers(\.cpus).distinct, in: kernel)
    let pids = numbers(
      of: (own.pointers(\.pid) + signals.structs.flatMap { pidAddresses($0) } + terminals.structs.pointers(\.group))
        .distinct, in: kernel)
    let tids = Dictionary(tasks.map { ($0.address, $0.tid) }, uniquingKeysWith: { first, _ in first })

    var faults: [MemoryFault] = []
    let records = zip(tasks, own).map { shown, task in
      let details = Result { () throws(MemoryFault) -> ProcessRecord.Details in
        var details = ProcessRecord.Details()
        details.flags = try task.flags
        (details.exitCode, details.exitSignal) = (try task.exitCode, try task.exitSignal)
        (details.minorFaults, details.majorFaults) = (try task.minorFaults, try task.majorFaults)
        (details.realTimePriority, details.policy) = (try task.realTimePriority, try task.policy)
        details.guestTime = try task.guestTime
        if let group = try task.numaGroup { details.numaGroup = try numa?[group]?.id ?? 0 }
        (details.voluntarySwitches, details.involuntarySwitches) = (try task.voluntary, try task.involuntary)
        (details.pending, details.blocked) = (try task.pending.first ?? 0, try task.blocked.first ?? 0)
        if try task.traced != 0 { details.tracer = tids[try task.parent] ?? 0 }
        details.cpus = try Self.found(masks[try task.cpus], "a set of CPUs", at: try task.cpus).get()
        details.memoryNodes = try task.memoryNodes.bytes.words
        details.atomicFlags = try task.atomicFlags
        details.seccompMode = try task.seccompMode
        details.seccompFilters = task.shape.seccompFilters.isPresent ? try task.seccompFilters : nil
        if let delay = try task.delays { details.blockDelay = try delays?[delay]?.block ?? 0 }
        details.features = task.shape.features.isPresent ? try task.features : nil
        details.lockedFeatures = try task.lockedFeatures
        details.inputOutput = try Self.accounting(task.shape.accounting.fields, task.load)

        let owner = try Self.found(owners[try task.credentials], "credentials", at: try task.credentials)
        details.groups = try Self.found(members[try owner.groups], "a list of groups", at: try owner.groups).get()
        details.capabilities = [
          try owner.inheritable, try owner.permitted, try owner.effective, try owner.bounding, try owner.ambient,
        ]
        let account = try owner.counts
        if let queued {
          let limits = try Self.found(counts?[account], "a user's counters", at: account).limits
          guard queued < limits.count else {
            throw MemoryFault(.virtual(account), .inconsistent("a user with \(limits.count) counters"))
          }
          details.queuedSignals = limits[queued]
        } else {
          details.queuedSignals = try Self.found(users?[account], "a user", at: account).queued
        }
        if let context = contexts[try task.context] {
          details.umask = try context.umask
          details.working = .init(mount: try context.mount, dentry: try context.entry)
          details.root = .init(mount: try context.rootMount, dentry: try context.rootEntry)
        }
        if let table = try files[try task.files]?.table { details.descriptors = try tables[table]?.size ?? 0 }
        if details.flags & Self.kernelThread == 0, let space = spaces[try task.mm] {
          details.memory = try Self.memory(space)
        }
        // Without handlers it has been taken away from its process (`lock_task_sighand`).
        if let handlers = handlers[try task.handlers], let signal = signals[try task.signal] {
          (details.ignored, details.caught) = dispositions(try handlers.actions.bytes)
          details.process = try process(signal, terminals, drivers, pids)
          let addresses = pidAddresses(signal)
          details.pids = .init(
            own: pids[try task.pid] ?? [], process: pids[addresses[0]] ?? [], group: pids[addresses[1]] ?? [],
            session: pids[addresses[2]] ?? [])
        } else {
          details.pids = .init(own: pids[try task.pid] ?? [])
        }
        return details
      }
      if case .failure(let fault) = details { faults.append(fault) }
      return ProcessRecord(task: shown, details: details)
    }
    return (records, faults)
  }

  /// Structs that several tasks share, by their addresses.
  private struct Shared<Shape: KernelShape> {
    let structs: Structs<Shape>
    private let places: [VirtualAddress: Int]

    init(_ structs: Structs<Shape>) {
      self.structs = structs
      places = Dictionary(zip(structs.addresses, structs.indices), uniquingKeysWith: { first, _ in first })
    }

    /// The struct at an address that led here; nil for null.
    subscript(address: VirtualAddress) -> Reading<Shape>? { places[address].map { structs[$0] } }
  }

  private static func found<Value>(
    _ value: Value?, _ what: String, at address: VirtualAddress
  ) throws(MemoryFault) -> Value {
    guard let value else { throw MemoryFault(.virtual(address), .inconsistent("\(what) that a task lacks")) }
    return value
  }

  private static func accounting(
    _ fields: [FieldSelection.Field], _ load: (FieldSelection.Field) throws(MemoryFault) -> UInt64
  ) throws(MemoryFault) -> ProcessRecord.InputOutput {
    var result = ProcessRecord.InputOutput()
    for (index, field) in fields.enumerated() { result.counters[index] = try load(field) }
    return result
  }

  private static func memory(_ space: Reading<Space>) throws(MemoryFault) -> ProcessRecord.Memory {
    var pages: [UInt64] = []
    for field in space.shape.counters.fields {
      let count = try field.map { field throws(MemoryFault) in try space.load(field) } ?? 0
      pages.append(UInt64(max(0, Int64(bitPattern: count))))
    }
    return ProcessRecord.Memory(
      address: space.address, codeStart: try space.codeStart, codeEnd: try space.codeEnd,
      stackStart: try space.stackStart, dataStart: try space.dataStart, dataEnd: try space.dataEnd,
      heapStart: try space.heap, argumentStart: try space.argumentStart, argumentEnd: try space.argumentEnd,
      environmentStart: try space.environmentStart, environmentEnd: try space.environmentEnd, total: try space.total,
      highestTotal: try space.highestTotal, highestResident: try space.highestResident, locked: try space.locked,
      pinned: try space.pinned, data: try space.data, code: try space.code, stack: try space.stack,
      pageTables: try space.pageTables, filePages: pages[0], anonymousPages: pages[1], sharedPages: pages[3],
      swappedPages: pages[2], hugePages: try space.hugePages, flags: try space.flags,
      isDumpingCore: try space.core != nil,
      untagMask: space.shape.untagMask.isPresent ? try space.untagMask : nil, executable: try space.executable)
  }

  private func process(
    _ signal: Reading<Signal>, _ terminals: Shared<Terminal>, _ drivers: Shared<Driver>,
    _ pids: [VirtualAddress: ProcessRecord.Numbers]
  ) throws(MemoryFault) -> ProcessRecord.Process {
    var process = ProcessRecord.Process(
      flags: try signal.flags, groupExitCode: try signal.groupExitCode, minorFaults: try signal.minorFaults,
      majorFaults: try signal.majorFaults, childMinorFaults: try signal.childMinorFaults,
      childMajorFaults: try signal.childMajorFaults, childUserTime: try signal.childUserTime,
      childSystemTime: try signal.childSystemTime, guestTime: try signal.guestTime,
      childGuestTime: try signal.childGuestTime, limits: try signal.limits.bytes.words,
      pending: try signal.pending.first ?? 0, oomScoreAdjustment: try signal.adjustment,
      inputOutput: try Self.accounting(signal.shape.accounting.fields, signal.load),
      isDumpingCore: try signal.core != nil)
    if let address = try signal.terminal, let terminal = terminals[address] {
      let driver = try Self.found(drivers[try terminal.driver], "a driver", at: try terminal.driver)
      // Major and minor as `new_encode_dev` packs them.
      let (major, minor) = (try driver.major, try driver.first &+ terminal.number)
      process.terminal = minor & 0xff | major << 8 | (minor & ~0xff) << 12
      process.terminalGroup = pids[try terminal.group]?.first?.number ?? 0
    }
    return process
  }

  /// The `struct pid` of the process, of its group, and of its session.
  private func pidAddresses(_ signal: Reading<Signal>) -> [VirtualAddress] {
    let words = ((try? signal.pids)?.bytes ?? []).words
    return [processKind, groupKind, sessionKind].map { VirtualAddress($0 < words.count ? words[$0] : 0) }
  }

  /// Signals that are ignored, and that have a handler, bit 0 for signal 1.
  private func dispositions(_ bytes: [UInt8]) -> (ignored: UInt64, caught: UInt64) {
    var (ignored, caught): (UInt64, UInt64) = (0, 0)
    for number in 0..<min(64, bytes.count / actionSize) {
      // The handler comes first in `sigaction`: SIG_DFL is 0, SIG_IGN 1.
      let handler = Array(bytes[number * actionSize..<number * actionSize + 8]).words[0]
      if handler == 1 { ignored |= 1 << UInt64(number) } else if handler != 0 { caught |= 1 << UInt64(number) }
    }
    return (ignored, caught)
  }

  /// Members of lists of groups, and sets of CPUs.
  ///
  /// Cost: one round trip.
  private func readLeaves(
    _ groups: Structs<Groups>, _ masks: [VirtualAddress], in kernel: AddressSpace
  ) -> ([VirtualAddress: Result<[UInt32], MemoryFault>], [VirtualAddress: Result<[UInt64], MemoryFault>]) {
    var batch = ReadBatch<VirtualAddress>()
    let lists = groups.map { groups in
      // NGROUPS_MAX is 65,536.
      let count = (try? groups.count) ?? -1
      return (0...65536).contains(count) ? batch.add(groups.address(of: \.first), count: Int(count) * 4) : nil
    }
    let sets = masks.map { batch.add($0, count: cpuBytes) }
    kernel.read(&batch)
    var members: [VirtualAddress: Result<[UInt32], MemoryFault>] = [:]
    for (group, entry) in zip(groups, lists) {
      members[group.address] = Result { () throws(MemoryFault) in
        guard let entry else {
          throw MemoryFault(.virtual(group.address), .inconsistent("more groups than there may be"))
        }
        let reader = try batch.reader(entry)
        var numbers: [UInt32] = []
        for index in 0..<reader.count / 4 { numbers.append(try reader.u32(index * 4)) }
        return numbers
      }
    }
    var found: [VirtualAddress: Result<[UInt64], MemoryFault>] = [:]
    for (address, entry) in zip(masks, sets) {
      found[address] = Result { () throws(MemoryFault) in try batch.reader(entry).copy().words }
    }
    return (members, found)
  }

  /// The numbers of each `struct pid`, by levels.
  ///
  /// Cost: two round trips.
  private func numbers(
    of addresses: [VirtualAddress], in kernel: AddressSpace
  ) -> [VirtualAddress: ProcessRecord.Numbers] {
    var places: [VirtualAddress] = []
    var owners: [VirtualAddress] = []
    for pid in kernel.read(pid, at: addresses) {
      // MAX_PID_NS_LEVEL is 32 (include/linux/pid_namespace.h).
      guard let level = try? pid.level, level <= 32 else { continue }
      for index in 0...Int(level) {
        places.append(pid.address + (pid.shape.numbers.offset + index * pid.shape.numbers.stride))
        owners.append(pid.address)
      }
    }
    var result: [VirtualAddress: ProcessRecord.Numbers] = [:]
    for number in kernel.read(pidNumber, at: places) {
      guard let value = try? number.number, let namespace = try? number.namespace else { continue }
      result[owners[number.index], default: []].append((value, namespace))
    }
    return result
  }
}

extension [VirtualAddress] {
  /// Each once, without null.
  fileprivate var distinct: [VirtualAddress] {
    var seen: Set<VirtualAddress> = []
    return filter { $0.rawValue != 0 && seen.insert($0).inserted }
  }
}

extension [UInt8] {
  /// Words of 64 bits; what is left over is left out.
  var words: [UInt64] {
    (0..<count / 8).map { word in (0..<8).reduce(0) { $0 | UInt64(self[word * 8 + $1]) << UInt64($1 * 8) } }
  }
}
