import CodeViews
import KernelInfo
public import LinuxKernel
import MachineViews
public import Memory

/// The tree of a watched kernel's /proc.
public enum ProcTree {
  /// The directory `proc`.
  ///
  /// `hiddenModules` finds the structs of modules that the kernel's list has no longer, which are shown, too. Who reads finds itself as
  /// `self`, a process by its own number.
  ///
  /// - Throws: ``KernelError`` where not even the host's CPUs and clock can be read.
  public static func directory(
    of kernel: Kernel, hiddenModules: @escaping @Sendable () -> [VirtualAddress] = { [] }
  ) throws(KernelError) -> ShadowNode {
    directory(try ShadowHost(kernel), hiddenModules, visitors: nil)
  }

  /// The directory `proc` for `visitors`, who take it for their own and find themselves there; it shows the same moment as the answers to
  /// their calls.
  public static func directory(
    besides answers: HostAnswers, hiddenModules: @escaping @Sendable () -> [VirtualAddress],
    visitors: any OwnProcesses
  ) -> ShadowNode {
    directory(answers.host, hiddenModules, visitors: visitors)
  }

  private static func directory(
    _ host: ShadowHost, _ hiddenModules: @escaping @Sendable () -> [VirtualAddress], visitors: (any OwnProcesses)?
  ) -> ShadowNode {
    let files = files(host, hiddenModules)
    let own = ["self", "thread-self"].map { name in
      let node = visitors.map { OwnDirectory.link($0, isThread: name == "thread-self") }
      return ShadowNode.Entry(name: name, node: node ?? SelfDirectory(host: host, pid: 0).node())
    }
    let byName = Dictionary(files.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    var node = ShadowNode.directory(
      list: {
        let table = try host.processes()
        let processes = table.processes.compactMap { pid in
          table[pid].map { record in
            ShadowNode.Entry(
              name: "\(pid)", node: ProcessDirectory(host: host, tid: pid, isWhole: true).node(of: record))
          }
        }
        // Who looks is among those that are looked at, as on any host: a number that calls and files answer for is in the list, too.
        let visiting = (visitors?.processes() ?? []).filter { table[$0] == nil }.compactMap { pid in
          visitors.flatMap { OwnDirectory(host: host, own: $0, pid: pid).node() }.map {
            ShadowNode.Entry(name: "\(pid)", node: $0)
          }
        }
        return files + own + (try optional(host)) + processes + visiting
      },
      find: { name in
        let isNumber = name.utf8.first.map { (48...57).contains($0) } ?? false
        if !isNumber, let node = byName[name] { return node }
        if !isNumber, Self.optionalNames.contains(name) { return try optional(host).first { $0.name == name }?.node }
        let caller = ShadowTree.caller
        if !isNumber, let entry = own.first(where: { $0.name == name }) {
          return visitors == nil ? SelfDirectory(host: host, pid: caller).node() : entry.node
        }
        // As the kernel takes it: digits, and no zero before them. Threads that lead nobody are found, too, and not listed.
        guard let tid = Int32(name), "\(tid)" == name, tid > 0 else { return nil }
        guard let record = try host.processes()[tid] else {
          if let visitors { return OwnDirectory(host: host, own: visitors, pid: tid).node() }
          return tid == caller ? SelfDirectory(host: host, pid: tid).node() : nil
        }
        return ProcessDirectory(host: host, tid: tid, isWhole: true).node(of: record)
      })
    node.listsWhole = true
    // Who has no /proc of its own finds itself by its number, and no one else does.
    node.isPersonal = visitors == nil
    return node
  }

  private static let optionalNames: Set<String> = ["pressure", "mdstat"]

  /// Files that not every kernel has, of those that this one has now.
  private static func optional(_ host: ShadowHost) throws -> [ShadowNode.Entry] {
    let kernel = host.kernel
    var entries: [ShadowNode.Entry] = []
    if let pressure = try StateFiles.pressure(kernel) { entries.append(.init(name: "pressure", node: pressure)) }
    if try kernel.symbols.address(of: "md_seq_ops") != nil || host.hasModule("md_mod") {
      entries.append(
        .init(
          name: "mdstat",
          node: .file { throw ShadowError.unreadable("what the host's RAID devices say of themselves is not known") }))
    }
    return entries.map { .init(name: $0.name, node: $0.node.owned { $0.time = host.constants.bootTime }) }
  }

  private static func files(
    _ host: ShadowHost, _ hiddenModules: @escaping @Sendable () -> [VirtualAddress]
  ) -> [ShadowNode.Entry] {
    let kernel = host.kernel
    @Sendable func times() throws -> ProcessorTimes { try kernel.reader(ProcessorTimesReader.self).read(kernel) }
    let files: KeyValuePairs<String, ShadowNode> = [
      "bus": .directory(buses(host)),
      "buddyinfo": .file { try kernel.reader(ZoneFiles.self).buddies(kernel) },
      "cgroups": .file { try StateFiles.controlGroups(kernel) },
      "cmdline": .file { try kernel.host().commandLine + [10] },
      "consoles": .file { try StateFiles.consoles(kernel) },
      "cpuinfo": .file { try CPUInfoFile.bytes(kernel) },
      "devices": .file { try DeviceFiles.numbers(kernel) },
      "diskstats": .file { try kernel.reader(DiskFiles.self).statistics(kernel) },
      // There is no other kind of programs any more.
      "execdomains": .file { Array("0-0\tLinux           \t[kernel]\n".utf8) },
      "filesystems": .file { try ListFiles.fileSystems(kernel) },
      "interrupts": .file { try InterruptFile.interrupts(kernel) },
      "iomem": .file { try ResourceFile.memory(kernel) },
      "ioports": .file { try ResourceFile.ports(kernel) },
      "kallsyms": .file { try SymbolFile.bytes(kernel) },
      "loadavg": .file { Array(try times().loadLine.utf8) },
      "locks": .file { try kernel.reader(LockFile.self).bytes(kernel) },
      "meminfo": .file { try kernel.reader(MemoryFile.self).bytes(kernel) },
      "misc": .file { try DeviceFiles.miscellaneous(kernel) },
      "modules": .file { try ModuleFile.bytes(kernel, hidden: hiddenModules()) },
      "mounts": .file { try MountFile.mounts(host.thread(1).task, host) },
      "net": NetworkFiles.directory(host) { try host.thread(1).task },
      "partitions": .file { try kernel.reader(DiskFiles.self).partitions(kernel) },
      "schedstat": .file { try SchedulerFile.bytes(host) },
      "slabinfo": .file(0o400) { try ListFiles.slabs(kernel) },
      "softirqs": .file { try InterruptFile.softInterrupts(kernel) },
      "stat": .file {
        Array(try times().statistics(bootTime: host.constants.bootTime, interrupts: InterruptCounts.read(kernel)).utf8)
      },
      "swaps": .file { try ListFiles.swaps(kernel) },
      "sysvipc": .directory([
        "msg": .file { try kernel.reader(SystemVFiles.self).queues(host.thread(1).task, kernel) },
        "sem": .file { try kernel.reader(SystemVFiles.self).semaphores(host.thread(1).task, kernel) },
        "shm": .file { try kernel.reader(SystemVFiles.self).segments(host.thread(1).task, kernel) },
      ]),
      "sys": SettingsDirectory.node(host),
      "tty": .directory(["drivers": .file { try DeviceFiles.terminals(kernel) }]),
      "uptime": .file { Array(try times().uptimeLine.utf8) },
      "version": .file { try KernelSettings.banner(kernel) },
      "vmstat": .file { try VMStatFile.bytes(kernel) },
      "zoneinfo": .file { try kernel.reader(ZoneFiles.self).zones(host) },
    ]
    // Of kernels that were built with them.
    let others: [(name: String, symbol: String, node: ShadowNode)] = [
      ("fb", "registered_fb", .file { try BusFiles.screens(kernel) }),
      ("key-users", "key_user_tree", .file { try kernel.reader(KeyFiles.self).users(kernel) }),
      ("keys", "key_serial_tree", .file { try kernel.reader(KeyFiles.self).keys(kernel) }),
    ]
    let all =
      files.map { ($0.key, $0.value) }
      + others.filter { kernel.symbols.address(of: $0.symbol) != nil }
      .map { ($0.name, $0.node) }
    return all.map { name, node in
      .init(name: name, node: node.owned { $0.time = host.constants.bootTime })
    }
  }

  /// What is on buses, of those that the kernel was built for.
  private static func buses(_ host: ShadowHost) -> [ShadowNode.Entry] {
    let kernel = host.kernel
    let kinds: [(name: String, symbol: String, files: ShadowNode)] = [
      (
        "input", "input_dev_list",
        .directory([
          "devices": .file { try BusFiles.inputDevices(kernel) },
          "handlers": .file { try BusFiles.inputHandlers(kernel) },
        ])
      ),
      ("pci", "pci_root_buses", .directory(["devices": .file { try BusFiles.devices(kernel) }])),
    ]
    return kinds.filter { kernel.symbols.address(of: $0.symbol) != nil }.map { .init(name: $0.name, node: $0.files) }
  }
}
