import Glibc
import Shadow

extension TrappedCall {
  /// Calls that would change something of the host, or look into it by ways that lead to this machine: they are refused.
  static let actions: [TrappedCall] = [
    acting("setpriority", on: 1, "set the priority of"), acting("setpgid", on: 0, "move to another group"),
    acting("sched_setscheduler", on: 0, "set the policy of"), acting("sched_setparam", on: 0, "set the priority of"),
    acting("sched_setattr", on: 0, "set the policy of"), acting("sched_setaffinity", on: 0, "choose the CPUs of"),
    acting("ioprio_set", on: 1, "set the I/O priority of"), acting("ptrace", on: 1, "trace"),
    acting("process_vm_readv", on: 0, "read the memory of"), acting("process_vm_writev", on: 0, "write the memory of"),
    acting("kcmp", on: 0, "compare"), acting("get_robust_list", on: 0, "read the locks of"),
    acting("migrate_pages", on: 0, "move the memory of"), acting("move_pages", on: 0, "move the memory of"),
    refused("perf_event_open", "count events"), refused("bpf", "use BPF"),
    refused("quotactl", "know the quotas"),
  ]

  private static func refused(_ name: String, _ what: String, when cases: [[Condition]] = []) -> TrappedCall {
    TrappedCall(name, cases: cases) { _, _ in .refused(EPERM, what) }
  }

  /// A call that does something to a process, which may be one of the program's own.
  private static func acting(_ name: String, on argument: Int, _ what: String) -> TrappedCall {
    TrappedCall(name, when: [.notEqual(argument, 0)]) { question, host in
      let number = question.number(argument)
      switch try host.subject(number) {
      case .own: return .own
      case .host: return .refused(EPERM, "\(what) the host's process \(number)")
      }
    }
  }
}
