import Binding
package import KernelInfo
package import Memory
package import Paging

/// Reads of each `struct module` its name, its parts of memory and where its symbols lie.
package struct ModuleFields: Sendable {
  private struct Shape: KernelShape {
    static let type = "module"
    let link = Place("list")
    let name = Field<[UInt8]>("name")
    let tables = Field<VirtualAddress>("kallsyms")
    let exports = Field<VirtualAddress>("syms")
    let exportCount = Field<UInt64>("num_syms")
    let memory = ModuleMemory()
  }

  private let module: Bound<Shape>

  /// More modules than any host loads.
  private static let limit = 1 << 14

  package init(types: TypeTable) throws(KernelInfoError) { module = try Bound(types) }

  /// The members of the list whose head is at `head`, and what of them could not be read.
  package func modules(
    ofHead head: VirtualAddress, in space: AddressSpace
  ) -> (modules: [LoadedModule], faults: [MemoryFault]) {
    var faults: [MemoryFault] = []
    let modules = space.list(of: module, through: \.link, head: head, limit: Self.limit, &faults)
    return (modules.compactMap(&faults) { (reading) throws(MemoryFault) in try Self.loaded(reading) }, faults)
  }

  private static func loaded(_ reading: Reading<Shape>) throws(MemoryFault) -> LoadedModule {
    var module = LoadedModule(
      name: try reading.name, address: reading.address, parts: [], tables: try reading.tables,
      exports: try reading.exports, exportCount: try reading.exportCount)
    for part in reading.shape.memory.parts {
      let start = try reading.load(part.base)
      let (end, overflow) = start.addingReportingOverflow(try reading.load(part.size))
      guard start != 0, start < end, !overflow else { continue }
      let code = try part.code.map { field throws(MemoryFault) in try reading.load(field) } ?? 0
      if code > 0, code < end - start {
        // The last function ends where the code does.
        module.parts += [start..<start + code, start + code..<end]
      } else {
        module.parts.append(start..<end)
      }
    }
    return module
  }
}
