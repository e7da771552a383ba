import LinuxKernel
import Memory
import TaskViews

/// The lines of /proc/PID/status.
///
/// Source: fs/proc/array.c, `proc_pid_status`; fs/proc/task_mmu.c, `task_mem`.
struct ProcessStatus {
  let record: ProcessRecord
  let host: ShadowHost

  private var constants: HostConstants { host.constants }

  func bytes() throws -> [UInt8] {
    let (task, details) = (record.task, try record.details.get())
    var text = ProcText("Name:\t")
    text.add(Self.escaped(task.comm))
    text.line("")
    if let umask = details.umask, umask >= 0 {
      text.line("Umask:\t\(ProcText.padded(String(umask, radix: 8), 4, "0"))")
    }
    text.line("State:\t\(task.state.rawValue) (\(Self.name(of: task.state)))")
    text.line("Tgid:\t\(task.tgid)\nNgid:\t\(details.numaGroup)\nPid:\t\(task.tid)\nPPid:\t\(task.ppid)")
    text.line("TracerPid:\t\(details.tracer)")
    text.line("Uid:\t\(task.uid)\t\(task.euid)\t\(task.suid)\t\(task.fsuid)")
    text.line("Gid:\t\(task.gid)\t\(task.egid)\t\(task.sgid)\t\(task.fsgid)")
    text.line("FDSize:\t\(details.descriptors)")
    text.line("Groups:\t\(details.groups.map { "\($0)" }.joined(separator: " ")) ")
    addNumbers(details, &text)
    if constants.isAtLeast(6, 11) { text.line("Kthread:\t\(details.flags & ProcessReader.kernelThread != 0 ? 1 : 0)") }
    if let memory = details.memory {
      let exact = try host.kernel.reader(ResidentPages.self).shownInStatus(memory, host.kernel)
      add(exact, details, &text)
    }
    addSignals(details, &text)
    for (name, set) in zip(["Inh", "Prm", "Eff", "Bnd", "Amb"], details.capabilities) {
      text.line("Cap\(name):\t\(ProcText.hex(set, 16))")
    }
    text.line("NoNewPrivs:\t\(details.atomicFlags & 1)\nSeccomp:\t\(details.seccompMode)")
    if let filters = details.seccompFilters { text.line("Seccomp_filters:\t\(filters)") }
    try addSpeculation(details.atomicFlags, &text)
    text.line("Cpus_allowed:\t\(ProcText.bitmap(details.cpus, count: constants.cpus))")
    text.line("Cpus_allowed_list:\t\(ProcText.list(details.cpus, count: constants.cpus))")
    let nodes = details.memoryNodes.count * 64
    text.line("Mems_allowed:\t\(ProcText.bitmap(details.memoryNodes, count: nodes))")
    text.line("Mems_allowed_list:\t\(ProcText.list(details.memoryNodes, count: nodes))")
    text.line("voluntary_ctxt_switches:\t\(details.voluntarySwitches)")
    text.line("nonvoluntary_ctxt_switches:\t\(details.involuntarySwitches)")
    if let features = details.features {
      text.line("x86_Thread_features:\t\(Self.names(ofFeatures: features))")
      text.line("x86_Thread_features_locked:\t\(Self.names(ofFeatures: details.lockedFeatures))")
    }
    return text.bytes
  }

  /// Line ends and backslashes as C writes them (`ESCAPE_SPACE | ESCAPE_SPECIAL` of `string_escape_mem`).
  private static func escaped(_ name: [UInt8]) -> [UInt8] {
    name.flatMap { byte -> [UInt8] in
      switch byte {
      case 10: Array("\\n".utf8)
      case UInt8(ascii: "\\"): Array("\\\\".utf8)
      default: [byte]
      }
    }
  }

  /// `task_state_array`.
  private static func name(of state: TaskState) -> String {
    switch state {
    case .running: "running"
    case .sleeping: "sleeping"
    case .diskSleep: "disk sleep"
    case .stopped: "stopped"
    case .tracingStop: "tracing stop"
    case .dead: "dead"
    case .zombie: "zombie"
    case .parked: "parked"
    case .idle: "idle"
    }
  }

  /// Its ids in every pid namespace that it is in, the initial one's first.
  private func addNumbers(_ details: ProcessRecord.Details, _ text: inout ProcText) {
    let pids = details.pids ?? .init()
    for (name, numbers) in [
      ("NStgid", pids.process), ("NSpid", pids.own), ("NSpgid", pids.group), ("NSsid", pids.session),
    ] {
      let shown = pids.own.indices.map { level in
        numbers[safe: level].map { $0.namespace == pids.own[level].namespace ? $0.number : 0 } ?? 0
      }
      text.line("\(name):" + shown.map { "\t\($0)" }.joined())
    }
  }

