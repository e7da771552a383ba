package import Binding
package import KernelInfo
package import Memory
package import Paging

/// What is read of each `struct module`: its name, its parts of memory and where its symbols lie.
package struct ModuleFields: Sendable {
  package typealias Field = FieldSelection.Field
  private let link: Int
  private let fields: FieldSelection
  private let name, tables, exports, exportCount: Field
  private let memory: ModuleMemory

  /// More modules than any host loads.
  private static let limit = 1 << 14

  package init(types: TypeTable) throws(KernelInfoError) {
    let structure = try types.structure("module")
    link = try structure.field("list").offset
    var fields = FieldSelection(structure)
    name = try fields.want("name")
    tables = try fields.want("kallsyms")
    exports = try fields.want("syms")
    exportCount = try fields.want("num_syms")
    memory = try ModuleMemory(structure, types: types, fields: &fields)
    self.fields = fields
  }

  /// The members of the list whose head is at `head`, and what of them could not be read.
  package func modules(
    ofHead head: VirtualAddress, in space: AddressSpace
  ) -> (modules: [LoadedModule], faults: [MemoryFault]) {
    let members = ListWalker(space: space, form: .circular, limit: Self.limit).members(ofHeads: [head])
    var faults = members.faults
    var modules: [LoadedModule] = []
    let reads = space.read(fields, at: members.lists[0].map { $0 - link })
    for index in reads.indices {
      do throws(MemoryFault) {
        modules.append(try module(reads, index))
      } catch {
        faults.append(error)
      }
    }
    return (modules, faults)
  }

  private func module(_ reads: StructReads, _ index: Int) throws(MemoryFault) -> LoadedModule {
    var module = LoadedModule(
      name: try reads.string(index, name), address: reads.addresses[index], parts: [],
      tables: try reads.pointer(index, tables), exports: try reads.pointer(index, exports),
      exportCount: try reads.load(index, exportCount))
    for part in memory.parts {
      let start = try reads.load(index, part.base)
      let (end, overflow) = start.addingReportingOverflow(try reads.load(index, part.size))
      guard start != 0, start < end, !overflow else { continue }
      let code = try part.code.map { field throws(MemoryFault) in try reads.load(index, field) } ?? 0
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
