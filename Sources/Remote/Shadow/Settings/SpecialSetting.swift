import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Settings whose functions work out what they print.
struct SpecialSetting {
  let entry: SettingTables.Entry
  let kernel: Kernel

  private var space: AddressSpace { kernel.addressSpace }

  /// The file's bytes; nil where `function` is none of those here.
  func bytes(_ function: String) throws -> [UInt8]? {
    switch function {
    case "proc_do_uuid": return try universal()
    case "proc_taint": return try line([kernel.words("tainted_mask", 1)[0]])
    case "sysrq_sysctl_handler":
      let isAlways = try kernel.symbols.address(of: "sysrq_always_enabled").map { try space.read($0, count: 1)[0] != 0 }
      return try line([isAlways ?? false ? 1 : kernel.number("sysrq_enabled")])
    case "proc_do_cad_pid":
      let pid = try space.pointer(at: kernel.symbol("cad_pid", for: "who is told to restart"))
      let number: Int32 = try space.load(pid + kernel.offset(of: "numbers.nr", in: "pid"))
      return line([number])
    case "sysctl_max_threads": return try line([Int32(bitPattern: kernel.number("max_threads"))])
    case "pid_ns_ctl_handler":
      let cursor = try kernel.struct("pid_namespace", at: "init_pid_ns").signed("idr.idr_next")
      return line([cursor - 1])
    case "proc_cap_handler":
      // The data of older kernels is a number that stands for one of the two sets.
      let isInheritable =
        entry.data.rawValue == 2
        || entry.data.rawValue == kernel.symbols.address(of: "usermodehelper_inheritable")?.rawValue
      let sets = try kernel.words(isInheritable ? "usermodehelper_inheritable" : "usermodehelper_bset", 1)[0]
      return line([sets & 0xffff_ffff, sets >> 32])
    case "proc_watchdog", "proc_nmi_watchdog", "proc_soft_watchdog":
      // WATCHDOG_HARDLOCKUP_ENABLED is bit 0, WATCHDOG_SOFTOCKUP_ENABLED bit 1.
      let kinds: UInt32 = function == "proc_watchdog" ? 3 : function == "proc_nmi_watchdog" ? 1 : 2
      return try line([kernel.number("watchdog_enabled") & kinds == 0 ? 0 : 1])
    case "proc_kprobes_optimization_handler":
      return try line([space.read(kernel.symbol("kprobes_allow_optimization", for: "probes"), count: 1)[0]])
    case "sysctl_schedstats": return try line([isOn("sched_schedstats")])
    case "sysctl_numa_balancing": return try numaBalancing()
    case "sysctl_delayacct": return try line([isOn("delayacct_key")])
    case "proc_nr_files": return try openFiles()
    case "proc_nr_inodes", "proc_nr_dentry": return try counted(function)
    case "do_proc_dqstats":
      let counter = try kernel.perCPUCounter(at: quotaCounter())
      return line([counter])
    case "vmstat_refresh": return []
    case "hugetlb_sysctl_handler", "hugetlb_mempolicy_sysctl_handler":
      return try line([hugePages("max_huge_pages")])
    case "hugetlb_overcommit_handler": return try line([hugePages("nr_overcommit_huge_pages")])
    case "proc_ipc_auto_msgmni": return line([0])
    case "bpf_stats_handler": return try line([kernel.isSwitchedOn(entry.data) ? 1 : 0])
    case "sched_energy_aware_handler": return try energyAware()
    case "seccomp_actions_logged_handler": return try loggedActions()
    case "kexec_limit_handler":
      let limit: Int32 = try space.load(entry.data + kernel.offset(of: "limit", in: "kexec_load_limit"))
      return line([limit])
    default: return try networkBytes(function)
    }
  }

