import Binding
import CodeViews
import KernelInfo
public import LinuxKernel
import Memory
import NetworkViews
import Paging

/// Of a watched kernel's /sys what tools ask for: CPUs and nodes, network interfaces, disks, modules, and single numbers.
///
/// Where the kernel has links into its tree of devices there are directories. What is not here is missing, though the host may have
/// it: no tool takes the absence of one of these files for health.
public enum SystemTree {
  public static func directory(of kernel: Kernel) -> ShadowNode {
    let groups = ControlGroupTree(kernel)
    let network = Recent<NetworkConfiguration>()
    return .directory([
      "block": .listing { try disks(kernel) },
      "bus": .directory(PCIDevices.directory(kernel).map { [.init(name: "pci", node: $0)] } ?? []),
      "class": .directory([
        "net": .listing { try interfaces(kernel, network) }
      ]),
      "dev": .directory([
        "block": .listing { try numbers(ofDisks: kernel) }
      ]),
      "devices": .directory([
        "system": .directory(
          systemDevices(kernel))
      ]),
      "fs": .directory(
        list: { try groups.node().map { [.init(name: "cgroup", node: $0)] } ?? [] },
        find: { name in name == "cgroup" ? try groups.node() : nil }),
      "kernel": .listing { try numbers(kernel) },
      "module": .listing { try modules(kernel) },
    ])
  }

  private static func systemDevices(_ kernel: Kernel) -> [ShadowNode.Entry] {
    var entries: [ShadowNode.Entry] = [
      .init(
        name: "cpu",
        node: .listing { try processors(kernel) }),
      .init(
        name: "node",
        node: .listing { try nodes(kernel) }),
    ]
    if let memory = MemoryBlocks.directory(kernel) { entries.append(.init(name: "memory", node: memory)) }
    return entries
  }

  private static func line(_ text: String) -> [UInt8] { Array((text + "\n").utf8) }

  private static func file(_ name: String, _ make: @escaping @Sendable () throws -> String) -> ShadowNode.Entry {
    .init(name: name, node: .file { line(try make()) })
  }

  private static func node(_ name: String, _ entries: [ShadowNode.Entry]) -> ShadowNode.Entry {
    .init(name: name, node: .directory(entries))
  }

  // MARK: CPUs and nodes

  /// No kernel is built for more (NR_CPUS).
  private static let mostCPUs = 8192

  private static func cpuCount(_ kernel: Kernel) throws -> Int { min(mostCPUs, Int(try kernel.number("nr_cpu_ids"))) }

  private static func mask(_ name: String, _ kernel: Kernel) throws -> [UInt64] {
    let size = min(1024, max(8, try kernel.types.structure("cpumask").size))
    return try kernel.addressSpace.read(kernel.symbol(name, for: "the CPUs"), count: size).words
  }

  /// Source: drivers/base/cpu.c.
  private static func processors(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let kinds = [
      ("possible", "__cpu_possible_mask"), ("present", "__cpu_present_mask"), ("online", "__cpu_online_mask"),
    ]
    var entries = kinds.map { name, variable in
      file(name) { try ProcText.list(mask(variable, kernel), count: cpuCount(kernel)) }
    }
    entries.append(
      file("offline") {
        let (all, online) = (try mask("__cpu_possible_mask", kernel), try mask("__cpu_online_mask", kernel))
        return ProcText.list(zip(all, online).map { $0 & ~$1 }, count: try cpuCount(kernel))
      })
    entries.append(file("kernel_max") { "\(try kernel.types.structure("cpumask").size * 8 - 1)" })
    if let known = Vulnerabilities.directory(kernel) { entries.append(.init(name: "vulnerabilities", node: known)) }
    let present = try mask("__cpu_present_mask", kernel)
    for cpu in try kernel.cpus()
    where present[safe: cpu.number / 64].map({ $0 >> UInt64(cpu.number % 64) & 1 != 0 }) ?? false {
      // The first one cannot be switched off.
      var own = cpu.number == 0 ? [] : [file("online") { cpu.isOnline ? "1" : "0" }]
      if cpu.isOnline {
        own.append(node("topology", try topology(of: cpu, kernel)))
        let caches = try CacheFiles.entries(of: cpu, kernel)
        if !caches.isEmpty { own.append(node("cache", caches)) }
      }
      entries.append(node("cpu\(cpu.number)", own))
    }
    return entries
  }

