import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// What a file below /proc/sys shows: the data of its entry, in the form in which the entry's function prints them.
///
/// The function is known by its name. One that prints data in a way that no other does has a case in ``SpecialSetting``; of one that is
/// not known the file cannot be read.
/// Source: kernel/sysctl.c, and where each function is.
struct SettingValue {
  let entry: SettingTables.Entry
  let kernel: Kernel

  /// How data are printed.
  enum Form {
    case text
    case numbers, unsigned, bytes, words, flag
    /// Ticks of the kernel's clock, in seconds, in thousandths, in hundredths of a second.
    case seconds, milliseconds, hundredths
    /// Words of ticks, in thousandths of a second.
    case millisecondWords
    /// Numbers of bits, as ranges.
    case bits
    /// Whether a branch of the code is switched on.
    case branch
  }

  /// No setting has as many bytes.
  private static let mostBytes = 1 << 16

  func bytes() throws -> [UInt8] {
    // Nobody may read it, root neither (`proc_sys_permission`).
    guard entry.mode & 0o400 != 0 else { throw ShadowError.denied }
    guard let function = try kernel.functionName(entry.handler) else {
      throw ShadowError.unreadable("its function, at \(entry.handler), is none that has a name")
    }
    if let form = Self.forms[function] { return try print(form) }
    let name = String(decoding: entry.name, as: UTF8.self)
    if let bytes = try SpecialSetting(entry: entry, kernel: kernel).bytes(function) { return bytes }
    throw ShadowError.unreadable("how \(function) prints '\(name)' is not known")
  }

  func print(_ form: Form) throws -> [UInt8] {
    // A branch has no length.
    if case .branch = form { return Self.line([try kernel.isSwitchedOn(entry.data) ? "1" : "0"]) }
    // Without data it is empty.
    guard entry.data.rawValue != 0, entry.length > 0 else { return [] }
    guard entry.length <= Self.mostBytes else { throw ShadowError.unreadable("a setting of \(entry.length) bytes") }
    switch form {
    case .text:
      let text = try kernel.addressSpace.read(entry.data, count: entry.length)
      return text.prefix { $0 != 0 } + [10]
    case .numbers: return Self.line(try ints().map { "\(Int32(bitPattern: $0))" })
    case .unsigned: return Self.line([try ints().first ?? 0].map { "\($0)" })
    case .bytes: return Self.line([try kernel.addressSpace.read(entry.data, count: 1)[0]].map { "\($0)" })
    case .flag: return Self.line([try kernel.addressSpace.read(entry.data, count: 1)[0]].map { $0 == 0 ? "0" : "1" })
    case .words: return Self.line(try words().map { "\($0)" })
    case .seconds:
      let ticks = Int64(try kernel.ticksPerSecond())
      return Self.line(try ints().map { "\(Int64(Int32(bitPattern: $0)) / ticks)" })
    case .milliseconds, .hundredths:
      let (ticks, unit) = (try kernel.ticksPerSecond(), form == .milliseconds ? 1000 : 100 as Int64)
      return Self.line(
        try ints().map { value in
          let value = Int64(Int32(bitPattern: value))
          let size = value.magnitude &* UInt64(unit) / ticks
          return value < 0 ? "-\(size)" : "\(size)"
        })
    case .millisecondWords:
      let ticks = try kernel.ticksPerSecond()
      return Self.line(try words().map { "\($0 &* 1000 / ticks)" })
    case .bits:
      // The data is a pointer to the bits, and the length says how many they are.
      let place = try kernel.addressSpace.pointer(at: entry.data)
      guard place.rawValue != 0 else { return [] }
      let bytes = try kernel.addressSpace.read(place, count: (entry.length + 63) / 64 * 8)
      return Array(ProcText.list(bytes.words, count: entry.length).utf8) + [10]
    case .branch: return []
    }
  }

  static func line(_ values: [String]) -> [UInt8] { Array((values.joined(separator: "\t") + "\n").utf8) }

  private func ints() throws -> [UInt32] {
    let bytes = try kernel.addressSpace.read(entry.data, count: entry.length / 4 * 4)
    let reader = ByteReader(bytes.span.bytes)
    return try (0..<entry.length / 4).map { try reader.u32($0 * 4) }
  }

  private func words() throws -> [UInt64] {
    try kernel.addressSpace.read(entry.data, count: entry.length / 8 * 8).words
  }

