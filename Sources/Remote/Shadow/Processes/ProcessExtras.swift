import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews
import TaskViews

/// Files of /proc/PID that show one thing each.
///
/// Source: fs/proc/base.c, and the functions named below.
struct ProcessExtras: KernelReader {
  static let subject = "the processes' single files"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let personality = Field<UInt32>("personality"), slack = Field<UInt64>("timer_slack_ns")
    let login = Field<UInt32>(optional: "loginuid.val"), session = Field<UInt32>(optional: "sessionid")
    let runTime = Field<UInt64>("se.sum_exec_runtime"), delay = Field<UInt64>("sched_info.run_delay")
    let runs = Field<UInt64>("sched_info.pcount"), patch = Field<Int32>(optional: "patch_state")
    let signal = Field<VirtualAddress>("signal"), mm = Field<VirtualAddress?>("mm"),
      stack = Field<VirtualAddress>("stack")
    let credentials = Field<VirtualAddress>("real_cred"), children = Place("children"), sibling = Place("sibling")
    let leader = Field<VirtualAddress>("group_leader"), groups = Field<VirtualAddress>("cgroups")
    let forked = Field<VirtualAddress?>("vfork_done"), parent = Field<VirtualAddress>("real_parent")
    let pid = Field<Int32>("pid"), flags = Field<UInt32>("flags"), exitState = Field<Int32>("exit_state")
  }

  private struct Credentials: KernelShape {
    static let type = "cred"
    let security = Field<VirtualAddress>(optional: "security"), user = Field<VirtualAddress>("user_ns")
  }

  private let task: Bound<Task>, credentials: Bound<Credentials>

  init(kernel: Kernel) throws { (task, credentials) = try kernel.types.bind() }

  private func task(_ record: ProcessRecord, _ kernel: Kernel) -> Reading<Task> {
    kernel.addressSpace.read(task, at: [record.task.address])[0]
  }

  private static func line(_ text: String) -> [UInt8] { Array((text + "\n").utf8) }

  func personality(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    Self.line(ProcText.hex(UInt64(try task(record, kernel).personality), 8))
  }

  func timerSlack(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    Self.line("\(try task(record, kernel).slack)")
  }

  func patchState(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    Self.line("\(try task(record, kernel).patch)")
  }

  /// Whether the kernel keeps who logged in, and what has been patched.
  var hasAudit: Bool { task.login.isPresent }
  var hasPatches: Bool { task.patch.isPresent }

  /// Source: `proc_loginuid_read` and `proc_sessionid_read`: without a newline.
  func login(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    Array("\(try task(record, kernel).login)".utf8)
  }

  func session(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    Array("\(try task(record, kernel).session)".utf8)
  }

  /// Source: `proc_pid_schedstat`.
  func schedule(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let task = task(record, kernel)
    return Self.line("\(try task.runTime) \(try task.delay) \(try task.runs)")
  }

  /// Source: kernel/sched/autogroup.c, `proc_sched_autogroup_show_task`: nothing of who is in none.
  func autogroup(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let group = try kernel.struct("signal_struct", at: try task(record, kernel).signal).pointer("autogroup")
    guard group.rawValue != 0 else { return [] }
    let own = try kernel.struct("autogroup", at: group)
    guard try kernel.struct("task_group", at: own.pointer("tg")).pointer("autogroup").rawValue != 0 else { return [] }
    return Self.line("/autogroup-\(try own.signed("id")) nice \(try own.signed("nice"))")
  }

  /// Source: `proc_oom_score` and mm/oom_kill.c, `oom_badness`.
  func killScore(_ record: ProcessRecord, _ table: ProcessTable, _ kernel: Kernel) throws -> [UInt8] {
    let task = task(record, kernel)
    let details = try record.details.get()
    let adjustment = Int64(details.process?.oomScoreAdjustment ?? 0)
    // PF_KTHREAD.
    guard record.task.tgid != 1, try task.flags & 0x0020_0000 == 0, let memory = try memory(of: record, table) else {
      return Self.line("0")
    }
    let isBorrowed =
      try task.forked != nil && kernel.pointers("mm", of: "task_struct", at: [try task.parent])[0] == task.mm
    // OOM_SCORE_ADJ_MIN; MMF_OOM_SKIP.
    guard adjustment != -1000, memory.flags >> 21 & 1 == 0, !isBorrowed else { return Self.line("0") }
    let swap = Int64(try kernel.words("total_swap_pages", 1)[0])
    let total = Int64(bitPattern: try kernel.words("_totalram_pages", 1)[0]) &+ swap
    guard total >= 1000 else { throw ShadowError.unreadable("a host with \(total) pages") }
    let pages = memory.resident &+ memory.swappedPages &+ memory.pageTables / 4096
    let badness = Int64(clamping: pages) &+ adjustment &* (total / 1000)
    return Self.line("\(UInt64(bitPattern: (1000 &+ badness &* 1000 / total) &* 2 / 3))")
  }

  /// The memory of a process: of any of its threads that still has it.
  private func memory(of record: ProcessRecord, _ table: ProcessTable) throws -> ProcessRecord.Memory? {
    if let own = try record.details.get().memory { return own }
    for thread in table.threads(of: record.task.tgid) {
      if let memory = try thread.details.get().memory { return memory }
    }
    return nil
  }

  /// Source: `proc_oom_adj_read`, the scale of before.
  static func oldKillAdjustment(_ record: ProcessRecord) throws -> [UInt8] {
    let adjustment = Int(try record.details.get().process?.oomScoreAdjustment ?? 0)
    return line("\(adjustment == 1000 ? 15 : min(15, adjustment * 17 / 1000))")
  }

  /// Source: `proc_coredump_filter_read`: nothing of who has no memory.
  static func coreFilter(_ record: ProcessRecord) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else { return [] }
    // MMF_DUMP_FILTER_SHIFT is 2, and nine kinds of mappings there are.
    return line(ProcText.hex(memory.flags >> 2 & 0x1ff, 8))
  }

  /// Source: `proc_pid_auxv`: pairs of words, the last of which is zero.
  func auxiliary(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else {
      // Nothing before 6.12.
      guard try kernel.releaseNumbers() < (6, 12) else { throw ShadowError.noProcess }
      return []
    }
    let field = try kernel.types.structure("mm_struct").field("saved_auxv")
    let bytes = try kernel.addressSpace.read(memory.address + field.offset, count: min(field.size, 4096))
    let end = stride(from: 0, to: bytes.count - 15, by: 16).first { bytes[$0..<$0 + 8].allSatisfy { $0 == 0 } }
    return Array(bytes.prefix((end ?? bytes.count - 16) + 16))
  }

  /// The timers that a process has made, of which there are none here: where there are some, they are an error.
  ///
  /// Source: `show_timer`.
  func timers(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let head = try task(record, kernel).signal + kernel.offset(of: "posix_timers", in: "signal_struct")
    let first = try kernel.addressSpace.pointer(at: head)
    // A list that ends with null, or, of older kernels, one that ends where it begins.
    guard first.rawValue == 0 || first == head else {
      throw ShadowError.unreadable("how the timers of a process are shown is not known")
    }
    return []
  }

  /// Source: fs/proc/array.c, `children_seq_show`.
  func children(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let children = kernel.addressSpace.list(
      of: task, through: \.sibling, head: record.task.address + task.children.offset, limit: 1 << 22, &faults)
    if let fault = faults.first { throw fault }
    return Array(try children.map { "\(try $0.pid) " }.joined().utf8)
  }

  /// When a thread used AVX-512 last, on processors that have it.
  ///
  /// Source: arch/x86/kernel/fpu/xstate.c, `proc_pid_arch_status`.
  func vectorUse(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    // X86_FEATURE_AVX512F is bit 16 of the capabilities' word 9.
    let capabilities = try kernel.types.structure("cpuinfo_x86").field("x86_capability")
    let place = try kernel.symbol("boot_cpu_data", for: Self.self) + capabilities.offset + 36
    guard try kernel.addressSpace.load(place, as: UInt32.self) >> 16 & 1 != 0 else { return [] }
    // Behind the thread itself since 6.16.
    let thread = try kernel.types.structure("task_struct")
    guard let field = try? thread.field("thread.fpu.avx512_timestamp") else {
      throw ShadowError.unreadable("when a thread used AVX-512")
    }
    let used: UInt64 = try kernel.addressSpace.load(record.task.address + field.offset)
    guard used != 0 else { return Self.line("AVX512_elapsed_ms:\t-1") }
    let ticks = try kernel.words("jiffies", 1)[0] &- used
    let length = UInt64(max(1, try kernel.number("tick_nsec")))
    return Self.line("AVX512_elapsed_ms:\t\(ticks.multipliedReportingOverflow(by: length).partialValue / 1_000_000)")
  }

  // MARK: Users

  enum UserMap: String { case users = "uid_map", groups = "gid_map", projects = "projid_map" }

  /// Source: kernel/user_namespace.c, `uid_m_show`, for who looks from the initial namespace.
  func users(_ map: UserMap, _ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let place = try kernel.offset(of: map.rawValue, in: "user_namespace")
    let own = try namespace(record, kernel) + place
    let layout = try kernel.types.structure("uid_gid_map")
    let count: UInt32 = try kernel.addressSpace.load(own + layout.field("nr_extents").offset)
    // UID_GID_MAP_MAX_EXTENTS; those that are more than UID_GID_MAP_MAX_BASE_EXTENTS lie elsewhere.
    guard count <= 340 else { throw ShadowError.unreadable("\(count) ranges of users") }
    let start =
      count <= 5
      ? own + (try layout.field("extent").offset)
      : try kernel.addressSpace.pointer(at: own + layout.field("forward").offset)
    let words = try kernel.addressSpace.read(start, count: Int(count) * 12).words32
    var text = ProcText()
    for index in 0..<Int(count) {
      let numbers = [words[index * 3], words[index * 3 + 1], words[index * 3 + 2]]
      text.line(numbers.map { ProcText.padded("\($0)", 10) }.joined(separator: " "))
    }
    return text.bytes
  }

  func canSetGroups(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    // USERNS_SETGROUPS_ALLOWED.
    let flags: UInt64 = try kernel.addressSpace.load(
      namespace(record, kernel) + kernel.offset(of: "flags", in: "user_namespace"))
    return Self.line(flags & 1 != 0 ? "allow" : "deny")
  }

  private func namespace(_ record: ProcessRecord, _ kernel: Kernel) throws -> VirtualAddress {
    try kernel.addressSpace.read(credentials, at: [try task(record, kernel).credentials])[0].user
  }

  // MARK: Control groups, security

  /// Source: kernel/cgroup/cpuset-v1.c, `proc_cpuset_show`.
  func cpuSet(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let index = Int(max(0, min(63, try kernel.constant("cpuset_cgrp_id"))))
    let set = try task(record, kernel).groups + kernel.offset(of: "subsys", in: "css_set") + index * 8
    let state = try kernel.addressSpace.pointer(at: set)
    let group = try kernel.struct("cgroup_subsys_state", at: state).pointer("cgroup")
    var node = try kernel.struct("cgroup", at: group).pointer("kn")
    let layout = try kernel.types.structure("kernfs_node")
    let parent = try layout.field("__parent", or: "parent")
    var path: [UInt8] = []
    // The root has no parent, and its name is not shown.
    for _ in 0..<64 {
      let own = try kernel.struct("kernfs_node", at: node)
      let next = try own.pointer(parent.path)
      guard next.rawValue != 0 else { return (path.isEmpty ? [UInt8(ascii: "/")] : path) + [10] }
      path = [UInt8(ascii: "/")] + (try kernel.addressSpace.strings(at: [try own.pointer("name")])[0].get()) + path
      node = next
    }
    throw ShadowError.unreadable("control groups that lie in each other more than 64 deep")
  }

  /// What AppArmor says of a thread; invalid where nothing says anything, as in the kernel.
  ///
  /// Source: security/apparmor/procattr.c, `aa_getprocattr`.
  func label(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let sizes = kernel.symbols.address(of: "apparmor_blob_sizes"),
      let enabled = kernel.symbols.address(of: "apparmor_initialized"),
      try kernel.addressSpace.load(enabled, as: Int32.self) != 0
    else {
      if let other = ["selinux_enabled_boot", "smack_enabled"].first(where: { name in
        guard let place = kernel.symbols.address(of: name) else { return false }
        return ((try? kernel.addressSpace.load(place, as: Int32.self)) ?? 1) != 0
      }), kernel.symbols.address(of: "selinux_state") == nil || other == "smack_enabled" {
        throw ShadowError.unreadable("what \(other) stands for is not read here")
      }
      throw ShadowError.invalid
    }
    let distance: Int32 = try kernel.addressSpace.load(sizes + kernel.offset(of: "lbs_cred", in: "lsm_blob_sizes"))
    let own = kernel.addressSpace.read(credentials, at: [try task(record, kernel).credentials])[0]
    let label = try kernel.addressSpace.pointer(at: try own.security + Int(max(0, distance)))
    let shown = try kernel.struct("aa_label", at: label)
    guard try shown.signed("size") == 1 else {
      throw ShadowError.unreadable("a label that stands for several profiles")
    }
    let profile = try kernel.struct(
      "aa_profile", at: kernel.addressSpace.pointer(at: label + kernel.offset(of: "vec", in: "aa_label")))
    let space = try profile.pointer("ns")
    guard space == (try kernel.addressSpace.pointer(at: kernel.symbol("root_ns", for: "the profiles"))) else {
      throw ShadowError.unreadable("a profile of a namespace of its own")
    }
    var name = try kernel.addressSpace.strings(at: [try profile.pointer("base.hname")], limit: 4096)[0].get()
    if try kernel.pointers("unconfined", of: "aa_ns", at: [space])[0] != profile.address {
      let mode = try profile.signed("mode")
      let modes = try kernel.texts(
        in: "aa_profile_mode_names", count: min(8, kernel.size(of: "aa_profile_mode_names") / 8))
      guard let text = modes[safe: Int(clamping: mode)] ?? nil else {
        throw ShadowError.unreadable("a profile in mode \(mode)")
      }
      name += Array(" (\(text))".utf8)
    }
    return name + [10]
  }

  // MARK: Stack

  /// Source: `proc_pid_stack`.
  func stack(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard let stack = try kernel.stacks(of: [record.task]).stacks.first else { throw ShadowError.missing }
    switch stack.ending {
    case .running: throw ShadowError.unreadable("it runs: where it is at is in its CPU's registers")
    case .broken(let fault): throw fault
    case .complete, .released: break
    }
    var text = ProcText()
    for frame in stack.frames where !frame.isGuess && !WaitingPlace.isWaiting(frame.address, kernel) {
      text.line("[<0>] \(frame.place?.description ?? "0x\(ProcText.hex(frame.address.rawValue, 16))")")
    }
    return text.bytes
  }

  /// The system call that a thread waits in.
  ///
  /// Source: `proc_pid_syscall`, lib/syscall.c, `collect_syscall`.
  func call(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    if record.task.isRunning { return Self.line("running") }
    let task = task(record, kernel)
    guard try task.stack.rawValue != 0 else { return Self.line("-1 0x0 0x0") }
    let registers = try kernel.types.structure("pt_regs")
    // From 6.9 on there is room behind them (TOP_OF_KERNEL_STACK_PADDING) where the kernel was built for FRED.
    let room =
      kernel.symbols.address(of: "fred_entry_from_user") != nil || kernel.types.hasStructure("fred_frame") ? 16 : 0
    let size = kernel.stackSize
    let start = try task.stack + (size - room - registers.size)
    let bytes = try kernel.addressSpace.read(start, count: registers.size)
    let reader = ByteReader(bytes.span.bytes)
    func register(_ name: String) throws -> String { "0x" + String(try registers.field(name).load(reader), radix: 16) }
    let number = Int64(bitPattern: try registers.field("orig_ax").load(reader))
    let names = number < 0 ? ["sp", "ip"] : ["di", "si", "dx", "r10", "r8", "r9", "sp", "ip"]
    return Self.line(([String(Int32(truncatingIfNeeded: number))] + (try names.map(register))).joined(separator: " "))
  }
}

extension Kernel {
  /// Bytes of a thread's kernel stack.
  ///
  /// Source: arch/x86/include/asm/page_64_types.h, `THREAD_SIZE`: twice as much with KASAN.
  fileprivate var stackSize: Int { symbols.address(of: "kasan_report") == nil ? 1 << 14 : 1 << 15 }

  /// Major and minor number of the release.
  func releaseNumbers() throws -> (Int, Int) {
    let numbers = release.split(separator: ".").prefix(2).map { Int($0.prefix { $0.isNumber }) ?? 0 }
    return (numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
  }

  /// Seconds since 1970, as of the last tick.
  func realTime() throws -> Int64 {
    let clock = try ClockReader(kernel: self)
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    addressSpace.read(&batch)
    return try clock.read(record, batch).wallClock
  }

  /// Nanoseconds of CLOCK_MONOTONIC as of the last tick.
  func monotonicTime() throws -> Int64 {
    let clock = try ClockReader(kernel: self)
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    addressSpace.read(&batch)
    return Int64(try clock.readTick(record, batch).monotonic)
  }
}
