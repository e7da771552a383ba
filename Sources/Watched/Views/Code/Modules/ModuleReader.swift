import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads the list of modules.
///
/// Source: kernel/module/procfs.c, `m_show` and `print_unload_info`.
struct ModuleReader: KernelReader {
  static let subject = "the modules"

  typealias Field = FieldSelection.Field
  private let head: VirtualAddress
  private let listOffset: Int
  private let usersOffset: Int
  private let fields: FieldSelection
  private let name, state, taints, references: Field
  /// Base and size of each part; the first holds the code.
  private let memory: ModuleMemory
  private let use: FieldSelection
  private let user: Field
  private let useLink: Int

  /// What a module's counter holds when nobody does: `MODULE_REF_BASE` (include/linux/module.h).
  private static let referenceBase = 1
  /// More modules than any host loads, and more uses of them.
  private static let limit = 20_000

  init(kernel: Kernel) throws {
    let types = kernel.types
    head = try kernel.symbol("modules", for: Self.self)
    let module = try types.structure("module")
    listOffset = try module.field("list").offset
    usersOffset = try module.field("source_list").offset
    var fields = FieldSelection(module)
    name = try fields.want("name")
    state = try fields.want("state")
    taints = try fields.want("taints")
    references = try fields.want("refcnt")
    memory = try ModuleMemory(module, types: types, fields: &fields)
    self.fields = fields
    let use = try types.structure("module_use")
    useLink = try use.field("source_list").offset
    var useFields = FieldSelection(use)
    user = try useFields.want("source")
    self.use = useFields
  }

  func read(in space: AddressSpace) throws(KernelError) -> ModuleTable {
    try settled({ $0.faults }) { () throws(KernelError) in attempt(in: space) }
  }

  private func attempt(in space: AddressSpace) -> ModuleTable {
    var table = ModuleTable()
    let list = ListWalker(space: space, form: .circular, limit: Self.limit).members(ofHeads: [head])
    table.faults = list.faults
    let addresses = (list.lists.first ?? []).map { $0 - listOffset }
    let reads = space.read(fields, at: addresses)
    for index in reads.indices {
      do throws(MemoryFault) {
        table.modules.append(try module(reads, index))
      } catch {
        table.faults.append(error)
      }
    }
    let names = Dictionary(table.modules.map { ($0.address, $0.name) }, uniquingKeysWith: { first, _ in first })
    let uses = ListWalker(space: space, form: .circular, limit: Self.limit).members(
      ofHeads: table.modules.map { $0.address + usersOffset })
    table.faults += uses.faults
    let flat = uses.lists.enumerated().flatMap { index, links in links.map { (module: index, use: $0 - useLink) } }
    let users = space.read(use, at: flat.map(\.use))
    for (index, entry) in flat.enumerated() {
      do throws(MemoryFault) {
        let user = try users.pointer(index, user)
        guard let name = names[user] else {
          throw MemoryFault(.virtual(user), .inconsistent("a user of a module that is none of the modules"))
        }
        table.modules[entry.module].usedBy.append(name)
      } catch {
        table.faults.append(error)
      }
    }
    return table
  }

  private func module(_ reads: StructReads, _ index: Int) throws(MemoryFault) -> KernelModule {
    let states: [UInt64: KernelModule.State] = [0: .live, 1: .coming, 2: .going, 3: .unformed]
    var size: UInt64 = 0
    for part in memory.parts { size &+= try reads.load(index, part.size) }
    return KernelModule(
      name: try reads.string(index, name), address: reads.addresses[index],
      state: states[try reads.load(index, state)], size: size,
      references: Int(try reads.signed(index, references)) &- Self.referenceBase, usedBy: [],
      text: try memory.parts.first.map { part throws(MemoryFault) in try reads.pointer(index, part.base) }
        ?? VirtualAddress(0),
      textSize: try memory.parts.first.map { part throws(MemoryFault) in try reads.load(index, part.size) } ?? 0,
      taints: try reads.load(index, taints))
  }
}

extension Kernel {
  /// The loaded modules. Cost: a few round trips, and one more for each page that the list of modules turns through.
  public func modules() throws(KernelError) -> ModuleTable {
    try reader(ModuleReader.self).read(in: addressSpace)
  }
}
