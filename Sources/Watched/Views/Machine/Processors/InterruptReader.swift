import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads interrupt descriptors and the counters of the CPUs' own vectors.
///
/// Descriptors hang in a radix tree, from 6.5 on in a maple tree. Source: kernel/irq/proc.c, `show_interrupts`;
/// arch/x86/kernel/irq.c, `arch_show_interrupts`.
struct InterruptReader: KernelReader {
  static let subject = "the interrupts"

  private struct Descriptor: KernelShape {
    static let type = "irq_desc"
    let number = Field<UInt64>("irq_data.irq")
    let hardware = Field<UInt64>("irq_data.hwirq")
    let chip = Field<VirtualAddress?>("irq_data.chip")
    let domain = Field<VirtualAddress?>("irq_data.domain")
    let counts = Field<VirtualAddress?>("kstat_irqs")
    let action = Field<VirtualAddress?>("action")
    let flow = Field<VirtualAddress>("name")
  }

  private struct Action: KernelShape {
    static let type = "irqaction"
    let name = Field<VirtualAddress>("name")
    let next = Field<VirtualAddress?>("next")
    let handler = Field<VirtualAddress>("handler")
  }

  private struct Chip: KernelShape {
    static let type = "irq_chip"
    let name = Field<VirtualAddress>("name")
  }

  private struct Statistics: KernelShape {
    static let type = "irq_cpustat_t"
    /// The lines of `arch_show_interrupts` that are sums of it, in its order.
    let vectors: [(name: String, text: String, count: Field<UInt64>)] = [
      ("NMI", "Non-maskable interrupts", Field(optional: "__nmi_count")),
      ("LOC", "Local timer interrupts", Field(optional: "apic_timer_irqs")),
      ("SPU", "Spurious interrupts", Field(optional: "irq_spurious_count")),
      ("PMI", "Performance monitoring interrupts", Field(optional: "apic_perf_irqs")),
      ("IWI", "IRQ work interrupts", Field(optional: "apic_irq_work_irqs")),
      ("RTR", "APIC ICR read retries", Field(optional: "icr_read_retry_count")),
      ("RES", "Rescheduling interrupts", Field(optional: "irq_resched_count")),
      ("CAL", "Function call interrupts", Field(optional: "irq_call_count")),
      ("TLB", "TLB shootdowns", Field(optional: "irq_tlb_count")),
      ("TRM", "Thermal event interrupts", Field(optional: "irq_thermal_count")),
      ("THR", "Threshold APIC interrupts", Field(optional: "irq_threshold_count")),
      ("DFR", "Deferred Error APIC interrupts", Field(optional: "irq_deferred_error_count")),
    ]
  }

  private enum Tree: Sendable {
    case radix(head: VirtualAddress, XArray)
    case maple(VirtualAddress, MapleTree)
  }

  private let tree: Tree
  private let descriptor: Bound<Descriptor>
  private let action: Bound<Action>
  private let chip: Bound<Chip>
  private let statistics: Bound<Statistics>
  private let statisticsVariable: VirtualAddress

  /// NR_IRQS is 64 Ki and some at most.
  private static let most = 1 << 17

  init(kernel: Kernel) throws {
    let types = kernel.types
    if let maple = kernel.symbols.address(of: "sparse_irqs") {
      tree = .maple(maple, try MapleTree(types: types))
    } else {
      let head = try kernel.symbol("irq_desc_tree", for: Self.self) + types.structure("xarray").field("xa_head").offset
      tree = .radix(head: head, try XArray(types: types))
    }
    descriptor = try Bound(types)
    action = try Bound(types)
    chip = try Bound(types)
    statistics = try Bound(types)
    statisticsVariable = try kernel.symbol("irq_stat", for: Self.self)
  }

