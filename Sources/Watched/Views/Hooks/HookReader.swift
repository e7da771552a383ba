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
  typealias Field = FieldSelection.Field

  private let systemCalls: (address: VirtualAddress, count: Int)?
  private let interrupts: VirtualAddress
  private let low, middle, high, flags: FieldLayout
  private let gateSize: Int
  private let namespaces: NetworkNamespaceReader
  private let chains: [(name: String, offset: Int, count: Int)]
  private let entryCount: FieldLayout?
  private let entries, entrySize: Int
  private let probes: VirtualAddress?
  private let probe: FieldSelection
  private let probed, before, after: Field
  private let tracers: VirtualAddress?
  private let tracerEnd: VirtualAddress?
  private let tracer: FieldSelection
  private let function, nextTracer: Field
  private let tracepoints: Range<UInt64>
  private let tracepoint: FieldSelection
  private let tracepointName, functions: Field
  private let functionSize: Int

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
    let gate = try types.structure("gate_struct")
    low = try gate.field("offset_low")
    middle = try gate.field("offset_middle")
    high = try gate.field("offset_high")
    flags = try gate.field("bits")
    gateSize = gate.size
    namespaces = try NetworkNamespaceReader(kernel: kernel)
    let net = try types.structure("net")
    chains = ["ipv4", "ipv6", "arp", "bridge"].compactMap { family in
      (try? net.field("nf.hooks_\(family)")).map { (family, $0.offset, min($0.size / 8, 16)) }
    }
    if chains.isEmpty {
      (entryCount, entries, entrySize) = (nil, 0, 0)
    } else {
      let structure = try types.structure("nf_hook_entries")
      entryCount = try structure.field("num_hook_entries")
      entries = try structure.field("hooks").offset
      entrySize = try types.structure("nf_hook_entry").size
    }
    probes = symbols.address(of: "kprobe_table")
    var fields = FieldSelection(try types.structure("kprobe"))
    probed = try fields.want("addr")
    before = try fields.want("pre_handler")
    after = try fields.want("post_handler")
    probe = fields
    tracers = symbols.address(of: "ftrace_ops_list")
    tracerEnd = symbols.address(of: "ftrace_list_end")
    fields = FieldSelection(try types.structure("ftrace_ops"))
    function = try fields.want("func")
    nextTracer = try fields.want("next")
    tracer = fields
    let start = symbols.address(of: "__start___tracepoints_ptrs")?.rawValue ?? 0
    tracepoints = start..<max(start, symbols.address(of: "__stop___tracepoints_ptrs")?.rawValue ?? 0)
    fields = FieldSelection(try types.structure("tracepoint"))
    tracepointName = try fields.want("name")
    functions = try fields.want("funcs")
    tracepoint = fields
    functionSize = try types.structure("tracepoint_func").size
  }

  func read(
    _ kinds: Set<Hook.Kind>, _ code: CodeMap.Snapshot, in space: AddressSpace, into table: inout HookTable
  ) throws {
    for kind in Hook.Kind.allCases where kinds.contains(kind) {
      switch kind {
      case .systemCall: try readSystemCalls(code, space, &table)
      case .interrupt: try readInterrupts(code, space, &table)
      case .netfilter: readNetfilter(code, space, &table)
      case .ftrace: try readTracers(code, space, &table)
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
      if address.rawValue == 0 { continue }
      table.hooks.append(Hook(kind: .systemCall, name: "\(number)", code: code.place(of: address)))
    }
  }

  private func readInterrupts(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    let bytes = try space.read(interrupts, count: 256 * gateSize)
    let reader = ByteReader(bytes.span.bytes)
    for vector in 0..<256 {
      let base = vector * gateSize
      // The highest bit says that the gate is there.
      guard try flags.load(reader, base: base) >> 15 & 1 == 1 else { continue }
      let address =
        try low.load(reader, base: base) | middle.load(reader, base: base) << 16 | high.load(reader, base: base) << 32
      table.hooks.append(Hook(kind: .interrupt, name: "\(vector)", code: code.place(of: VirtualAddress(address))))
    }
  }

  private func readNetfilter(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let entryCount else { return }
    let (nets, faults) = namespaces.read(in: space)
    table.faults += faults
    // NF_INET_PRE_ROUTING and so on, include/uapi/linux/netfilter.h; ARP has three of its own.
    let names = ["prerouting", "input", "forward", "output", "postrouting"]
    var batch = ReadBatch<VirtualAddress>()
    for net in nets { for chain in chains { batch.add(net.address + chain.offset, count: chain.count * 8) } }
    space.read(&batch)
    var found: [(name: String, namespace: UInt64, entries: VirtualAddress)] = []
    for (index, net) in nets.enumerated() {
      for (position, chain) in chains.enumerated() {
        do throws(MemoryFault) {
          let reader = try batch.reader(index * chains.count + position)
          for slot in 0..<chain.count {
            let entries = try reader.pointer(slot * 8)
            let name = chain.name == "arp" ? ["in", "out", "forward"] : names
            if entries.rawValue != 0 {
              found.append(("\(chain.name) \(slot < name.count ? name[slot] : "\(slot)")", net.number, entries))
            }
          }
        } catch {
          table.faults.append(error)
        }
      }
    }
    var counts = ReadBatch<VirtualAddress>()
    for item in found { counts.add(item.entries + entryCount.offset, count: entryCount.size) }
    space.read(&counts)
    var arrays = ReadBatch<VirtualAddress>()
    for (index, item) in found.enumerated() {
      // MAX_HOOK_COUNT, net/netfilter/core.c.
      let count = min((try? counts.reader(index).u16(0)) ?? 0, 1024)
      arrays.add(item.entries + entries, count: Int(count) * entrySize)
    }
    space.read(&arrays)
    for (index, item) in found.enumerated() {
      do throws(MemoryFault) {
        _ = try counts.reader(index)
        let reader = try arrays.reader(index)
        for entry in 0..<reader.count / max(entrySize, 8) {
          // The function comes first, what it is called with second.
          let address = try reader.pointer(entry * entrySize)
          table.hooks.append(
            Hook(kind: .netfilter, name: item.name, code: code.place(of: address), namespace: item.namespace))
        }
      } catch {
        table.faults.append(error)
      }
    }
  }

  private func readTracers(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    guard let tracers else { return }
    let bytes = try space.read(tracers, count: 8)
    var next = try ByteReader(bytes.span.bytes).pointer(0)
    var seen: Set<VirtualAddress> = []
    while next != tracerEnd, next.rawValue != 0 {
      guard seen.count < Self.most, seen.insert(next).inserted else {
        table.faults.append(MemoryFault(.virtual(next), .inconsistent("a list of tracers that comes to one again")))
        return
      }
      let reads = space.read(tracer, at: [next])
      do throws(MemoryFault) {
        table.hooks.append(
          Hook(kind: .ftrace, name: "\(next)", code: code.place(of: try reads.pointer(0, function))))
        next = try reads.pointer(0, nextTracer)
      } catch {
        table.faults.append(error)
        return
      }
    }
  }

  private func readProbes(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let probes else { return }
    let walker = ListWalker(space: space, form: .nullTerminated, limit: Self.most)
    // The link is the first field.
    let lists = walker.members(ofHeads: (0..<Self.probeBuckets).map { probes + $0 * 8 })
    table.faults += lists.faults
    let reads = space.read(probe, at: lists.lists.flatMap { $0 })
    for index in reads.indices {
      do throws(MemoryFault) {
        let target = code.place(of: try reads.pointer(index, probed))
        for (field, name) in [(before, "before"), (after, "after")] {
          let handler = try reads.pointer(index, field)
          if handler.rawValue != 0 {
            table.hooks.append(Hook(kind: .kprobe, name: name, code: code.place(of: handler), target: target))
          }
        }
      } catch {
        table.faults.append(error)
      }
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
    let reads = space.read(tracepoint, at: addresses)
    var used: [(name: VirtualAddress, functions: VirtualAddress)] = []
    for index in reads.indices {
      do throws(MemoryFault) {
        let functions = try reads.pointer(index, functions)
        if functions.rawValue != 0 { used.append((try reads.pointer(index, tracepointName), functions)) }
      } catch {
        table.faults.append(error)
      }
    }
    let names = space.strings(at: used.map(\.name))
    for (index, item) in used.enumerated() {
      do throws(MemoryFault) {
        let name = String(decoding: try names[index].get(), as: UTF8.self)
        // An array that ends with a null function.
        for position in 0..<Self.mostFunctions {
          let entry = try space.read(item.functions + position * functionSize, count: 8)
          let address = try ByteReader(entry.span.bytes).pointer(0)
          if address.rawValue == 0 { break }
          table.hooks.append(Hook(kind: .tracepoint, name: name, code: code.place(of: address)))
        }
      } catch {
        table.faults.append(error)
      }
    }
  }
}
