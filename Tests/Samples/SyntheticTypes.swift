extension SyntheticLinux {
  /// The structs of a kernel that the views read, with the fields that they read: the form of Linux 6.1.
  static var typeInformation: [UInt8] {
    var types = StructWriter()
    let (u8, u16, u32, u64) = (types.u8, types.u16, types.u32, types.u64)
    let (int, long, pointer) = (types.int, types.long, types.pointer)
    func chars(_ count: Int) -> StructWriter.CType { types.array(u8, count) }

    let list = types.structure("list_head", [("next", pointer), ("prev", pointer)])
    let hashNode = types.structure("hlist_node", [("next", pointer), ("pprev", pointer)])
    let hashHead = types.structure("hlist_head", [("first", pointer)])
    types.enumeration("pid_type", ["PIDTYPE_PID", "PIDTYPE_TGID", "PIDTYPE_PGID", "PIDTYPE_SID"])

    // Tasks.
    let previous = types.structure("prev_cputime", [("utime", u64), ("stime", u64)])
    let entity = types.structure("sched_entity", [("sum_exec_runtime", u64)])
    let info = types.structure("thread_info", [("flags", u64), ("cpu", u32)])
    types.structure(
      "task_struct",
      [
        ("thread_info", info), ("__state", u32), ("flags", u32), ("prio", int), ("static_prio", int), ("se", entity),
        ("tasks", list), ("mm", pointer), ("exit_state", int), ("pid", int), ("tgid", int), ("real_parent", pointer),
        ("pid_links", types.array(hashNode, 4)), ("worker_private", pointer), ("utime", u64), ("stime", u64),
        ("prev_cputime", previous), ("start_boottime", u64), ("real_cred", pointer), ("comm", chars(16)),
        ("signal", pointer), ("group_leader", pointer), ("thread_pid", pointer), ("nsproxy", pointer),
      ])
    types.structure("nsproxy", [("uts_ns", pointer), ("pid_ns_for_children", pointer)])
    let userID = types.structure("kuid_t", [("val", u32)])
    types.structure(
      "cred", ["uid", "gid", "suid", "sgid", "euid", "egid", "fsuid", "fsgid"].map { ($0, userID) })
    types.structure(
      "signal_struct",
      [
        ("nr_threads", int), ("prev_cputime", previous), ("tty", pointer), ("utime", u64), ("stime", u64),
        ("sum_sched_runtime", u64),
      ])
    let counters = types.structure("mm_rss_stat", [("count", types.array(long, 4))])
    types.enumeration("mm_counter", ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES"])
    types.structure(
      "mm_struct",
      ["pgd", "total_vm", "arg_start", "arg_end", "env_start", "env_end"].map { ($0, u64) } + [("rss_stat", counters)])
    types.structure("tty_struct", [("name", chars(64))])
    types.structure("kthread", [("data", pointer), ("full_name", pointer)])
    types.structure(
      "worker", [("current_work", pointer), ("pool", pointer), ("desc", chars(24)), ("rescue_wq", pointer)])
    types.structure("workqueue_struct", [("name", chars(24))])

    // The pid table.
    let array = types.structure("xarray", [("xa_flags", u32), ("xa_head", pointer)])
    let idr = types.structure("idr", [("idr_rt", array)])
    types.structure("pid_namespace", [("idr", idr)])
    types.structure("xa_node", [("shift", u8), ("offset", u8), ("slots", types.array(pointer, 64))])
    let upid = types.structure("upid", [("nr", int), ("ns", pointer)])
    types.structure("pid", [("tasks", types.array(hashHead, 4)), ("numbers", types.array(upid, 1))])

    // The log.
    let blockPosition = types.structure("prb_data_blk_lpos", [("begin", u64), ("next", u64)])
    types.structure("prb_desc", [("state_var", u64), ("text_blk_lpos", blockPosition)])
    types.structure(
      "printk_info",
      [
        ("seq", u64), ("ts_nsec", u64), ("text_len", u16), ("facility", u8), ("level", u8), ("caller_id", u32),
      ])
    let descriptors = types.structure(
      "prb_desc_ring",
      [("count_bits", u32), ("descs", pointer), ("infos", pointer), ("head_id", u64), ("tail_id", u64)])
    let texts = types.structure("prb_data_ring", [("size_bits", u32), ("data", pointer)])
    types.structure("printk_ringbuffer", [("desc_ring", descriptors), ("text_data_ring", texts)])

    // The host.
    let names = types.structure(
      "new_utsname", ["sysname", "nodename", "release", "version", "machine"].map { ($0, chars(65)) })
    types.structure("uts_namespace", [("name", names)])
    let base = types.structure("tk_read_base", [("shift", u32), ("xtime_nsec", u64), ("base", u64)])
    types.structure("timekeeper", [("tkr_mono", base), ("xtime_sec", u64), ("offs_boot", u64)])
    types.structure("cpumask", [("bits", types.array(u64, 128))])
    types.structure("cpuinfo_x86", [("x86_model_id", chars(64))])
    types.structure("taint_flag", [("c_true", u8), ("c_false", u8)])

    // Memory counters.
    types.enumeration("zone_watermarks", ["WMARK_MIN", "WMARK_LOW", "WMARK_HIGH"])
    types.enumeration("zone_stat_item", ["NR_FREE_PAGES", "NR_MLOCK"])
    types.enumeration(
      "node_stat_item",
      [
        "NR_ACTIVE_ANON", "NR_INACTIVE_ANON", "NR_ACTIVE_FILE", "NR_INACTIVE_FILE", "NR_UNEVICTABLE", "NR_FILE_PAGES",
        "NR_SWAPCACHE", "NR_FILE_DIRTY", "NR_WRITEBACK", "NR_ANON_MAPPED", "NR_FILE_MAPPED", "NR_SHMEM",
        "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B", "NR_KERNEL_MISC_RECLAIMABLE", "NR_KERNEL_STACK_KB",
        "NR_PAGETABLE",
      ])
    let zone = types.structure("zone", [("_watermark", types.array(u64, 3)), ("watermark_boost", u64)])
    types.structure("pglist_data", [("node_zones", types.array(zone, 2))])
    types.structure("super_block", [("s_inodes", list)])
    types.structure("inode", [("i_mapping", pointer), ("i_sb_list", list)])
    types.structure("address_space", [("nrpages", u64)])
    return types.writer.bytes
  }
}
