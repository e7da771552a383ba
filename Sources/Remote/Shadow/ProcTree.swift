import CodeViews
public import LinuxKernel
import MachineViews
import Memory

/// The tree of a watched kernel's /proc.
public enum ProcTree {
  /// The directory `proc`.
  ///
  /// - Throws: ``KernelError`` where not even the host's CPUs and clock can be read.
  public static func directory(of kernel: Kernel) throws(KernelError) -> ShadowNode {
    let host = try ShadowHost(kernel)
    let files = files(host)
    let byName = Dictionary(files.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    return .directory(
      list: {
        let table = try host.processes()
        return files
          + table.processes.compactMap { pid in
            table[pid].map { record in
              .init(name: "\(pid)", node: ProcessDirectory(host: host, tid: pid, isWhole: true).node(of: record))
            }
          }
      },
      find: { name in
        if let node = byName[name] { return node }
        // As the kernel takes it: digits, and no zero before them. Threads that lead nobody are found, too, and not listed.
        guard let tid = Int32(name), "\(tid)" == name, let record = try host.processes()[tid] else { return nil }
        return ProcessDirectory(host: host, tid: tid, isWhole: true).node(of: record)
      })
  }

  private static func files(_ host: ShadowHost) -> [ShadowNode.Entry] {
    let kernel = host.kernel
    @Sendable func times() throws -> ProcessorTimes { try kernel.reader(ProcessorTimesReader.self).read(kernel) }
    let files: KeyValuePairs<String, ShadowNode> = [
      "cmdline": .file { try kernel.host().commandLine + [10] },
      "kallsyms": .file { try SymbolFile.bytes(kernel) },
      "loadavg": .file { Array(try times().loadLine.utf8) },
      "meminfo": .file { try kernel.reader(MemoryFile.self).bytes(kernel) },
      "modules": .file { try ModuleFile.bytes(kernel) },
      "stat": .file {
        Array(try times().statistics(bootTime: host.constants.bootTime, interrupts: InterruptCounts.read(kernel)).utf8)
      },
      "sys": .directory(["kernel": KernelSettings.directory(host)]),
      "uptime": .file { Array(try times().uptimeLine.utf8) },
      "version": .file { try KernelSettings.banner(kernel) },
    ]
    return files.map { .init(name: $0.key, node: $0.value.owned { $0.time = host.constants.bootTime }) }
  }
}