  /// Source: drivers/base/topology.c.
  private static func topology(of cpu: PerCPU.CPU, _ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let info = try kernel.types.structure("cpuinfo_x86")
    let place = cpu.address(of: try kernel.symbol("cpu_info", for: "the CPUs"))
    // A struct of their own from 6.7 on.
    let names = [
      ("physical_package_id", "topo.pkg_id", "phys_proc_id"), ("die_id", "topo.die_id", "cpu_die_id"),
      ("core_id", "topo.core_id", "cpu_core_id"),
    ]
    var entries = try names.map { name, path, older in
      let field = try info.field(path, or: older)
      return file(name) {
        let bytes = try kernel.addressSpace.read(place, count: info.size)
        return "\(Int32(truncatingIfNeeded: try field.load(ByteReader(bytes.span.bytes))))"
      }
    }
    let masks = [
      ("thread_siblings", "cpu_sibling_map"), ("core_cpus", "cpu_sibling_map"), ("core_siblings", "cpu_core_map"),
      ("package_cpus", "cpu_core_map"), ("die_cpus", "cpu_die_map"),
    ]
    for (name, variable) in masks {
      guard let symbol = kernel.symbols.address(of: variable) else { continue }
      let size = min(1024, max(8, try kernel.types.structure("cpumask").size))
      @Sendable func words() throws -> [UInt64] {
        // Kernels for many CPUs keep pointers to masks.
        let own = cpu.address(of: symbol)
        return try kernel.addressSpace.read(size > 64 ? kernel.addressSpace.pointer(at: own) : own, count: size).words
      }
      entries.append(file(name) { ProcText.bitmap(try words(), count: try cpuCount(kernel)) })
      entries.append(file(name + "_list") { ProcText.list(try words(), count: try cpuCount(kernel)) })
    }
    return entries
  }

  /// Source: drivers/base/node.c.
  private static func nodes(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    guard let states = kernel.symbols.address(of: "node_states") else { return [] }
    let size = min(128, max(8, try kernel.types.structure("nodemask_t").size))
    @Sendable func words(_ state: String) throws -> [UInt64] {
      let index = Int(max(0, min(15, try kernel.constant(state))))
      return try kernel.addressSpace.read(states + index * size, count: size).words
    }
    let kinds = [
      ("possible", "N_POSSIBLE"), ("online", "N_ONLINE"), ("has_cpu", "N_CPU"), ("has_memory", "N_MEMORY"),
      ("has_normal_memory", "N_NORMAL_MEMORY"),
    ]
    var entries = kinds.filter { kernel.types.enumerator($0.1) != nil }.map { name, state in
      file(name) { ProcText.list(try words(state), count: size * 8) }
    }
    let online = try words("N_ONLINE")
    for number in 0..<size * 8 where (online[safe: number / 64] ?? 0) >> UInt64(number % 64) & 1 != 0 {
      @Sendable func cpus() throws -> [UInt64] {
        let table = try kernel.symbol("node_to_cpumask_map", for: "the nodes' CPUs")
        let count = min(1024, max(8, try kernel.types.structure("cpumask").size))
        let place = count > 64 ? try kernel.addressSpace.pointer(at: table + number * 8) : table + number * count
        return zip(try kernel.addressSpace.read(place, count: count).words, try mask("__cpu_online_mask", kernel)).map {
          $0 & $1
        }
      }
      entries.append(
        node(
          "node\(number)",
          [
            file("distance") { try NodeFiles.distances(from: number, online: online, kernel) },
            .init(name: "meminfo", node: .file { try NodeFiles.memory(number, kernel) }),
            .init(name: "numastat", node: .file { try NodeFiles.allocations(number, kernel) }),
            file("cpumap") { ProcText.bitmap(try cpus(), count: try cpuCount(kernel)) },
            file("cpulist") { ProcText.list(try cpus(), count: try cpuCount(kernel)) },
          ]))
    }
    return entries
  }