  private func networkBytes(_ function: String) throws -> [UInt8]? {
    switch function {
    case "rps_sock_flow_sysctl":
      let variable = try place("rps_sock_flow_table", or: "net_hotdata", "rps_sock_flow_table", in: "net_hotdata")
      let table = try space.pointer(at: variable)
      guard table.rawValue != 0 else { return line([0]) }
      let mask: UInt32 = try space.load(table + kernel.offset(of: "mask", in: "rps_sock_flow_table"))
      return line([UInt64(mask) + 1])
    case "set_default_qdisc":
      let operations = try space.pointer(at: kernel.symbol("default_qdisc_ops", for: "the default queue"))
      return try text(at: operations + kernel.offset(of: "id", in: "Qdisc_ops"))
    case "proc_do_rss_key":
      // NETDEV_RSS_KEY_LEN is 52, and 256 of newer kernels.
      let bytes = try space.read(
        kernel.symbol("netdev_rss_key", for: "the key of hashes"),
        count: kernel.size(of: "netdev_rss_key") >= 256 ? 256 : 52)
      return Array((bytes.map { ProcText.hex(UInt64($0), 2) }.joined(separator: ":") + "\n").utf8)
    case "flow_limit_cpu_sysctl": return try flowLimits()
    case "rps_default_mask_sysctl": return try steeringMask()
    case "ipv4_local_port_range":
      let ports = try localPorts()
      return line([ports & 0xffff, ports >> 16])
    case "ipv4_ping_group_range":
      let range = try kernel.offset(of: "ipv4.ping_group_range.range", in: "net")
      let bytes = try space.read(kernel.symbol("init_net", for: "who may ping") + range, count: 8)
      return line([
        Int32(bitPattern: try ByteReader(bytes.span.bytes).u32(0)),
        Int32(bitPattern: try ByteReader(bytes.span.bytes).u32(4)),
      ])
    case "ipv4_privileged_ports": return try line([net("ipv4.sysctl_ip_prot_sock")])
    case "proc_tcp_congestion_control":
      let control = try kernel.struct("net", at: "init_net").pointer("ipv4.tcp_congestion_control")
      return try text(at: control + kernel.offset(of: "name", in: "tcp_congestion_ops"))
    case "proc_tcp_available_congestion_control", "proc_allowed_congestion_control":
      return try controls(onlyAllowed: function == "proc_allowed_congestion_control")
    case "proc_tcp_available_ulp":
      let names = try list("tcp_ulp_list", "tcp_ulp_ops", "list").map {
        try text(at: $0 + kernel.offset(of: "name", in: "tcp_ulp_ops"))
      }
      return names.map { $0.dropLast() }.joined(separator: [32]) + [10]
    case "proc_tcp_fastopen_key": return try fastOpenKey()
    case "proc_tcp_ehash_entries":
      let tables = try net("ipv4.tcp_death_row.hashinfo")
      let mask: UInt32 = try space.load(VirtualAddress(tables) + kernel.offset(of: "ehash_mask", in: "inet_hashinfo"))
      return line([Int64(mask) + 1])
    case "proc_udp_hash_entries":
      let mask: UInt32 = try space.load(
        VirtualAddress(net("ipv4.udp_table")) + kernel.offset(of: "mask", in: "udp_table"))
      return line([Int64(mask) + 1])
    case "neigh_proc_dointvec_unres_qlen":
      let bytes: Int32 = try space.load(entry.data)
      return try line([Int64(bytes) / packetSize()])
    case "neigh_proc_base_reachable_time", "ndisc_ifinfo_sysctl_change":
      let name = String(decoding: entry.name, as: UTF8.self)
      let form: SettingValue.Form =
        name.hasSuffix("_ms") ? .milliseconds : name.hasPrefix("base_") ? .seconds : .numbers
      return try SettingValue(entry: entry, kernel: kernel).print(form)
    case "addrconf_sysctl_stable_secret": return try stableSecret()
    case "nf_log_proc_dostring": return try logger()
    case "nf_hooks_lwtunnel_sysctl_handler": return try line([isOn("nf_hooks_lwtunnel_enabled")])
    case "proc_fib_multipath_hash_seed": return try line([net("ipv4.sysctl_fib_multipath_hash_seed.user_seed")])
    case "proc_available_schedulers":
      let name = try kernel.offset(of: "name", in: "mptcp_sched_ops")
      return try list("mptcp_sched_list", "mptcp_sched_ops", "list").map { try text(at: $0 + name).dropLast() }
        .joined(separator: [32]) + [10]
    case "nf_conntrack_hash_sysctl": return try line([kernel.number("nf_conntrack_htable_size")])
    default: return nil
    }
  }

