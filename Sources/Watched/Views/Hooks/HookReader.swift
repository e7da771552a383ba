import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// Reads the tables of what the kernel calls.
///
/// Source: arch/x86/entry/syscall_64.c; arch/x86/kernel/idt.c; net/netfilter/core.c; kernel/trace/ftrace.c,
/// `ftrace_ops_list`; kernel/kprobes.c, `kprobe_table`; kernel/tracepoint.c.
struct HookReader: KernelReader {
  static let subject = "the hooks"

  private struct Gate: KernelShape {
    static let type = "gate_struct"
    let low = Field<UInt64>("offset_low")
    let middle = Field<UInt64>("offset_middle")
    let high = Field<UInt64>("offset_high")
    let isPresent = Field<Bool>("bits.p")
  }

  private struct Net: KernelShape {
    static let type = "net"
    // NF_INET_PRE_ROUTING and so on, include/uapi/linux/netfilter.h; ARP has three of its own.
    static let hooks = ["prerouting", "input", "forward", "output", "postrouting"]
    let chains: [(family: String, hooks: [String], heads: ArrayPlace)] = [
      ("ipv4", hooks, ArrayPlace(optional: "nf.hooks_ipv4", most: 16)),
      ("ipv6", hooks, ArrayPlace(optional: "nf.hooks_ipv6", most: 16)),
      ("arp", ["in", "out", "forward"], ArrayPlace(optional: "nf.hooks_arp", most: 16)),
      ("bridge", hooks, ArrayPlace(optional: "nf.hooks_bridge", most: 16)),
    ]
  }

  private struct ChainEntries: KernelShape {
    static let type = "nf_hook_entries"
    let count = Field<Int>("num_hook_entries")
    let entries = Place("hooks")
  }

  private struct ChainEntry: KernelShape {
    static let type = "nf_hook_entry"
    let function = Field<VirtualAddress>("hook")
  }

  private struct Probe: KernelShape {
    static let type = "kprobe"
    let link = Place("hlist")
    let target = Field<VirtualAddress>("addr")
    let before = Field<VirtualAddress?>("pre_handler")
    let after = Field<VirtualAddress?>("post_handler")
  }

  private struct Tracer: KernelShape {
    static let type = "ftrace_ops"
    let next = Place("next")
    let function = Field<VirtualAddress>("func")
  }

  private struct Tracepoint: KernelShape {
    static let type = "tracepoint"
    let name = Field<VirtualAddress>("name")
    let functions = Field<VirtualAddress?>("funcs")
  }

  private struct TracepointFunction: KernelShape {
    static let type = "tracepoint_func"
    let function = Field<VirtualAddress?>("func")
  }

  private let systemCalls: (address: VirtualAddress, count: Int)?
  private let interrupts: VirtualAddress
  private let gate: Bound<Gate>
  private let namespaces: NetworkNamespaceReader
  private let net: Bound<Net>
  /// Nil for a kernel without netfilter.
  private let chain: (entries: Bound<ChainEntries>, entry: Bound<ChainEntry>)?
  private let probes: VirtualAddress?
  private let probe: Bound<Probe>
  private let tracers: VirtualAddress?
  private let tracerEnd: VirtualAddress?
  private let tracer: Bound<Tracer>
  private let tracepoints: Range<UInt64>
  private let tracepoint: Bound<Tracepoint>
  private let tracepointFunction: Bound<TracepointFunction>

