import Binding
public import KernelInfo
public import Memory
import Paging

/// A struct of the kernel, copied: its fields by name, as the kernel's own types lay it out.
///
/// ```swift
/// let task = try kernel.struct("task_struct", at: "init_task")
/// print(try task.text("comm"), try task.signed("pid"), try task.follow("mm", to: "mm_struct").unsigned("total_vm"))
/// ```
public struct KernelStruct: Sendable {
  public let address: VirtualAddress
  public let layout: StructLayout
  /// The struct's bytes at the moment of reading.
  public let bytes: [UInt8]
  private let kernel: Kernel

  fileprivate init(_ kernel: Kernel, _ layout: StructLayout, _ address: VirtualAddress, _ bytes: [UInt8]) {
    self.kernel = kernel
    self.layout = layout
    self.address = address
    self.bytes = bytes
  }

  private func load<T>(
    _ path: String, _ body: (FieldLayout, borrowing ByteReader) throws(MemoryFault) -> T
  ) throws(KernelError) -> T {
    try KernelError.reading("field '\(path)' of the \(layout.name) at \(address)") {
      try body(layout.field(path), ByteReader(bytes.span.bytes))
    }
  }

  /// The field at `path` as an unsigned number.
  public func unsigned(_ path: String) throws(KernelError) -> UInt64 {
    try load(path) { (field, reader) throws(MemoryFault) in try field.load(reader) }
  }

  /// The field at `path` as a signed number.
  public func signed(_ path: String) throws(KernelError) -> Int64 {
    try load(path) { (field, reader) throws(MemoryFault) in try field.loadSigned(reader) }
  }

  /// The field at `path` as an address of the kernel.
  public func pointer(_ path: String) throws(KernelError) -> VirtualAddress {
    try load(path) { (field, reader) throws(MemoryFault) in try field.loadPointer(reader) }
  }

  /// The array of characters at `path`, up to its first zero.
  public func text(_ path: String) throws(KernelError) -> String {
    try load(path) { (field, reader) throws(MemoryFault) in
      String(decoding: try field.loadCString(reader), as: UTF8.self)
    }
  }

  /// The struct of type `type` that the pointer at `path` leads to.
  ///
  /// Cost: a read.
  public func follow(_ path: String, to type: String) throws(KernelError) -> KernelStruct {
    try kernel.struct(type, at: try pointer(path))
  }
}

extension Kernel {
  /// The struct of type `type` at `address`.
  ///
  /// Prefer ``structs(_:at:)`` wherever there are more. Cost: a read.
  public func `struct`(_ type: String, at address: VirtualAddress) throws(KernelError) -> KernelStruct {
    try structs(type, at: [address])[0].get()
  }

  /// The variable `symbol`, which is a struct of type `type`.
  ///
  /// Cost: a read.
  public func `struct`(_ type: String, at symbol: String) throws(KernelError) -> KernelStruct {
    try self.struct(type, at: try self.symbol(symbol, for: "the \(type) '\(symbol)'"))
  }

  /// The structs of type `type` at `addresses`, each of them or why it cannot be read.
  ///
  /// Cost: one batch.
  public func structs(
    _ type: String, at addresses: [VirtualAddress]
  ) throws(KernelError) -> [Result<KernelStruct, KernelError>] {
    let layout = try KernelError.reading("struct \(type)") { try types.structure(type) }
    var batch = ReadBatch<VirtualAddress>()
    for address in addresses { batch.add(address, count: layout.size) }
    addressSpace.read(&batch)
    return addresses.enumerated().map { index, address in
      do throws(MemoryFault) {
        return .success(KernelStruct(self, layout, address, try batch.reader(index).copy()))
      } catch {
        return .failure(KernelError("the \(type) at \(address)", .memory(error)))
      }
    }
  }

  /// The members of the kernel's list whose head is the variable `symbol`: structs of type `type`, which the list joins
  /// by their field `link`.
  ///
  /// Ends where the list returns to its head; one that does not within `limit` members is an error. Cost: a read a member.
  public func list(
    _ symbol: String, of type: String, through link: String, limit: Int = 100_000
  ) throws(KernelError) -> [KernelStruct] {
    let subject = "the list '\(symbol)'"
    let head = try self.symbol(symbol, for: subject)
    let layout = try KernelError.reading(subject) { try types.structure(type) }
    let field = try KernelError.reading(subject) { try layout.field(link) }
    let first = try KernelError.reading(subject) { try addressSpace.read(head, count: 8) }
    var next = try KernelError.reading(subject) { try ByteReader(first.span.bytes).pointer(0) }
    var seen: Set<VirtualAddress> = [head]
    var members: [KernelStruct] = []
    while seen.insert(next).inserted {
      guard members.count < limit else {
        throw KernelError(subject, .inconsistent("it has more than \(limit) members"))
      }
      let member = try self.struct(type, at: next - field.offset)
      members.append(member)
      // A list_head begins with the pointer to the next one.
      next = try KernelError.reading(subject) { try ByteReader(member.bytes.span.bytes).pointer(field.offset) }
    }
    guard next == head else {
      throw KernelError(subject, .inconsistent("it turns in a ring at \(next) and does not return to its head"))
    }
    return members
  }
}