  private func line(_ values: [some BinaryInteger]) -> [UInt8] { SettingValue.line(values.map { "\($0)" }) }

  private func text(at address: VirtualAddress) throws -> [UInt8] {
    try space.strings(at: [address], limit: 256)[0].get() + [10]
  }

  private func isOn(_ key: String) throws -> Int {
    try kernel.isSwitchedOn(kernel.symbol(key, for: "what is switched on")) ? 1 : 0
  }

  private func net(_ path: String) throws -> UInt64 { try kernel.struct("net", at: "init_net").unsigned(path) }

  /// Where a variable is: by itself, or a field of a struct of many since some release.
  private func place(_ name: String, or whole: String, _ field: String, in type: String) throws -> VirtualAddress {
    if let address = kernel.symbols.address(of: name) { return address }
    return try kernel.symbol(whole, for: "'\(name)'") + kernel.offset(of: field, in: type)
  }

  private func list(_ head: String, _ type: String, _ link: String) throws -> [VirtualAddress] {
    let members = ListWalker(space: space, form: .circular, limit: 1 << 12)
      .members(ofHeads: [try kernel.symbol(head, for: "'\(head)'")])
    if let fault = members.faults.first { throw fault }
    let offset = try kernel.offset(of: link, in: type)
    return members.lists[0].map { $0 - offset }
  }

  // MARK: Memory, files

  private func universal() throws -> [UInt8] {
    // One that is made anew by each reading is nothing that the kernel knows.
    guard entry.data.rawValue != 0 else { throw ShadowError.unreadable("each reading makes another") }
    return try KernelSettings.bootID(kernel)
  }

  /// Source: kernel/sched/topology.c: from 6.7 on there is nothing to print where all CPUs are alike.
  private func energyAware() throws -> [UInt8] {
    let plain = try SettingValue(entry: entry, kernel: kernel).print(.numbers)
    guard kernel.symbols.address(of: "sched_is_eas_possible") != nil || kernel.types.enumerator("__CPU_NOT_IDLE") != nil
    else { return plain }
    guard try isOn("sched_asym_cpucapacity") == 0 else {
      throw ShadowError.unreadable("the host's CPUs are not alike: whether energy counts is worked out when it is read")
    }
    return []
  }

  /// Source: kernel/seccomp.c, `seccomp_names_from_actions_logged`.
  private func loggedActions() throws -> [UInt8] {
    let logged = try kernel.number("seccomp_actions_logged")
    // Pairs of a bit and a name; sixteen are more than there are kinds.
    let table = try space.read(kernel.symbol("seccomp_log_names", for: "what filters log"), count: 16 * 16).words
    let pairs = stride(from: 0, to: table.count, by: 2).map { (UInt32(truncatingIfNeeded: table[$0]), table[$0 + 1]) }
      .prefix { $0.1 != 0 }
    let shown = pairs.filter { $0.0 & logged != 0 }.map { VirtualAddress($0.1) }
    return try space.strings(at: shown).map { try $0.get() }.joined(separator: [32]) + [10]
  }

  private func numaBalancing() throws -> [UInt8] {
    if kernel.symbols.address(of: "sysctl_numa_balancing_mode") != nil {
      return try line([Int32(bitPattern: kernel.number("sysctl_numa_balancing_mode"))])
    }
    return try line([isOn("sched_numa_balancing")])
  }

  /// Source: fs/file_table.c, `proc_nr_files`.
  private func openFiles() throws -> [UInt8] {
    let counts = try kernel.words("files_stat", 3)
    let open = try kernel.perCPUCounter(at: kernel.symbol("nr_files", for: "how many files are open"), isSummed: false)
    return line([max(0, open), Int64(bitPattern: counts[1]), Int64(bitPattern: counts[2])])
  }

