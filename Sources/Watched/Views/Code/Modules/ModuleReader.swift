import Binding
import KernelInfo
public import LinuxKernel
public import Memory
import Paging

/// Reads the list of modules.
///
/// Source: kernel/module/procfs.c, `m_show` and `print_unload_info`.
struct ModuleReader: SettledReader {
  static let subject = "the modules"

  private struct Module: KernelShape {
    static let type = "module"
    let link = Place("list")
    let users = Place("source_list")
    let name = Field<[UInt8]>("name")
    let state = Field<UInt64>("state")
    let taints = Field<UInt64>("taints")
    let references = Field<Int64>("refcnt")
    let memory = ModuleMemory()
  }

  private struct Use: KernelShape {
    static let type = "module_use"
    let link = Place("source_list")
    let user = Field<VirtualAddress>("source")
  }

  private let head: VirtualAddress
  private let module: Bound<Module>
  private let use: Bound<Use>

  /// What a module's counter holds when nobody does: `MODULE_REF_BASE` (include/linux/module.h).
  private static let referenceBase = 1
  /// More modules than any host loads, and more uses of them.
  private static let limit = 20_000

  init(kernel: Kernel) throws {
    head = try kernel.symbol("modules", for: Self.self)
    module = try Bound(kernel.types)
    use = try Bound(kernel.types)
  }

  func read(_ kernel: Kernel) -> ModuleTable {
    let space = kernel.addressSpace
    var table = ModuleTable()
    let modules = space.list(of: module, through: \.link, head: head, limit: Self.limit, &table.faults)
    table.modules = modules.compactMap(&table.faults) { (module) throws(MemoryFault) in try Self.module(module) }
    let names = Dictionary(table.modules.map { ($0.address, $0.name) }, uniquingKeysWith: { first, _ in first })
    let (owners, uses) = space.lists(
      of: use, through: \.link, heads: table.modules.map { $0.address + module.users.offset }, limit: Self.limit,
      &table.faults)
    uses.forEach(&table.faults) { (use) throws(MemoryFault) in
      let user = try use.user
      guard let name = names[user] else {
        throw MemoryFault(.virtual(user), .inconsistent("a user of a module that is none of the modules"))
      }
      table.modules[owners[use.index]].usedBy.append(name)
    }
    return table
  }

  /// The modules whose structs lie at `addresses`, in whichever list they are.
  func read(at addresses: [VirtualAddress], in space: AddressSpace) -> ModuleTable {
    var table = ModuleTable()
    table.modules = space.read(module, at: addresses).compactMap(&table.faults) { (module) throws(MemoryFault) in
      try Self.module(module)
    }
    return table
  }

  private static func module(_ module: Reading<Module>) throws(MemoryFault) -> KernelModule {
    let states: [UInt64: KernelModule.State] = [0: .live, 1: .coming, 2: .going, 3: .unformed]
    let parts = module.shape.memory.parts
    var size: UInt64 = 0
    for part in parts { size &+= try module.load(part.size) }
    return KernelModule(
      name: try module.name, address: module.address, state: states[try module.state], size: size,
      references: Int(try module.references) &- referenceBase, usedBy: [],
      text: VirtualAddress(try parts.first.map { part throws(MemoryFault) in try module.load(part.base) } ?? 0),
      textSize: try parts.first.map { part throws(MemoryFault) in try module.load(part.size) } ?? 0,
      taints: try module.taints)
  }
}

extension Kernel {
  /// The loaded modules. Cost: a few round trips, and one more for each page that the list of modules turns through.
  public func modules() throws(KernelError) -> ModuleTable { try read(ModuleReader.self) }

  /// The modules whose structs lie at `addresses`, without who uses them.
  ///
  /// Cost: a round trip.
  public func modules(at addresses: [VirtualAddress]) throws(KernelError) -> ModuleTable {
    try read(with: ModuleReader.self) { reader in reader.read(at: addresses, in: addressSpace) }
  }
}