  /// The functions that print their data and no more, by how.
  ///
  /// Most check what is written, or act on it, and print as the plain ones do.
  private static let forms: [String: Form] = {
    let names: KeyValuePairs<Form, String> = [
      .text: """
      proc_dostring proc_scheduler proc_do_uts_string proc_dostring_coredump devkmsg_sysctl_set_loglvl numa_zonelist_order_handler
      """,
      .numbers: """
      proc_dointvec proc_dointvec_minmax proc_dointvec_minmax_coredump proc_dointvec_minmax_sysadmin
      proc_dointvec_minmax_warn_RT_change proc_dointvec_minmax_bpf_enable proc_dointvec_minmax_bpf_restricted
      proc_do_dev_weight yama_dointvec_minmax apparmor_dointvec sched_rr_handler sched_rt_handler
      sysctl_sched_uclamp_handler sched_proc_update_handler
      perf_event_max_stack_handler perf_cpu_time_max_percent_handler perf_proc_update_handler perf_event_max_sample_rate_handler
       bpf_unpriv_handler overcommit_ratio_handler overcommit_policy_handler
      dirty_ratio_handler dirty_background_ratio_handler dirty_writeback_centisecs_handler dirtytime_interval_handler
      min_free_kbytes_sysctl_handler watermark_scale_factor_sysctl_handler lowmem_reserve_ratio_sysctl_handler
      percpu_pagelist_high_fraction_sysctl_handler percpu_pagelist_fraction_sysctl_handler sysctl_min_unmapped_ratio_sysctl_handler
      sysctl_min_slab_ratio_sysctl_handler compaction_proactiveness_sysctl_handler sysctl_vm_numa_stat_handler
      ftrace_enable_sysctl stack_trace_sysctl tracepoint_printk_sysctl timer_migration_handler
       sched_itmt_update_handler proc_watchdog_thresh
      proc_ipc_dointvec proc_ipc_dointvec_minmax proc_ipc_dointvec_minmax_orphans proc_ipc_sem_dointvec
      proc_mq_dointvec proc_mq_dointvec_minmax proc_tfo_blackhole_detect_timeout devinet_sysctl_forward
      devinet_conf_proc ipv4_doint_and_flush neigh_proc_dointvec neigh_proc_dointvec_zero_intmax
      addrconf_sysctl_forward addrconf_sysctl_proxy_ndp addrconf_sysctl_disable addrconf_sysctl_addr_gen_mode
      addrconf_sysctl_mtu addrconf_sysctl_ignore_routes_with_linkdown addrconf_sysctl_disable_policy
      addrconf_sysctl_force_forwarding brnf_sysctl_call_tables mac_hid_toggle_emumouse flow_limit_table_len_sysctl
      proc_blackhole_detect_timeout
      proc_do_rointvec sysctl_compaction_handler  pid_mfd_noexec_dointvec_minmax
       xfs_stats_clear_proc_handler

      """,
      .unsigned: """
      proc_douintvec proc_douintvec_minmax proc_dopipe_max_size proc_rt6_multipath_hash_fields
      proc_fib_multipath_hash_fields
      """,
      .bytes: """
      proc_dou8vec_minmax ipv4_fwd_update_priority proc_fib_multipath_hash_policy proc_rt6_multipath_hash_policy
      proc_tcp_early_demux proc_udp_early_demux
      """,
      .words: """
      proc_doulongvec_minmax proc_dolongvec_minmax_bpf_restricted overcommit_kbytes_handler dirty_bytes_handler
      dirty_background_bytes_handler mmap_min_addr_handler proc_ipc_doulongvec_minmax
      proc_dohung_task_timeout_secs proc_dohung_task_detect_count
        sysctl_panic_print_handler
      """,
      .flag: "proc_dobool",
      .seconds: "proc_dointvec_jiffies neigh_proc_dointvec_jiffies laptop_mode_handler",
      .milliseconds: """
      proc_dointvec_ms_jiffies proc_dointvec_ms_jiffies_minmax neigh_proc_dointvec_ms_jiffies
      neigh_proc_dointvec_ms_jiffies_positive
      """,
      .hundredths: "proc_dointvec_userhz_jiffies neigh_proc_dointvec_userhz_jiffies",
      .millisecondWords: "proc_doulongvec_ms_jiffies_minmax",
      .bits: "proc_do_large_bitmap proc_watchdog_cpumask",
      .branch: "proc_do_static_key",
    ]
    var forms: [String: Form] = [:]
    for (form, list) in names {
      for name in list.split(whereSeparator: \.isWhitespace) { forms[String(name)] = form }
    }
    return forms
  }()
}

extension Kernel {
  /// The name of the function at `address`, of the kernel or of a module.
  func functionName(_ address: VirtualAddress) throws -> String? {
    if let symbol = symbols.symbol(containing: address), symbol.address == address { return symbol.name }
    let place = try symbolMap().place(of: address)
    return place?.offset == 0 ? place?.name : nil
  }

  /// Whether the branch of the code that the `static_key` at `address` is for is switched on.
  ///
  /// Source: include/linux/jump_label.h, `static_key_count`: below zero while it is being switched.
  func isSwitchedOn(_ address: VirtualAddress) throws -> Bool {
    let count: Int32 = try addressSpace.load(address + offset(of: "enabled", in: "static_key"))
    return count != 0
  }
}