  /// What is shown of an interrupt, and what the rest is read with.
  private struct Draft {
    var line: InterruptLine
    var number: UInt64
    var action, counts, chip: VirtualAddress?
    var flow: VirtualAddress
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace) throws -> InterruptTable {
    var faults: [MemoryFault] = []
    let descriptors = space.read(descriptor, at: try addresses(in: space, &faults))
    var drafts = descriptors.compactMap(&faults) { (descriptor) throws(MemoryFault) in
      let number = try descriptor.number
      return Draft(
        line: InterruptLine(
          name: "\(number)", counts: [],
          hardwareNumber: try descriptor.domain == nil ? nil : try descriptor.hardware),
        number: number, action: try descriptor.action, counts: try descriptor.counts, chip: try descriptor.chip,
        flow: try descriptor.flow)
    }
    readActions(of: &drafts, in: space, &faults)

    var batch = ReadBatch<VirtualAddress>()
    let counters = drafts.map { draft in
      draft.counts.map { counts in cpus.map { batch.add($0.address(of: counts), count: 4) } }
    }
    let chipped = drafts.indices.filter { drafts[$0].chip != nil }
    let chips = batch.add(chip, at: drafts.compactMap(\.chip))
    let own = batch.add(statistics, at: cpus.map { $0.address(of: statisticsVariable) })
    space.read(&batch)
    for (index, entries) in counters.enumerated() {
      guard let entries else {
        drafts[index].line.counts = cpus.map { _ in 0 }
        continue
      }
      let counts = faults.keep { () throws(MemoryFault) in
        try entries.map { (entry) throws(MemoryFault) in UInt64(try batch.reader(entry).u32(0)) }
      }
      drafts[index].line.counts = counts ?? []
    }
    var names = [VirtualAddress](repeating: VirtualAddress(0), count: drafts.count)
    chips.structs(in: batch).forEach(&faults) { (chip) throws(MemoryFault) in names[chipped[chip.index]] = try chip.name
    }
    let texts = space.strings(at: names + drafts.map(\.flow), &faults)
    for index in drafts.indices {
      (drafts[index].line.chip, drafts[index].line.flow) = (texts[index], texts[drafts.count + index])
    }
    // The kernel prints what has a handler or came at least once.
    var lines = drafts.sorted { $0.number < $1.number }.map(\.line).filter { line in
      !line.actions.isEmpty || line.counts.contains { $0 > 0 }
    }
    let vectors = own.structs(in: batch)
    for vector in statistics.vectors where vector.count.isPresent {
      let counts = try vectors.map { (cpu) throws(MemoryFault) in try cpu.load(vector.count) }
      lines.append(InterruptLine(name: vector.name, counts: counts, actions: [Array(vector.text.utf8)]))
    }
    return InterruptTable(cpus: cpus.map(\.number), lines: lines, faults: faults)
  }

  /// Where the descriptors lie.
  private func addresses(in space: AddressSpace, _ faults: inout [MemoryFault]) throws(MemoryFault) -> [VirtualAddress]
  {
    switch tree {
    case .radix(let head, let tree):
      let contents = tree.values(head: try space.pointer(at: head), in: space, limit: Self.most)
      faults += contents.faults
      return contents.values
    case .maple(let root, let tree):
      let contents = tree.entries(at: root, in: space, limit: Self.most)
      faults += contents.faults
      return contents.entries.map(\.value)
    }
  }

  /// The handlers of each line, chain by chain side by side.
  private func readActions(of drafts: inout [Draft], in space: AddressSpace, _ faults: inout [MemoryFault]) {
    var found: [(line: Int, name: VirtualAddress, handler: VirtualAddress)] = []
    var chains = drafts.indices.compactMap { line in drafts[line].action.map { (line: line, action: $0) } }
    var seen = Set(chains.map(\.action))
    while !chains.isEmpty {
      let lines = chains.map(\.line)
      let actions = space.read(action, at: chains.map(\.action))
      chains = actions.compactMap(&faults) { (action) throws(MemoryFault) in
        found.append((lines[action.index], try action.name, try action.handler))
        guard let next = try action.next, seen.insert(next).inserted, seen.count < 1 << 16 else { return nil }
        return (lines[action.index], next)
      }
    }
    for (item, name) in zip(found, space.strings(at: found.map(\.name), &faults)) {
      drafts[item.line].line.actions.append(name)
      drafts[item.line].line.handlers.append(item.handler)
    }
  }
}