  private func add(_ memory: ProcessRecord.Memory, _ details: ProcessRecord.Details, _ text: inout ProcText) {
    func line(_ name: String, _ pages: UInt64) { kibibytes(name, pages &* 4) }
    func kibibytes(_ name: String, _ value: UInt64) { text.line("\(name):\t\(ProcText.padded("\(value)", 8)) kB") }
    let code = min(memory.text, memory.code &* 4096)
    line("VmPeak", max(memory.total, memory.highestTotal))
    line("VmSize", memory.total)
    line("VmLck", memory.locked)
    line("VmPin", memory.pinned)
    line("VmHWM", max(memory.resident, memory.highestResident))
    line("VmRSS", memory.resident)
    line("RssAnon", memory.anonymousPages)
    line("RssFile", memory.filePages)
    line("RssShmem", memory.sharedPages)
    line("VmData", memory.data)
    line("VmStk", memory.stack)
    kibibytes("VmExe", code >> 10)
    kibibytes("VmLib", (memory.code &* 4096 &- code) >> 10)
    kibibytes("VmPTE", memory.pageTables >> 10)
    line("VmSwap", memory.swappedPages)
    line("HugetlbPages", memory.hugePages)
    text.line("CoreDumping:\t\(memory.isDumpingCore || details.process?.isDumpingCore == true ? 1 : 0)")
    // MMF_DISABLE_THP (include/linux/sched/coredump.h, later mm_types.h).
    text.line("THP_enabled:\t\(memory.flags >> 24 & 1 == 0 ? 1 : 0)")
    // All bits where the kernel was built without masks, and no line before there was one.
    if memory.untagMask != nil || constants.isAtLeast(6, 4) {
      text.line("untag_mask:\t0x\(String(memory.untagMask ?? .max, radix: 16))")
    }
  }

  private func addSignals(_ details: ProcessRecord.Details, _ text: inout ProcText) {
    let process = details.process
    text.line("Threads:\t\(process == nil ? 0 : record.task.threadCount)")
    // RLIMIT_SIGPENDING is 11.
    text.line("SigQ:\t\(process == nil ? 0 : details.queuedSignals)/\(process?.limits[safe: 22] ?? 0)")
    for (name, set) in [
      ("SigPnd", details.pending), ("ShdPnd", process?.pending ?? 0), ("SigBlk", details.blocked),
      ("SigIgn", details.ignored), ("SigCgt", details.caught),
    ] {
      text.line("\(name):\t\(ProcText.hex(set, 16))")
    }
  }

  /// Source: `task_seccomp`, and arch/x86/kernel/cpu/bugs.c, `ssb_prctl_get` and `ib_prctl_get`.
  private func addSpeculation(_ flags: UInt64, _ text: inout ProcText) throws {
    guard let host = constants.speculation else {
      throw ShadowError.unreadable("how the host stands to speculation cannot be read")
    }
    // Flags PFA_SPEC_*, from include/linux/sched.h.
    func has(_ bit: UInt64) -> Bool { flags >> bit & 1 != 0 }
    let bypass =
      switch host.storeBypass {
      case 0: host.hasStoreBypass ? "vulnerable" : "not vulnerable"
      case 1: "globally mitigated"
      default:
        has(4)
          ? "thread force mitigated" : has(7) ? "thread mitigated" : has(3) ? "thread mitigated" : "thread vulnerable"
      }
    text.line("Speculation_Store_Bypass:\t\(bypass)")
    guard constants.isAtLeast(5, 11) else { return }
    // SPECTRE_V2_USER_NONE is 0, _PRCTL 3, _SECCOMP 4.
    let (barrier, predictors) = (host.branchBarrier, host.branchPredictors)
    let branch =
      if !host.hasBranchInjection {
        "not affected"
      } else if barrier == 0, predictors == 0 {
        "always enabled"
      } else if [3, 4].contains(barrier) || [3, 4].contains(predictors) {
        has(6) ? "conditional force disabled" : has(5) ? "conditional disabled" : "conditional enabled"
      } else {
        "always disabled"
      }
    text.line("SpeculationIndirectBranch:\t\(branch)")
  }

  /// ARCH_SHSTK_SHSTK and ARCH_SHSTK_WRSS (arch/x86/include/uapi/asm/prctl.h).
  private static func names(ofFeatures bits: UInt64) -> String {
    (bits & 1 != 0 ? "shstk " : "") + (bits & 2 != 0 ? "wrss " : "")
  }
}
