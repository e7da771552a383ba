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
  typealias Field = FieldSelection.Field

  private enum Tree: Sendable {
    case radix(head: VirtualAddress, XArray)
    case maple(VirtualAddress, MapleTree)
  }

  private let tree: Tree
  private let descriptor: FieldSelection
  private let number, hardware, chip, domain, counts, action, flow: Field
  private let actionFields: FieldSelection
  private let actionName, nextAction, handler: Field
  private let chipName: FieldLayout
  private let statistics: VirtualAddress
  private let statisticsSize: Int
  private let vectors: [(name: String, text: String, offset: Int)]

  /// The lines of `arch_show_interrupts` that are sums of `irq_cpustat_t`, in its order.
  private static let vectorNames: [(name: String, field: String, text: String)] = [
    ("NMI", "__nmi_count", "Non-maskable interrupts"), ("LOC", "apic_timer_irqs", "Local timer interrupts"),
    ("SPU", "irq_spurious_count", "Spurious interrupts"),
    ("PMI", "apic_perf_irqs", "Performance monitoring interrupts"),
    ("IWI", "apic_irq_work_irqs", "IRQ work interrupts"), ("RTR", "icr_read_retry_count", "APIC ICR read retries"),
    ("RES", "irq_resched_count", "Rescheduling interrupts"), ("CAL", "irq_call_count", "Function call interrupts"),
    ("TLB", "irq_tlb_count", "TLB shootdowns"), ("TRM", "irq_thermal_count", "Thermal event interrupts"),
    ("THR", "irq_threshold_count", "Threshold APIC interrupts"),
    ("DFR", "irq_deferred_error_count", "Deferred Error APIC interrupts"),
  ]

  init(kernel: Kernel) throws {
    let types = kernel.types
    if let maple = kernel.symbols.address(of: "sparse_irqs") {
      tree = .maple(maple, try MapleTree(types: types))
    } else {
      let head = try kernel.symbol("irq_desc_tree", for: Self.self) + types.structure("xarray").field("xa_head").offset
      tree = .radix(head: head, try XArray(types: types))
    }
    var fields = FieldSelection(try types.structure("irq_desc"))
    number = try fields.want("irq_data.irq")
    hardware = try fields.want("irq_data.hwirq")
    chip = try fields.want("irq_data.chip")
    domain = try fields.want("irq_data.domain")
    counts = try fields.want("kstat_irqs")
    action = try fields.want("action")
    flow = try fields.want("name")
    descriptor = fields
    fields = FieldSelection(try types.structure("irqaction"))
    actionName = try fields.want("name")
    nextAction = try fields.want("next")
    handler = try fields.want("handler")
    actionFields = fields
    chipName = try types.structure("irq_chip").field("name")
    statistics = try kernel.symbol("irq_stat", for: Self.self)
    let structure = try types.structure("irq_cpustat_t")
    statisticsSize = structure.size
    vectors = Self.vectorNames.compactMap { vector in
      (try? structure.field(vector.field)).map { (vector.name, vector.text, $0.offset) }
    }
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace) throws -> InterruptTable {
    var table = InterruptTable(cpus: cpus.map(\.number))
    // NR_IRQS is 64 Ki and some at most.
    let limit = 1 << 17
    let addresses: [VirtualAddress]
    switch tree {
    case .radix(let head, let tree):
      let bytes = try space.read(head, count: 8)
      let contents = tree.values(head: try ByteReader(bytes.span.bytes).pointer(0), in: space, limit: limit)
      addresses = contents.values
      table.faults += contents.faults
    case .maple(let root, let tree):
      let contents = tree.entries(at: root, in: space, limit: limit)
      addresses = contents.entries.map(\.value)
      table.faults += contents.faults
    }
    let descriptors = space.read(descriptor, at: addresses)
    var lines:
      [(line: InterruptLine, number: UInt64, counts: VirtualAddress, chip: VirtualAddress, flow: VirtualAddress)]
    lines = []
    var chains: [(line: Int, action: VirtualAddress)] = []
    for index in descriptors.indices {
      do throws(MemoryFault) {
        let number = try descriptors.load(index, number)
        var line = InterruptLine(name: "\(number)", counts: [])
        if try descriptors.load(index, domain) != 0 { line.hardwareNumber = try descriptors.load(index, hardware) }
        let action = try descriptors.pointer(index, action)
        let counts = try descriptors.pointer(index, counts)
        let (chip, flow) = (try descriptors.pointer(index, chip), try descriptors.pointer(index, flow))
        if action.rawValue != 0 { chains.append((lines.count, action)) }
        lines.append((line, number, counts, chip, flow))
      } catch {
        table.faults.append(error)
      }
    }
    let actions = readActions(chains, in: space, &table.faults)
    for (index, all) in actions {
      lines[index].line.actions = all.map(\.name)
      lines[index].line.handlers = all.map(\.handler)
    }

    var batch = ReadBatch<VirtualAddress>()
    for line in lines {
      for cpu in cpus where line.counts.rawValue != 0 { batch.add(cpu.address(of: line.counts), count: 4) }
    }
    let chips = batch.entries.count
    for line in lines where line.chip.rawValue != 0 { batch.add(line.chip + chipName.offset, count: 8) }
    let own = batch.entries.count
    for cpu in cpus { batch.add(cpu.address(of: statistics), count: statisticsSize) }
    space.read(&batch)
    var (nextCount, nextChip) = (0, chips)
    var names: [VirtualAddress] = []
    for index in lines.indices {
      do throws(MemoryFault) {
        for _ in cpus where lines[index].counts.rawValue != 0 {
          nextCount += 1
          lines[index].line.counts.append(UInt64(try batch.reader(nextCount - 1).u32(0)))
        }
        if lines[index].counts.rawValue == 0 { lines[index].line.counts = cpus.map { _ in 0 } }
        var name = VirtualAddress(0)
        if lines[index].chip.rawValue != 0 {
          nextChip += 1
          name = try batch.reader(nextChip - 1).pointer(0)
        }
        names += [name, lines[index].flow]
      } catch {
        table.faults.append(error)
        names += [VirtualAddress(0), VirtualAddress(0)]
      }
    }
    let texts = space.strings(at: names)
    for index in lines.indices {
      do throws(MemoryFault) {
        lines[index].line.chip = try texts[index * 2].get()
        lines[index].line.flow = try texts[index * 2 + 1].get()
      } catch {
        table.faults.append(error)
      }
    }
    // The kernel prints what has a handler or came at least once.
    table.lines = lines.sorted { $0.number < $1.number }.map(\.line).filter { line in
      !line.actions.isEmpty || line.counts.contains { $0 > 0 }
    }
    for vector in vectors {
      var line = InterruptLine(name: vector.name, counts: [], actions: [Array(vector.text.utf8)])
      for index in cpus.indices { line.counts.append(UInt64(try batch.reader(own + index).u32(vector.offset))) }
      table.lines.append(line)
    }
    return table
  }

  /// The handlers of each line, chain by chain side by side.
  private func readActions(
    _ chains: [(line: Int, action: VirtualAddress)], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [Int: [(name: [UInt8], handler: VirtualAddress)]] {
    var found: [(line: Int, name: VirtualAddress, handler: VirtualAddress)] = []
    var seen = Set(chains.map(\.action))
    var chains = chains
    while !chains.isEmpty {
      let reads = space.read(actionFields, at: chains.map(\.action))
      var next: [(line: Int, action: VirtualAddress)] = []
      for index in reads.indices {
        do throws(MemoryFault) {
          found.append((chains[index].line, try reads.pointer(index, actionName), try reads.pointer(index, handler)))
          let following = try reads.pointer(index, nextAction)
          if following.rawValue != 0, seen.insert(following).inserted, seen.count < 1 << 16 {
            next.append((chains[index].line, following))
          }
        } catch {
          faults.append(error)
        }
      }
      chains = next
    }
    var result: [Int: [(name: [UInt8], handler: VirtualAddress)]] = [:]
    for (index, name) in space.strings(at: found.map(\.name)).enumerated() {
      result[found[index].line, default: []].append(((try? name.get()) ?? [], found[index].handler))
    }
    return result
  }
}
