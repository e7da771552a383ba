public import Memory

/// A place in the kernel as people write it: a symbol, and how far behind its start.
public struct SymbolPlace: Sendable, Hashable {
  public let name: String
  /// The letter that `nm` and /proc/kallsyms print.
  public let type: Character
  /// Where the symbol starts.
  public let address: VirtualAddress
  /// The bytes up to the next symbol, nil where none follows.
  public let size: UInt64?
  /// How far the place lies behind the symbol's start.
  public let offset: UInt64
  /// The module that it belongs to, nil for the kernel's own image.
  public let module: String?
}

extension SymbolPlace: CustomStringConvertible {
  /// As the kernel prints it (`%pS`): `schedule+0x10/0xc0 [module]`.
  public var description: String {
    var text = "\(name)+0x\(String(offset, radix: 16))"
    if let size { text += "/0x\(String(size, radix: 16))" }
    return module.map { "\(text) [\($0)]" } ?? text
  }
}