  /// Source: fs/inode.c, `proc_nr_inodes`; fs/dcache.c, `proc_nr_dentry`.
  private func counted(_ function: String) throws -> [UInt8] {
    func sum(_ name: String) throws -> UInt64 {
      let variable = try kernel.symbol(name, for: "'\(name)' of the CPUs")
      let total = try kernel.cpus().reduce(0 as Int64) { sum, cpu in
        sum &+ (try space.load(cpu.address(of: variable), as: Int64.self))
      }
      return UInt64(max(0, total))
    }
    // Two numbers or seven.
    guard (16...128).contains(entry.length) else {
      throw ShadowError.unreadable("a setting of \(entry.length) bytes")
    }
    var words = try kernel.words(function == "proc_nr_inodes" ? "inodes_stat" : "dentry_stat", entry.length / 8)
    let (all, unused) = function == "proc_nr_inodes" ? ("nr_inodes", "nr_unused") : ("nr_dentry", "nr_dentry_unused")
    (words[0], words[1]) = (try sum(all), try sum(unused))
    if function == "proc_nr_dentry", words.count > 4 { words[4] = try sum("nr_dentry_negative") }
    return line(words)
  }

  private func quotaCounter() throws -> VirtualAddress {
    // The data is a place in an array of words that stands for one of the array of counters.
    let statistics = try kernel.symbol("dqstats", for: "the quotas' counters")
    let start = try statistics + kernel.offset(of: "stat", in: "dqstats")
    let index = (entry.data.rawValue &- start.rawValue) / 8
    guard index < 64 else { throw ShadowError.unreadable("a counter of quotas that is none") }
    let size = try kernel.types.structure("percpu_counter").size
    return try statistics + kernel.offset(of: "counter", in: "dqstats") + Int(index) * size
  }

  private func hugePages(_ field: String) throws -> UInt64 {
    let index = try kernel.number("default_hstate_idx")
    // HUGE_MAX_HSTATE is two or three on x86-64.
    guard index < 8 else { throw ShadowError.unreadable("huge pages of kind \(index)") }
    let size = try kernel.types.structure("hstate").size
    let state = try kernel.symbol("hstates", for: "the huge pages") + Int(index) * size
    return try space.load(state + kernel.offset(of: field, in: "hstate"))
  }

  // MARK: Network

  private func localPorts() throws -> UInt32 {
    let net = try kernel.types.structure("net")
    // A pair of ints until 6.8, then one word.
    let base = try kernel.symbol("init_net", for: "the local ports")
    if net.hasField("ipv4.ip_local_ports.range") {
      let field = try net.field("ipv4.ip_local_ports.range")
      let bytes = try space.read(base + field.offset, count: min(8, field.size))
      let reader = ByteReader(bytes.span.bytes)
      return field.size == 4 ? try reader.u32(0) : (try reader.u32(0)) & 0xffff | (try reader.u32(4)) << 16
    }
    return try space.load(base + net.field("ipv4.ip_local_ports").offset)
  }

  private func flowLimits() throws -> [UInt8] {
    let cpus = try kernel.cpus().filter(\.isOnline)
    let data = try kernel.symbol("softnet_data", for: "the CPUs' queues of packets")
    let offset = try kernel.offset(of: "flow_limit", in: "softnet_data")
    let limits = space.pointers(at: cpus.map { $0.address(of: data) + offset })
    var words = [UInt64](repeating: 0, count: 128)
    for (cpu, limit) in zip(cpus, limits) where limit.rawValue != 0 && cpu.number < 8192 {
      words[cpu.number / 64] |= 1 << UInt64(cpu.number % 64)
    }
    return Array((ProcText.bitmap(words, count: try cpuCount()) + "\n").utf8)
  }

  private func steeringMask() throws -> [UInt8] {
    let net = try kernel.struct("net", at: "init_net")
    let mask = try net.pointer("core.rps_default_mask")
    let words = mask.rawValue == 0 ? [] : try space.read(mask, count: 1024).words
    return Array((ProcText.bitmap(words, count: try cpuCount()) + "\n").utf8)
  }

  /// How many CPUs sets of them have room for (`nr_cpu_ids`).
  private func cpuCount() throws -> Int { min(8192, Int(try kernel.number("nr_cpu_ids"))) }

