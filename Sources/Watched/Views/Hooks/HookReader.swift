import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the tables of what the kernel calls.
///
/// Source: arch/x86/kernel/idt.c; kernel/trace/ftrace.c, `ftrace_ops_list`; kernel/tracepoint.c.
struct HookReader: KernelReader {
  static let subject = "the hooks"

  private struct Gate: KernelShape {
    static let type = "gate_struct"
    let low = Field<UInt64>("offset_low")
    let middle = Field<UInt64>("offset_middle")
    let high = Field<UInt64>("offset_high")
    let isPresent = Field<Bool>("bits.p")
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

  private let interrupts: VirtualAddress
  private let gate: Bound<Gate>
  private let systemCalls: SystemCallHooks?
  private let netfilter: NetfilterHooks
  private let probes: ProbeHooks?
  private let tracers: VirtualAddress?
  private let tracerEnd: VirtualAddress?
  private let tracer: Bound<Tracer>
  private let tracepoints: Range<UInt64>
  private let tracepoint: Bound<Tracepoint>
  private let tracepointFunction: Bound<TracepointFunction>

  /// More than any kernel has, of tracers and tracepoints.
  private static let most = 1 << 16
  private static let mostFunctions = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    let symbols = kernel.symbols
    systemCalls = SystemCallHooks(kernel: kernel)
    interrupts = try kernel.symbol("idt_table", for: Self.self)
    gate = try Bound(types)
    netfilter = try NetfilterHooks(kernel: kernel)
    probes = try ProbeHooks(kernel: kernel)
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
      case .systemCall: try systemCalls?.read(code, space, &table)
      case .interrupt: try readInterrupts(code, space, &table)
      case .netfilter: netfilter.read(code, space, &table)
      case .ftrace: readTracers(code, space, &table)
      case .kprobe: probes?.read(code, space, &table)
      case .tracepoint: try readTracepoints(code, space, &table)
      }
    }
  }

  private func readInterrupts(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    for gate in try space.array(of: gate, at: interrupts, count: 256) where try gate.isPresent {
      let address = VirtualAddress(try gate.low | gate.middle << 16 | gate.high << 32)
      table.hooks.append(Hook(kind: .interrupt, name: "\(gate.index)", code: code.place(of: address)))
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
