extension SyntheticLinux {
  /// The structs of a kernel that the views read, with the fields that they read: the form of Linux 6.1.
  ///
  /// With `wideCounts`, counts are of 64 bits that are of 32 in a real kernel, as types that lie may say.
  static func typeInformation(wideCounts: Bool) -> [UInt8] {
    var types = StructWriter()
    let (u8, u16, u32, u64) = (types.u8, types.u16, types.u32, types.u64)
    let (int, long, pointer) = (types.int, types.long, types.pointer)
    let count = wideCounts ? long : int
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
        ("cgroups", pointer), ("files", pointer),
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
      "worker",
      [
        ("current_work", pointer), ("pool", pointer), ("desc", chars(24)), ("rescue_wq", pointer),
        ("current_func", pointer), ("current_pwq", pointer), ("task", pointer), ("scheduled", list), ("node", list),
      ])
    types.structure(
      "workqueue_struct", [("name", chars(24)), ("pwqs", list), ("list", list), ("flags", u32)])

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
    types.structure("timekeeper", [("tkr_mono", base), ("xtime_sec", u64), ("offs_boot", u64), ("ntp_tick", u64)])
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
    types.structure("super_block", [("s_inodes", list), ("s_dev", u32)])
    types.structure(
      "inode",
      [
        ("i_mapping", pointer), ("i_sb_list", list), ("i_ino", u64), ("i_sb", pointer), ("i_private", pointer),
        ("i_size", long), ("i_mode", u16), ("i_nlink", u32),
      ])
    types.structure("address_space", [("nrpages", u64)])

    // Modules.
    let memory = types.structure("module_layout", [("base", pointer), ("size", u32), ("text_size", u32)])
    types.structure(
      "module",
      [
        ("list", list), ("name", chars(56)), ("core_layout", memory), ("kallsyms", pointer), ("syms", pointer),
        ("num_syms", u32),
      ])
    types.structure(
      "elf64_sym",
      [("st_name", u32), ("st_info", u8), ("st_other", u8), ("st_shndx", u16), ("st_value", u64), ("st_size", u64)])
    types.structure(
      "mod_kallsyms", [("symtab", pointer), ("num_symtab", u32), ("strtab", pointer), ("typetab", pointer)])
    types.structure("kernel_symbol", [("value_offset", int), ("name_offset", int)])

    // Timers.
    let timer = types.structure("timer_list", [("entry", hashNode), ("expires", u64), ("function", pointer)])
    types.structure("timer_base", [("clk", u64), ("vectors", types.array(hashHead, timerBuckets))])
    let node = types.structure(
      "rb_node", [("__rb_parent_color", u64), ("rb_right", pointer), ("rb_left", pointer)])
    let root = types.structure("rb_root", [("rb_node", pointer)])
    let cachedRoot = types.structure("rb_root_cached", [("rb_root", root), ("rb_leftmost", pointer)])
    let queue = types.structure("timerqueue_head", [("rb_root", cachedRoot)])
    let clock = types.structure("hrtimer_clock_base", [("active", queue), ("offset", long)])
    types.structure("hrtimer_cpu_base", [("clock_base", types.array(clock, 8))])
    let queueNode = types.structure("timerqueue_node", [("node", node), ("expires", long)])
    let highTimer = types.structure("hrtimer", [("node", queueNode), ("function", pointer)])
    types.structure("hrtimer_sleeper", [("timer", highTimer), ("task", pointer)])

    // Work.
    let work = types.structure("work_struct", [("data", u64), ("entry", list), ("func", pointer)])
    types.structure("delayed_work", [("work", work), ("timer", timer)])
    types.structure(
      "pool_workqueue",
      [
        ("pool", pointer), ("wq", pointer), ("nr_active", count), ("inactive_works", list),
        ("pwqs_node", list),
      ])
    types.structure(
      "worker_pool",
      [
        ("cpu", count), ("id", count), ("nr_workers", count), ("nr_idle", count), ("worklist", list), ("workers", list),
        ("attrs", pointer),
      ])
    types.structure("workqueue_attrs", [("nice", int)])
    types.enumeration("work_bits", [("WORK_STRUCT_PWQ_SHIFT", 8)])

    // Locks on files.
    types.structure("file_lock_list_struct", [("lock", u32), ("hlist", hashHead)])
    types.structure(
      "file_lock",
      [
        ("fl_link", hashNode), ("fl_blocked_requests", list), ("fl_blocked_member", list), ("fl_flags", u32),
        ("fl_type", u8), ("fl_pid", int), ("fl_file", pointer), ("fl_start", long), ("fl_end", long),
      ])
    let path = types.structure("path", [("mnt", pointer), ("dentry", pointer)])
    types.structure("file", [("f_inode", pointer), ("f_path", path), ("f_flags", u32), ("f_pos", long)])
    types.structure("files_struct", [("fdt", pointer)])
    types.structure("fdtable", [("max_fds", u32), ("fd", pointer)])
    let text = types.structure("qstr", [("len", wideCounts ? u64 : u32), ("name", pointer)])
    types.structure(
      "dentry",
      [
        ("d_parent", pointer), ("d_name", text), ("d_iname", chars(32)), ("d_inode", pointer), ("d_op", pointer),
        ("d_hash", hashNode), ("d_fsdata", pointer),
      ])
    let fileSystem = types.structure("vfsmount", [("mnt_root", pointer)])
    types.structure("mount", [("mnt_parent", pointer), ("mnt_mountpoint", pointer), ("mnt", fileSystem)])
    types.structure("dentry_operations", [("d_dname", pointer)])
    types.structure("proc_ns_operations", [("name", pointer)])

    // Control groups, with two controllers.
    let state = types.structure(
      "cgroup_subsys_state", [("children", list), ("sibling", list), ("flags", u32), ("parent", pointer)])
    let group = types.structure(
      "cgroup",
      [
        ("self", state), ("level", count), ("kn", pointer), ("subtree_control", u16), ("root", pointer),
        ("subsys", types.array(pointer, 2)),
      ])
    types.structure(
      "cgroup_root",
      [
        ("root_list", list), ("hierarchy_id", count), ("subsys_mask", u32), ("name", chars(64)), ("nr_cgrps", count),
        ("cgrp", group),
      ])
    types.structure("cgroup_subsys", [("name", pointer), ("legacy_name", pointer), ("root", pointer)])
    types.structure("css_set", [("cgrp_links", list)])
    types.structure("cgrp_cset_link", [("cgrp", pointer), ("cgrp_link", list)])
    types.structure("kernfs_node", [("parent", pointer), ("name", pointer), ("id", u64)])
    types.enumeration("cgroup_subsys_id", ["memory_cgrp_id", "pids_cgrp_id"])
    let counter = types.structure("page_counter", [("usage", u64), ("max", u64), ("high", u64)])
    types.structure("mem_cgroup", [("css", state), ("memory", counter)])
    types.structure("pids_cgroup", [("css", state), ("counter", u64), ("limit", u64)])
    return types.writer.bytes
  }

  /// Buckets of a timer wheel.
  package static let timerBuckets = 16
}