  // MARK: Network interfaces

  /// Of the first process's namespace.
  ///
  /// Source: net/core/net-sysfs.c.
  private static func interfaces(_ kernel: Kernel, _ network: Recent<NetworkConfiguration>) throws -> [ShadowNode.Entry]
  {
    let number = try kernel.struct("net", at: "init_net").unsigned("ns.inum")
    let found = try network.value { try ShadowHost.whole { try kernel.network() } }
    return try found.interfaces.filter { $0.namespace == number }.sorted { $0.index < $1.index }.map { interface in
      node(String(decoding: interface.name, as: UTF8.self), try files(of: interface, kernel))
    }
  }

  private static func files(of interface: NetworkInterface, _ kernel: Kernel) throws -> [ShadowNode.Entry] {
    @Sendable func field(_ name: String) throws -> UInt64 {
      try kernel.struct("net_device", at: interface.device).unsigned(name)
    }
    @Sendable func hardware(_ bytes: [UInt8]) -> String {
      bytes.map { ProcText.hex(UInt64($0), 2) }.joined(separator: ":")
    }
    // IF_OPER_*, from include/uapi/linux/if.h; what is down says so whatever it was.
    let states = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"]
    let isRunning = interface.flags & 1 != 0
    var entries = [
      file("address") { hardware(interface.hardwareAddress.bytes) },
      file("addr_len") { "\(interface.hardwareAddress.bytes.count)" },
      file("broadcast") {
        let place = interface.device + (try kernel.offset(of: "broadcast", in: "net_device"))
        return hardware(try kernel.addressSpace.read(place, count: min(32, interface.hardwareAddress.bytes.count)))
      },
      file("flags") { "0x" + String(try field("flags"), radix: 16) },
      file("ifindex") { "\(interface.index)" }, file("mtu") { "\(interface.mtu)" },
      file("type") { "\(interface.type)" },
      file("tx_queue_len") { "\(try field("tx_queue_len"))" },
      file("operstate") { isRunning ? states[safe: Int(interface.operationalState)] ?? "unknown" : "down" },
      file("carrier") {
        guard isRunning else { throw ShadowError.invalid }
        // __LINK_STATE_NOCARRIER.
        let bit = kernel.types.enumerator("__LINK_STATE_NOCARRIER") ?? 2
        return try field("state") >> UInt64(bit & 63) & 1 == 0 ? "1" : "0"
      },
      file("carrier_changes") { "\(try carriers(interface, ["carrier_up_count", "carrier_down_count"], kernel))" },
      file("carrier_up_count") { "\(try carriers(interface, ["carrier_up_count"], kernel))" },
      file("carrier_down_count") { "\(try carriers(interface, ["carrier_down_count"], kernel))" },
      file("dev_id") { "0x" + String(try field("dev_id"), radix: 16) }, file("dev_port") { "\(try field("dev_port"))" },
      file("link_mode") { "\(try field("link_mode"))" }, file("netdev_group") { "\(try field("group"))" },
      file("addr_assign_type") { "\(try field("addr_assign_type"))" },
      // A driver works these out when it is asked.
      file("speed") { throw ShadowError.invalid }, file("duplex") { throw ShadowError.invalid },
    ]
    let names = NetworkFiles.kinds + ["rx_nohandler"]
    entries.append(
      node(
        "statistics",
        names.sorted().map { name in
          file(name) { "\(try NetworkFiles.counters(of: [interface], kernel)[0][name] ?? 0)" }
        }))
    return entries
  }

  private static func carriers(_ interface: NetworkInterface, _ names: [String], _ kernel: Kernel) throws -> UInt64 {
    try names.reduce(0) { sum, name in
      let count: UInt32 = try kernel.addressSpace.load(interface.device + kernel.offset(of: name, in: "net_device"))
      return sum + UInt64(count)
    }
  }

  // MARK: Disks and modules

