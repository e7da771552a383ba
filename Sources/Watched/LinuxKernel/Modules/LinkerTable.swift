package import Binding
import KernelInfo
package import Memory
import Paging

/// The structs of an array that the linker makes: one in the kernel's image, and one in each module.
package struct LinkerTable<Shape: KernelShape>: Sendable {
  package let structs: Structs<Shape>
  /// Of each struct the name of its module, nil for the kernel's own.
  package let modules: [[UInt8]?]
}

extension Kernel {
  /// The structs of a section: the kernel's own between the symbols `__start` and `__stop` with `section` behind them, and
  /// those of modules, whose `struct module` has the array's start and its count.
  ///
  /// Cost: two batches, and a round trip for each page that the list of modules turns through.
  package func table<Shape>(
    of type: Shape.Type, section: String, modules first: String, _ count: String, _ faults: inout [MemoryFault]
  ) throws -> LinkerTable<Shape> {
    let bound = try bound(type)
    let layout = try types.structure("module")
    var fields = FieldSelection(layout)
    let (name, array, length) = (try fields.want("name"), try fields.want(first), try fields.want(count))
    let head = try symbol("modules", for: "the list of modules")
    let list = ListWalker(space: addressSpace, form: .circular, limit: 1 << 14).members(ofHeads: [head])
    faults += list.faults
    let link = try layout.field("list").offset
    let reads = addressSpace.read(fields, at: list.lists.flatMap { $0.map { $0 - link } })

    let ends = try ["__start", "__stop"].map { try symbol($0 + section, for: "the section '\(section)'") }
    var places = bound.array(from: ends[0], to: ends[1])
    var modules = [[UInt8]?](repeating: nil, count: places.count)
    for index in reads.indices {
      do throws(MemoryFault) {
        let own = bound.array(at: try reads.pointer(index, array), count: try reads.load(index, length), limit: 1 << 14)
        modules += [[UInt8]?](repeating: try reads.string(index, name), count: own.count)
        places += own
      } catch {
        faults.append(error)
      }
    }
    return LinkerTable(structs: addressSpace.read(bound, at: places), modules: modules)
  }
}
