import CodeViews
public import LinuxKernel
import MachineViews
public import Memory

/// The tree of a watched kernel's /proc.
public enum ProcTree {
  /// The directory `proc`.
  ///
  /// `hiddenModules` finds the structs of modules that the kernel's list has no longer, which are shown, too. `visitors` are processes that take it for their own; without them `self` is a process by the number of whoever asks.
  ///
  /// - Throws: ``KernelError`` where not even the host's CPUs and clock can be read.
  public static func directory(
    of kernel: Kernel, hiddenModules: @escaping @Sendable () -> [VirtualAddress] = { [] },
    visitors: (any OwnProcesses)? = nil
  ) throws(KernelError) -> ShadowNode {
    let host = try ShadowHost(kernel)
    let files = files(host, hiddenModules)
    let own = ["self", "thread-self"].map { name in
      let node = visitors.map { OwnDirectory.link($0, isThread: name == "thread-self") }
      return ShadowNode.Entry(name: name, node: node ?? SelfDirectory(host: host, pid: 0).node())
    }
    let byName = Dictionary(files.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    return .directory(
      list: {
        let table = try host.processes()
        return files + own
          + table.processes.compactMap { pid in
            table[pid].map { record in
              .init(name: "\(pid)", node: ProcessDirectory(host: host, tid: pid, isWhole: true).node(of: record))
            }
          }
      },
      find: { name in
        if let node = byName[name] { return node }
        let caller = ShadowTree.caller
        if let entry = own.first(where: { $0.name == name }) {
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
  }

  private static func files(
    _ host: ShadowHost, _ hiddenModules: @escaping @Sendable () -> [VirtualAddress]
  ) -> [ShadowNode.Entry] {
    let kernel = host.kernel
    @Sendable func times() throws -> ProcessorTimes { try kernel.reader(ProcessorTimesReader.self).read(kernel) }
    let files: KeyValuePairs<String, ShadowNode> = [
      "cmdline": .file { try kernel.host().commandLine + [10] },
      "cpuinfo": .file { try CPUInfoFile.bytes(kernel) },
      "diskstats": .file { try kernel.reader(DiskFiles.self).statistics(kernel) },
      "filesystems": .file { try ListFiles.fileSystems(kernel) },
      "interrupts": .file { try InterruptFile.interrupts(kernel) },
      "kallsyms": .file { try SymbolFile.bytes(kernel) },
      "loadavg": .file { Array(try times().loadLine.utf8) },
      "meminfo": .file { try kernel.reader(MemoryFile.self).bytes(kernel) },
      "modules": .file { try ModuleFile.bytes(kernel, hidden: hiddenModules()) },
      "mounts": .file { try MountFile.mounts(host.thread(1).task, host) },
      "net": NetworkFiles.directory(host) { try host.thread(1).task },
      "partitions": .file { try kernel.reader(DiskFiles.self).partitions(kernel) },
      "slabinfo": .file(0o400) { try ListFiles.slabs(kernel) },
      "softirqs": .file { try InterruptFile.softInterrupts(kernel) },
      "stat": .file {
        Array(try times().statistics(bootTime: host.constants.bootTime, interrupts: InterruptCounts.read(kernel)).utf8)
      },
      "swaps": .file { try ListFiles.swaps(kernel) },
      "sys": .directory(["kernel": KernelSettings.directory(host)]),
      "uptime": .file { Array(try times().uptimeLine.utf8) },
      "version": .file { try KernelSettings.banner(kernel) },
      "vmstat": .file { try VMStatFile.bytes(kernel) },
    ]
    return files.map { .init(name: $0.key, node: $0.value.owned { $0.time = host.constants.bootTime }) }
  }
}