  private static func disks(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    try kernel.reader(DiskFiles.self).directories(kernel).map { node($0.name, $0.entries) }
  }

  /// Which disk has which numbers: links to the directories of disks.
  private static func numbers(ofDisks kernel: Kernel) throws -> [ShadowNode.Entry] {
    try kernel.reader(DiskFiles.self).directories(kernel).filter { ShadowTree.isName($0.name) }.map { disk in
      .init(
        name: "\(disk.number >> 20):\(disk.number & 0xfffff)",
        // It leads to a place of this tree.
        node: .link(isHere: true) { Array("../../block/\(disk.name)".utf8) })
    }
  }

  /// Source: kernel/module/sysfs.c; kernel/module/main.c.
  private static func modules(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    guard kernel.symbols.address(of: "modules") != nil else { return [] }
    return try ShadowHost.whole({ try kernel.modules() }).modules.filter { $0.state != .unformed }.map { module in
      let state = module.state
      return node(
        String(decoding: module.name, as: UTF8.self),
        [
          file("refcnt") { "\(module.references)" },
          file("initstate") { state == .coming ? "coming" : state == .going ? "going" : "live" },
          file("taint") { module.taints == 0 ? "" : module.taintLetters },
          file("coresize") { "\(module.size)" },
          node(
            "holders", module.usedBy.map { user in node(String(decoding: user, as: UTF8.self), []) }),
        ])
    }
  }

  // MARK: Numbers

  /// Source: kernel/ksysfs.c; mm/huge_memory.c.
  private static func numbers(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let symbols = kernel.symbols
    func ifPresent(_ name: String, _ variable: String, _ make: @escaping @Sendable () throws -> String) -> [ShadowNode
      .Entry]
    {
      symbols.address(of: variable) == nil ? [] : [file(name, make)]
    }
    @Sendable func isSet(_ variable: String) throws -> String {
      try kernel.words(variable, 1)[0] != 0 ? "1" : "0"
    }
    var entries = ifPresent("kexec_loaded", "kexec_image") { try isSet("kexec_image") }
    entries += ifPresent("kexec_crash_loaded", "kexec_crash_image") { try isSet("kexec_crash_image") }
    entries += ifPresent("uevent_seqnum", "uevent_seqnum") { "\(try kernel.words("uevent_seqnum", 1)[0])" }
    entries += ifPresent("fscaps", "file_caps_enabled") {
      "\(Int32(bitPattern: try kernel.number("file_caps_enabled")))"
    }
    entries += ifPresent("profiling", "prof_on") { "\(Int32(bitPattern: try kernel.number("prof_on")))" }
    entries += ifPresent("rcu_expedited", "rcu_expedited") { "\(try kernel.number("rcu_expedited"))" }
    entries += ifPresent("rcu_normal", "rcu_normal") { "\(try kernel.number("rcu_normal"))" }
    entries += ifPresent("oops_count", "oops_count") { "\(try kernel.number("oops_count"))" }
    entries += ifPresent("warn_count", "warn_count") { "\(try kernel.number("warn_count"))" }
    entries.append(file("address_bits") { "64" })
    entries.append(file("cpu_byteorder") { "little" })
    if symbols.address(of: "transparent_hugepage_flags") != nil {
      entries.append(
        node("mm", [node("transparent_hugepage", [file("enabled") { try hugePages(kernel) }])]))
    }
    return entries
  }

  private static func hugePages(_ kernel: Kernel) throws -> String {
    let flags = try kernel.words("transparent_hugepage_flags", 1)[0]
    func isSet(_ name: String) throws -> Bool { flags >> UInt64(try kernel.constant(name) & 63) & 1 != 0 }
    let names = ["always", "madvise", "never"]
    let chosen = try isSet("TRANSPARENT_HUGEPAGE_FLAG") ? 0 : isSet("TRANSPARENT_HUGEPAGE_REQ_MADV_FLAG") ? 1 : 2
    return names.enumerated().map { $0.offset == chosen ? "[\($0.element)]" : $0.element }.joined(separator: " ")
  }
}
