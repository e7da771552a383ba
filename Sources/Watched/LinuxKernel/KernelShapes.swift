package import Binding
import KernelInfo
package import Memory
import Paging

/// A shape's fields as one kernel has them.
private struct ShapeReader<Shape: KernelShape>: KernelReader {
  static var subject: String { "the struct \(Shape.type)" }
  let bound: Bound<Shape>

  init(kernel: Kernel) throws { bound = try Bound(kernel.types) }
}

/// What readers of few structs need: shapes by their types, variables by their names.
extension Kernel {
  /// A shape bound to this kernel's types, once for all who ask.
  ///
  /// - Throws: ``KernelError`` where this kernel has no such struct, or the struct lacks a field that is not optional.
  package func bound<Shape: KernelShape>(_ type: Shape.Type = Shape.self) throws(KernelError) -> Bound<Shape> {
    try reader(ShapeReader<Shape>.self).bound
  }

  /// The structs at `addresses`.
  ///
  /// Cost: one batch.
  package func read<Shape: KernelShape>(_ type: Shape.Type, at addresses: [VirtualAddress]) throws(KernelError)
    -> Structs<Shape>
  {
    addressSpace.read(try bound(type), at: addresses)
  }

  /// The pointer `field` of each struct of type `type` at `addresses`, null where it cannot be read.
  ///
  /// Cost: one batch.
  package func pointers(
    _ field: String, of type: String, at addresses: [VirtualAddress]
  ) throws -> [VirtualAddress] {
    let offset = try types.structure(type).field(field).offset
    return addressSpace.pointers(at: addresses.map { $0 + offset })
  }

  /// Bytes from the start of a struct of type `type` to its field `path`.
  package func offset(of path: String, in type: String) throws(KernelError) -> Int {
    try KernelError.reading("the struct \(type)") { try types.structure(type).field(path).offset }
  }

  /// The first `count` pointers of the variable `name`, which is an array of them.
  ///
  /// Cost: one round trip.
  package func pointers(in name: String, count: Int) throws -> [VirtualAddress] {
    let bytes = try addressSpace.read(try symbol(name, for: "'\(name)'"), count: count * 8)
    let reader = ByteReader(bytes.span.bytes)
    return try (0..<count).map { try reader.pointer($0 * 8) }
  }

  /// The bytes from the variable `name` to the symbol after it; zero where either is missing.
  package func size(of name: String) -> Int {
    symbols.address(of: name).flatMap { symbols.size(ofSymbolAt: $0) }.map { Int(clamping: $0) } ?? 0
  }

  /// The value of an enumeration's constant.
  package func constant(_ name: String) throws(KernelError) -> Int64 {
    try KernelError.reading("the constant \(name)") { try types.requiredEnumerator(name) }
  }

  /// The variable `name`, which is an unsigned number of 32 bits.
  ///
  /// Cost: one round trip.
  package func number(_ name: String) throws -> UInt32 {
    let bytes = try addressSpace.read(try symbol(name, for: "'\(name)'"), count: 4)
    return try ByteReader(bytes.span.bytes).u32(0)
  }

  /// Where each online CPU keeps its own of the per-CPU variable `name`.
  ///
  /// Cost: two round trips.
  package func perCPU(_ name: String) throws(KernelError) -> [VirtualAddress] {
    let variable = try symbol(name, for: "'\(name)' of the CPUs")
    return try cpus().filter(\.isOnline).map { $0.address(of: variable) }
  }

  /// The texts to which the pointers of the array `name` lead, nil where one leads nowhere or its text cannot be read.
  ///
  /// Cost: two round trips.
  package func texts(in name: String, count: Int) throws -> [String?] {
    let pointers = try pointers(in: name, count: count)
    return zip(pointers, addressSpace.strings(at: pointers)).map { pointer, text in
      guard pointer.rawValue != 0, let bytes = try? text.get() else { return nil }
      return String(decoding: bytes, as: UTF8.self)
    }
  }
}
