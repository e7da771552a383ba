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

private struct ListedModule: KernelShape {
  static let type = "module"
  let link = Place("list")
  let name = Field<[UInt8]>("name")
}

extension Kernel {
  /// The structs of a section: the kernel's own between the symbols `__start` and `__stop` with `section` behind them, and
  /// those of modules, whose `struct module` has the array's start and its count.
  ///
  /// Cost: three batches, and a round trip for each page that the list of modules turns through.
  package func table<Shape>(
    of type: Shape.Type, section: String, modules first: String, _ count: String, _ faults: inout [MemoryFault]
  ) throws -> LinkerTable<Shape> {
    let bound = try self.bound(type)
    let module = try self.bound(ListedModule.self)
    let layout = try types.structure("module")
    let (array, length) = (try layout.field(first).offset, try layout.field(count).offset)
    let head = try symbol("modules", for: "the list of modules")
    let places = addressSpace.members(of: module, through: \.link, heads: [head], limit: 1 << 14, &faults)
    let listed = places.first ?? []
    var parts = ReadBatch<VirtualAddress>()
    for address in listed {
      parts.add(address + array, count: 8)
      parts.add(address + length, count: 4)
    }
    addressSpace.read(&parts)

    let ends = try ["__start", "__stop"].map { try symbol($0 + section, for: "the section '\(section)'") }
    var structs = bound.array(from: ends[0], to: ends[1])
    var modules = [[UInt8]?](repeating: nil, count: structs.count)
    addressSpace.read(module, at: listed).forEach(&faults) { (reading) throws(MemoryFault) in
      let start = try parts.reader(2 * reading.index).pointer(0)
      let count = try parts.reader(2 * reading.index + 1).u32(0)
      let own = bound.array(at: start, count: UInt64(count), limit: 1 << 14)
      modules += [[UInt8]?](repeating: try reading.name, count: own.count)
      structs += own
    }
    return LinkerTable(structs: addressSpace.read(bound, at: structs), modules: modules)
  }
}
