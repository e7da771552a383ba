import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the kernel's probes, and what they call behind the kernel's own handlers.
///
/// Source: kernel/kprobes.c, `kprobe_table`, `aggr_pre_handler` and `pre_handler_kretprobe`.
struct ProbeHooks: Sendable {
  private struct Probe: KernelShape {
    static let type = "kprobe"
    let link = Place("hlist")
    // Of a probe for several at one place the head of their list, which joins them by the same field.
    let others = Place("list")
    let target = Field<VirtualAddress>("addr")
    let before = Field<VirtualAddress?>("pre_handler")
    let after = Field<VirtualAddress?>("post_handler")
  }

  /// A probe of returns, which is one of the function's start as well.
  private struct ReturnProbe: KernelShape {
    static let type = "kretprobe"
    let probe = Place("kp")
    let entry = Field<VirtualAddress?>("entry_handler")
    let handler = Field<VirtualAddress?>("handler")
  }

  private let probes: VirtualAddress
  private let probe: Bound<Probe>
  private let returnProbe: Bound<ReturnProbe>?
  /// What the kernel itself puts before handlers: for several probes at one place, and for probes of returns.
  private let severalHandler, returnHandler: VirtualAddress?

  /// KPROBE_TABLE_SIZE, kernel/kprobes.c.
  private static let probeBuckets = 64
  /// More probes than any kernel has.
  private static let most = 1 << 16

  /// Nil for a kernel without probes.
  init?(kernel: Kernel) throws {
    guard let probes = kernel.symbols.address(of: "kprobe_table") else { return nil }
    self.probes = probes
    probe = try Bound(kernel.types)
    returnProbe = kernel.types.hasStructure(ReturnProbe.type) ? try Bound(kernel.types) : nil
    severalHandler = kernel.symbols.address(of: "aggr_pre_handler")
    returnHandler = kernel.symbols.address(of: "pre_handler_kretprobe")
  }

  func read(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    let (_, placed) = space.lists(
      of: probe, through: \.link, heads: (0..<Self.probeBuckets).map { probes + $0 * 8 }, form: .nullTerminated,
      limit: Self.most, &table.faults)
    let several = placed.filter { isCalled(severalHandler, before: $0) }
    let (owners, joined) = space.lists(
      of: probe, through: \.others, heads: several.map { $0.address(of: \.others) }, limit: Self.most, &table.faults)
    // In the order of their places: each probe that is alone at its place, or those of the place.
    let own = Dictionary(grouping: joined) { several[owners[$0.index]].address }
    let found = placed.flatMap { isCalled(severalHandler, before: $0) ? own[$0.address] ?? [] : [$0] }
    let returning = found.filter { isCalled(returnHandler, before: $0) }
    var returnOf: [VirtualAddress: Reading<ReturnProbe>] = [:]
    if let returnProbe {
      let returns = space.read(returnProbe, at: returning.map { $0.address - returnProbe.probe.offset })
      for (probe, both) in zip(returning, returns) { returnOf[probe.address] = both }
    }
    for probe in found {
      let hooks = table.faults.keep { () throws(MemoryFault) in
        let target = code.place(of: try probe.target)
        let handlers: [(VirtualAddress?, String)] =
          if let both = returnOf[probe.address] {
            [(try both.entry, "entry"), (try both.handler, "return")]
          } else {
            [(try probe.before, "before"), (try probe.after, "after")]
          }
        return handlers.compactMap { handler, name in
          handler.map { Hook(kind: .kprobe, name: name, code: code.place(of: $0), target: target) }
        }
      }
      table.hooks += hooks ?? []
    }
  }

  /// Whether a probe calls `handler`, which is the kernel's own; what cannot be read is told where the probe is.
  private func isCalled(_ handler: VirtualAddress?, before probe: Reading<Probe>) -> Bool {
    handler != nil && (try? probe.before) == handler
  }
}
