import KernelInfo
import Memory
import Paging

/// Whose an address of code is: the kernel's text from `_stext` to `_etext`, or a module's memory.
///
/// Modules keep their memory as up to seven regions from 6.4 on, before as one layout for as long as they live.
/// Source: include/linux/module.h, `within_module`.
struct CodeMap: KernelReader {
  static let subject = "the modules' memory"

  private let text: Range<UInt64>
  private let early: Range<UInt64>
  private let head: VirtualAddress
  private let link: Int
  private let fields: FieldSelection
  private let name: FieldSelection.Field
  private let regions: [(base: FieldSelection.Field, size: FieldSelection.Field)]
  private let symbols: SymbolTable

  /// The modules at one moment.
  struct Snapshot {
    fileprivate var modules: [(range: Range<UInt64>, name: [UInt8])] = []
    fileprivate let text: Range<UInt64>
    fileprivate let early: Range<UInt64>
    fileprivate let symbols: SymbolTable
    var faults: [MemoryFault] = []

    func place(of address: VirtualAddress) -> CodePlace {
      if text.contains(address.rawValue) || early.contains(address.rawValue) {
        let symbol = symbols.symbol(containing: address)
        return CodePlace(
          address: address, owner: .kernel,
          symbol: symbol.map { "\($0.name)+0x\(String(address.distance(from: $0.address), radix: 16))" })
      }
      let module = modules.first { $0.range.contains(address.rawValue) }
      return CodePlace(address: address, owner: module.map { .module($0.name) } ?? .unknown, symbol: nil)
    }
  }

  init(kernel: Kernel) throws {
    let start = try kernel.symbol("_stext", for: Self.self).rawValue
    text = start..<max(start, try kernel.symbol("_etext", for: Self.self).rawValue)
    // Vectors that no exception uses keep the gates that the boot gave all 32 (arch/x86/kernel/head_64.S).
    let gates = kernel.symbols.address(of: "early_idt_handler_array")
    let size = gates.flatMap { kernel.symbols.size(ofSymbolAt: $0) } ?? 0
    early = gates.map { $0.rawValue..<max($0.rawValue, $0.rawValue &+ min(size, 4096)) } ?? 0..<0
    head = try kernel.symbol("modules", for: Self.self)
    symbols = kernel.symbols
    let structure = try kernel.types.structure("module")
    link = try structure.field("list").offset
    var fields = FieldSelection(structure)
    name = try fields.want("name")
    if structure.hasField("core_layout") {
      regions = [(try fields.want("core_layout.base"), try fields.want("core_layout.size"))]
    } else {
      let array = try structure.field("mem")
      let region = try kernel.types.structure("module_memory")
      let (base, size) = (try region.field("base").offset, try region.field("size").offset)
      var found: [(base: FieldSelection.Field, size: FieldSelection.Field)] = []
      for index in 0..<min(array.elementCount ?? 0, 16) {
        let start = array.offset + index * array.elementSize
        found.append((fields.want(offset: start + base, size: 8), fields.want(offset: start + size, size: 4)))
      }
      regions = found
    }
    self.fields = fields
  }

  func snapshot(in space: AddressSpace) -> Snapshot {
    var snapshot = Snapshot(text: text, early: early, symbols: symbols)
    let members = ListWalker(space: space, form: .circular, limit: 1 << 14).members(ofHeads: [head])
    snapshot.faults = members.faults
    let reads = space.read(fields, at: members.lists[0].map { $0 - link })
    for index in reads.indices {
      do throws(MemoryFault) {
        let name = try reads.string(index, name)
        for region in regions {
          let start = try reads.load(index, region.base)
          let (end, overflow) = start.addingReportingOverflow(try reads.load(index, region.size))
          if start != 0, !overflow { snapshot.modules.append((start..<end, name)) }
        }
      } catch {
        snapshot.faults.append(error)
      }
    }
    return snapshot
  }
}
