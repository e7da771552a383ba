/// Lays out structs as a C compiler does and writes them as BTF, so that tests name fields and never offsets.
package struct StructWriter {
  /// A type: its number in the BTF, its size and alignment in bytes.
  package struct CType {
    package var number: Int
    package var size: Int
    package var alignment: Int
  }

  package private(set) var writer = BTFWriter()
  package let u8, u16, u32, u64, int, long, pointer: CType

  package init() {
    func integer(_ name: String, _ size: Int, _ signed: Bool, _ writer: inout BTFWriter) -> CType {
      CType(number: writer.integer(name, size: size, signed: signed), size: size, alignment: size)
    }
    u8 = integer("unsigned char", 1, false, &writer)
    u16 = integer("unsigned short", 2, false, &writer)
    u32 = integer("unsigned int", 4, false, &writer)
    u64 = integer("unsigned long", 8, false, &writer)
    int = integer("int", 4, true, &writer)
    long = integer("long", 8, true, &writer)
    pointer = CType(number: writer.pointer(to: 0), size: 8, alignment: 8)
  }

  package mutating func array(_ element: CType, _ count: Int) -> CType {
    CType(
      number: writer.array(of: element.number, count: count), size: element.size * count, alignment: element.alignment)
  }

  /// A struct of `fields`, in this order.
  @discardableResult
  package mutating func structure(_ name: String, _ fields: [(String, CType)]) -> CType {
    var members: [BTFWriter.Member] = []
    var size = 0
    var alignment = 1
    for (name, type) in fields {
      size = (size + type.alignment - 1) / type.alignment * type.alignment
      members.append(.init(name: name, type: type.number, offset: size * 8))
      size += type.size
      alignment = max(alignment, type.alignment)
    }
    size = (size + alignment - 1) / alignment * alignment
    return CType(number: writer.structure(name, size: size, members), size: size, alignment: alignment)
  }

  package mutating func enumeration(_ name: String, _ names: [String]) {
    enumeration(name, names.enumerated().map { ($1, Int32($0)) })
  }

  package mutating func enumeration(_ name: String, _ values: [(String, Int32)]) {
    _ = writer.enumeration(name, values)
  }
}
