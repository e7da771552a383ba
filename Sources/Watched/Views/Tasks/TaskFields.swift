package import Binding
package import KernelInfo

/// What is read of `task_struct`.
package struct TaskFields: Sendable {
  package typealias Field = FieldSelection.Field
  package let selection: FieldSelection
  package let pid, tgid, state, exitState, flags, comm, realParent, credentials, signal, mm, kthread: Field
  package let next, previous, startTime, userTime, systemTime, runtime, previousUserTime, previousSystemTime: Field
  package let staticPriority, priority, cpu: Field

  package init(_ types: TypeTable) throws(KernelInfoError) {
    let structure = try types.structure("task_struct")
    var fields = FieldSelection(structure)
    pid = try fields.want("pid")
    tgid = try fields.want("tgid")
    state = try fields.want(structure.hasField("__state") ? "__state" : "state")
    exitState = try fields.want("exit_state")
    flags = try fields.want("flags")
    comm = try fields.want("comm")
    realParent = try fields.want("real_parent")
    credentials = try fields.want("real_cred")
    signal = try fields.want("signal")
    mm = try fields.want("mm")
    // Before 5.17 a kernel thread's own struct hung on a field that had another use in user threads.
    kthread = try fields.want(structure.hasField("worker_private") ? "worker_private" : "set_child_tid")
    next = try fields.want("tasks.next")
    previous = try fields.want("tasks.prev")
    startTime = try fields.want(structure.hasField("start_boottime") ? "start_boottime" : "real_start_time")
    userTime = try fields.want("utime")
    systemTime = try fields.want("stime")
    runtime = try fields.want("se.sum_exec_runtime")
    previousUserTime = try fields.want("prev_cputime.utime")
    previousSystemTime = try fields.want("prev_cputime.stime")
    staticPriority = try fields.want("static_prio")
    priority = try fields.want("prio")
    cpu = try fields.want(structure.hasField("thread_info.cpu") ? "thread_info.cpu" : "cpu")
    selection = fields
  }
}

/// What is read of `cred`: the real, effective, saved and file-system ids of user and group, in this order.
package struct CredentialFields: Sendable {
  package let selection: FieldSelection
  package let ids: [FieldSelection.Field]

  package init(_ types: TypeTable) throws(KernelInfoError) {
    var fields = FieldSelection(try types.structure("cred"))
    ids = try ["uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid"].map { name throws(KernelInfoError) in
      try fields.want("\(name).val")
    }
    selection = fields
  }
}

/// What is read of `signal_struct`, which the threads of a process share.
package struct SignalFields: Sendable {
  package typealias Field = FieldSelection.Field
  package let selection: FieldSelection
  package let threadCount, tty, userTime, systemTime, runtime, previousUserTime, previousSystemTime: Field

  package init(_ types: TypeTable) throws(KernelInfoError) {
    var fields = FieldSelection(try types.structure("signal_struct"))
    threadCount = try fields.want("nr_threads")
    tty = try fields.want("tty")
    userTime = try fields.want("utime")
    systemTime = try fields.want("stime")
    runtime = try fields.want("sum_sched_runtime")
    previousUserTime = try fields.want("prev_cputime.utime")
    previousSystemTime = try fields.want("prev_cputime.stime")
    selection = fields
  }
}

/// What is read of `mm_struct`.
package struct MMFields: Sendable {
  package typealias Field = FieldSelection.Field
  package let selection: FieldSelection
  package let pgd, argumentStart, argumentEnd, environmentStart, environmentEnd, totalPages: Field
  /// Pages of files, of anonymous memory, and of shared memory.
  package let residentCounters: [Field]

  package init(_ types: TypeTable) throws(KernelInfoError) {
    let structure = try types.structure("mm_struct")
    var fields = FieldSelection(structure)
    pgd = try fields.want("pgd")
    argumentStart = try fields.want("arg_start")
    argumentEnd = try fields.want("arg_end")
    environmentStart = try fields.want("env_start")
    environmentEnd = try fields.want("env_end")
    totalPages = try fields.want("total_vm")
    // A struct with an array of atomics before 6.2, an array of percpu counters since.
    let counters = try structure.field("rss_stat")
    let first = try structure.field("rss_stat.count").offset
    let stride = counters.elementCount == nil ? 8 : counters.elementSize
    residentCounters = ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SHMEMPAGES"].compactMap { name in
      // An enumerator that no array has so many elements for is a lie of the types.
      types.enumerator(name).flatMap { (0..<16).contains($0) ? Int($0) : nil }
        .map { fields.want(offset: first + $0 * stride, size: 8) }
    }
    selection = fields
  }
}

/// What is read of `kthread` and, for the kernel's work queues, of `worker` and `workqueue_struct`.
package struct WorkerFields: Sendable {
  package typealias Field = FieldSelection.Field
  package let kthread: FieldSelection
  package let data, fullName: Field
  package let worker: FieldSelection
  package let description, currentWork, pool, rescuedQueue: Field
  package let queueName: FieldLayout

  package init(_ types: TypeTable) throws(KernelInfoError) {
    var fields = FieldSelection(try types.structure("kthread"))
    data = try fields.want("data")
    fullName = try fields.wantIfPresent("full_name")
    kthread = fields
    fields = FieldSelection(try types.structure("worker"))
    description = try fields.want("desc")
    currentWork = try fields.want("current_work")
    pool = try fields.want("pool")
    rescuedQueue = try fields.want("rescue_wq")
    worker = fields
    queueName = try types.structure("workqueue_struct").field("name")
  }
}
