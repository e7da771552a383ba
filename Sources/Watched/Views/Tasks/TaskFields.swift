package import Binding
import KernelInfo
package import Memory

/// What is read of `task_struct`.
struct TaskShape: KernelShape {
  static let type = "task_struct"
  let pid = Field<Int32>("pid")
  let tgid = Field<Int32>("tgid")
  let state = Field<UInt64>("__state", before: "5.14, 2f064a59a11f", "state")
  let exitState = Field<UInt64>("exit_state")
  let flags = Field<UInt64>("flags")
  let comm = Field<[UInt8]>("comm")
  let realParent = Field<VirtualAddress>("real_parent")
  let credentials = Field<VirtualAddress>("real_cred")
  let signal = Field<VirtualAddress>("signal")
  let mm = Field<VirtualAddress>("mm")
  // Before, a kernel thread's own struct hung on a field that had another use in user threads.
  let kthread = Field<VirtualAddress>("worker_private", before: "5.17", "set_child_tid")
  let next = Field<VirtualAddress>("tasks.next")
  let previous = Field<VirtualAddress>("tasks.prev")
  let startTime = Field<UInt64>("start_boottime", before: "5.5", "real_start_time")
  let userTime = Field<UInt64>("utime")
  let systemTime = Field<UInt64>("stime")
  let runtime = Field<UInt64>("se.sum_exec_runtime")
  let previousUserTime = Field<UInt64>("prev_cputime.utime")
  let previousSystemTime = Field<UInt64>("prev_cputime.stime")
  let staticPriority = Field<Int32>("static_prio")
  let priority = Field<Int32>("prio")
  let cpu = Field<UInt32>("thread_info.cpu", before: "5.16", "cpu")
}

/// What is read of `cred`.
struct CredentialShape: KernelShape {
  static let type = "cred"
  let uid = Field<UInt32>("uid.val")
  let euid = Field<UInt32>("euid.val")
  let suid = Field<UInt32>("suid.val")
  let fsuid = Field<UInt32>("fsuid.val")
  let gid = Field<UInt32>("gid.val")
  let egid = Field<UInt32>("egid.val")
  let sgid = Field<UInt32>("sgid.val")
  let fsgid = Field<UInt32>("fsgid.val")
}

/// What is read of `signal_struct`, which the threads of a process share.
struct SignalShape: KernelShape {
  static let type = "signal_struct"
  let threadCount = Field<Int32>("nr_threads")
  let tty = Field<VirtualAddress>("tty")
  let userTime = Field<UInt64>("utime")
  let systemTime = Field<UInt64>("stime")
  let runtime = Field<UInt64>("sum_sched_runtime")
  let previousUserTime = Field<UInt64>("prev_cputime.utime")
  let previousSystemTime = Field<UInt64>("prev_cputime.stime")
}

/// What is read of `mm_struct`.
package struct MemoryShape: KernelShape {
  package static let type = "mm_struct"
  package let pgd = Field<VirtualAddress>("pgd")
  let argumentStart = Field<UInt64>("arg_start")
  let argumentEnd = Field<UInt64>("arg_end")
  package let environmentStart = Field<UInt64>("env_start")
  package let environmentEnd = Field<UInt64>("env_end")
  let totalPages = Field<UInt64>("total_vm")
  let residentPages = ResidentPages()

  package init() {}
}

/// The counters of an `mm_struct` for pages of files, of anonymous memory, and of shared memory.
final class ResidentPages: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  private(set) var counters: [FieldSelection.Field] = []

  init() { declare() }

  func bind(to structure: StructLayout, _ types: TypeTable, in selection: inout FieldSelection) throws(KernelInfoError)
  {
    // A struct with an array of atomics before 6.2, an array of percpu counters since.
    let array = try structure.field("rss_stat")
    let first = try structure.field("rss_stat.count").offset
    let stride = array.elementCount == nil ? 8 : array.elementSize
    for name in ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SHMEMPAGES"] {
      // An enumerator that no array has so many elements for is a lie of the types.
      guard let index = types.enumerator(name), (0..<16).contains(index) else { continue }
      counters.append(selection.want(offset: first + Int(index) * stride, size: 8))
    }
  }
}

/// What is read of `kthread`.
struct KernelThreadShape: KernelShape {
  static let type = "kthread"
  let data = Field<VirtualAddress>("data")
  let fullName = Field<VirtualAddress>(optional: "full_name")
}

/// What is read of the `worker` of a work queue.
struct WorkerShape: KernelShape {
  static let type = "worker"
  let description = Field<[UInt8]>("desc")
  let currentWork = Field<UInt64>("current_work")
  let pool = Field<UInt64>("pool")
  let rescuedQueue = Field<VirtualAddress>("rescue_wq")
}