  /// KPROBE_TABLE_SIZE, kernel/kprobes.c.
  private static let probeBuckets = 64
  /// More than any kernel has, of system calls, probes and tracers.
  private static let most = 1 << 16
  private static let mostFunctions = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    let symbols = kernel.symbols
    systemCalls = symbols.address(of: "sys_call_table").map { address in
      (address, min(Int(clamping: symbols.size(ofSymbolAt: address) ?? 0) / 8, 1024))
    }
    interrupts = try kernel.symbol("idt_table", for: Self.self)
    gate = try Bound(types)
    namespaces = try NetworkNamespaceReader(kernel: kernel)
    net = try Bound(types)
    chain = net.chains.contains { $0.heads.count > 0 } ? (try Bound(types), try Bound(types)) : nil
    probes = symbols.address(of: "kprobe_table")
    probe = try Bound(types)
    tracers = symbols.address(of: "ftrace_ops_list")
    tracerEnd = symbols.address(of: "ftrace_list_end")
    tracer = try Bound(types)
    let start = symbols.address(of: "__start___tracepoints_ptrs")?.rawValue ?? 0
    tracepoints = start..<max(start, symbols.address(of: "__stop___tracepoints_ptrs")?.rawValue ?? 0)
    tracepoint = try Bound(types)
    tracepointFunction = try Bound(types)
  }

  func read(
    _ kinds: Set<Hook.Kind>, _ code: CodeMap.Snapshot, in space: AddressSpace, into table: inout HookTable
  ) throws {
    for kind in Hook.Kind.allCases where kinds.contains(kind) {
      switch kind {
      case .systemCall: try readSystemCalls(code, space, &table)
      case .interrupt: try readInterrupts(code, space, &table)
      case .netfilter: readNetfilter(code, space, &table)
      case .ftrace: readTracers(code, space, &table)
      case .kprobe: readProbes(code, space, &table)
      case .tracepoint: try readTracepoints(code, space, &table)
      }
    }
  }

  private func readSystemCalls(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    guard let systemCalls else { return }
    let bytes = try space.read(systemCalls.address, count: systemCalls.count * 8)
    let reader = ByteReader(bytes.span.bytes)
    for number in 0..<systemCalls.count {
      let address = try reader.pointer(number * 8)
      // Padding up to the next symbol.
      guard address.rawValue != 0 else { continue }
      table.hooks.append(Hook(kind: .systemCall, name: "\(number)", code: code.place(of: address)))
    }
  }

  private func readInterrupts(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    for gate in try space.array(of: gate, at: interrupts, count: 256) where try gate.isPresent {
      let address = VirtualAddress(try gate.low | gate.middle << 16 | gate.high << 32)
      table.hooks.append(Hook(kind: .interrupt, name: "\(gate.index)", code: code.place(of: address)))
    }
  }

  private func readNetfilter(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let chain else { return }
    let (nets, faults) = namespaces.read(in: space)
    table.faults += faults
    var heads = ReadBatch<VirtualAddress>()
    let chains = net.chains.filter { $0.heads.count > 0 }
    for net in nets {
      for chain in chains { heads.add(net.address + chain.heads.offset, count: chain.heads.count * 8) }
    }
    space.read(&heads)
    var found: [(name: String, namespace: UInt64, entries: VirtualAddress)] = []
    for index in heads.entries.indices {
      let (net, chain) = (nets[index / chains.count], chains[index % chains.count])
      let words = table.faults.keep { () throws(MemoryFault) in try heads.words(index) } ?? []
      for (slot, entries) in words.enumerated() where entries != 0 {
        let hook = slot < chain.hooks.count ? chain.hooks[slot] : "\(slot)"
        found.append(("\(chain.family) \(hook)", net.number, VirtualAddress(entries)))
      }
    }
    var arrays = ReadBatch<VirtualAddress>()
    let open = space.read(chain.entries, at: found.map(\.entries)).compactMap(&table.faults) {
      (entries) throws(MemoryFault) in
      // MAX_HOOK_COUNT, net/netfilter/core.c.
      let count = min(try entries.count, 1024)
      return (chain: entries.index, entry: arrays.add(entries.address(of: \.entries), count: count * chain.entry.size))
    }
    space.read(&arrays)
    for (index, entry) in open {
      let item = found[index]
      let hooks = table.faults.keep { () throws(MemoryFault) in
        try StructArray(chain.entry, entry, of: arrays).map { (entry) throws(MemoryFault) in
          Hook(
            kind: .netfilter, name: item.name, code: code.place(of: try entry.function), namespace: item.namespace)
        }
      }
      table.hooks += hooks ?? []
    }
  }

  private func readTracers(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let tracers else { return }
    let (_, found) = space.chains(
      of: tracer, through: \.next, heads: [tracers], limit: Self.most, &table.faults)
    table.hooks += found.compactMap(&table.faults) { (tracer) throws(MemoryFault) in
      tracer.address == tracerEnd
        ? nil : Hook(kind: .ftrace, name: "\(tracer.address)", code: code.place(of: try tracer.function))
    }
  }

  private func readProbes(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let probes else { return }
    let (_, found) = space.lists(
      of: probe, through: \.link, heads: (0..<Self.probeBuckets).map { probes + $0 * 8 }, form: .nullTerminated,
      limit: Self.most, &table.faults)
    let hooks = found.compactMap(&table.faults) { (probe) throws(MemoryFault) in
      let target = code.place(of: try probe.target)
      return [(try probe.before, "before"), (try probe.after, "after")].compactMap { handler, name in
        handler.map { Hook(kind: .kprobe, name: name, code: code.place(of: $0), target: target) }
      }
    }
    table.hooks += hooks.joined()
  }

  private func readTracepoints(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    // Each is how far the tracepoint lies from the entry itself (tracepoint_ptr_deref, include/linux/tracepoint.h).
    let count = min((tracepoints.upperBound - tracepoints.lowerBound) / 4, UInt64(Self.most))
    let start = VirtualAddress(tracepoints.lowerBound)
    let bytes = try space.read(start, count: Int(count) * 4)
    let reader = ByteReader(bytes.span.bytes)
    var addresses: [VirtualAddress] = []
    for index in 0..<Int(count) {
      addresses.append(start + index * 4 + Int(try reader.load(index * 4, as: Int32.self)))
    }
    let used = space.read(tracepoint, at: addresses).compactMap(&table.faults) { (point) throws(MemoryFault) in
      guard let functions = try point.functions else { return (name: VirtualAddress, functions: VirtualAddress)?.none }
      return (name: try point.name, functions: functions)
    }
    let names = space.strings(at: used.map(\.name))
    for (name, used) in zip(names, used) {
      var hooks: [Hook] = []
      table.faults.keep { () throws(MemoryFault) in
        let name = String(decoding: try name.get(), as: UTF8.self)
        // An array that ends with a null function.
        for index in 0..<Self.mostFunctions {
          let place = used.functions + index * tracepointFunction.size
          guard let function = try space.read(tracepointFunction, at: [place])[0].function else { break }
          hooks.append(Hook(kind: .tracepoint, name: name, code: code.place(of: function)))
        }
      }
      table.hooks += hooks
    }
  }
}