  /// Source: net/ipv4/tcp_cong.c, `tcp_get_available_congestion_control`.
  private func controls(onlyAllowed: Bool) throws -> [UInt8] {
    let controls = try list("tcp_cong_list", "tcp_congestion_ops", "list")
    let (flags, name) = (
      try kernel.offset(of: "flags", in: "tcp_congestion_ops"), try kernel.offset(of: "name", in: "tcp_congestion_ops")
    )
    let shown = try controls.filter { control in
      // TCP_CONG_NON_RESTRICTED.
      let bits: UInt32 = try space.load(control + flags)
      return !onlyAllowed || bits & 1 != 0
    }
    return try shown.map { try text(at: $0 + name).dropLast() }.joined(separator: [32]) + [10]
  }

  /// Source: net/ipv4/sysctl_net_ipv4.c, `proc_tcp_fastopen_key`.
  private func fastOpenKey() throws -> [UInt8] {
    let context = VirtualAddress(try net("ipv4.tcp_fastopen_ctx"))
    var keys: [[UInt32]] = []
    if context.rawValue != 0 {
      let layout = try kernel.types.structure("tcp_fastopen_context")
      let count: Int32 = try space.load(context + layout.field("num").offset)
      let bytes = try space.read(context + layout.field("key").offset, count: 32)
      let reader = ByteReader(bytes.span.bytes)
      for key in 0..<min(2, max(0, Int(count))) { keys.append(try (0..<4).map { try reader.u32(key * 16 + $0 * 4) }) }
    }
    if keys.isEmpty { keys = [[0, 0, 0, 0]] }
    let texts = keys.map { $0.map { ProcText.hex(UInt64($0), 8) }.joined(separator: "-") }
    return Array((texts.joined(separator: ",") + "\n").utf8)
  }

  /// SKB_TRUESIZE(ETH_FRAME_LEN): what a packet takes that has as many bytes as Ethernet's longest.
  private func packetSize() throws -> Int64 {
    func aligned(_ size: Int) -> Int64 { Int64((size + 63) & ~63) }
    let (packet, shared) = (
      try kernel.types.structure("sk_buff").size, try kernel.types.structure("skb_shared_info").size
    )
    return max(1, 1514 + aligned(packet) + aligned(shared))
  }

  /// Source: net/ipv6/addrconf.c, `addrconf_sysctl_stable_secret`: an error until one was set.
  private func stableSecret() throws -> [UInt8] {
    let secret = try kernel.types.structure("ipv6_stable_secret")
    let isSet = try space.read(entry.data + secret.field("initialized").offset, count: 1)[0] != 0
    guard isSet else { throw ShadowError.unreadable("no secret is set, which is an error of the host's, too") }
    let bytes = try space.read(entry.data + secret.field("secret").offset, count: 16)
    let groups = (0..<8).map { ProcText.hex(UInt64(bytes[$0 * 2]) << 8 | UInt64(bytes[$0 * 2 + 1]), 4) }
    return Array((groups.joined(separator: ":") + "\n").utf8)
  }

  /// Source: net/netfilter/nf_log.c, `nf_log_proc_dostring`.
  private func logger() throws -> [UInt8] {
    let index = entry.extra[0].rawValue
    guard index < 64 else { throw ShadowError.unreadable("a family of protocols that is none") }
    let loggers = try kernel.offset(of: "nf.nf_loggers", in: "net")
    let base = try kernel.symbol("init_net", for: "who logs packets")
    let logger = try space.pointer(at: base + loggers + Int(index) * 8)
    guard logger.rawValue != 0 else { return Array("NONE\n".utf8) }
    return try text(at: space.pointer(at: logger + kernel.offset(of: "name", in: "nf_logger")))
  }
}

extension Kernel {
  /// The value of a `percpu_counter`: what is counted together, and with `isSummed` what each CPU has not added yet.
  func perCPUCounter(at address: VirtualAddress, isSummed: Bool = true) throws -> Int64 {
    let counter = try self.struct("percpu_counter", at: address)
    var sum = try counter.signed("count")
    guard isSummed else { return sum }
    let variable = try counter.pointer("counters")
    for cpu in try cpus() where cpu.isOnline {
      sum &+= Int64(try addressSpace.load(cpu.address(of: variable), as: Int32.self))
    }
    return max(0, sum)
  }
}
