package import KernelInfo
public import LinuxKernel
public import Memory

/// The symbols of the kernel's image and of its modules, both ways.
public struct SymbolMap: Sendable {
  private let image: SymbolTable
  private let modules: [ModuleSymbols]
  /// What could not be read of the modules' symbols.
  public let faults: [MemoryFault]

  package init(image: SymbolTable, modules: [ModuleSymbols] = [], faults: [MemoryFault] = []) {
    self.image = image
    self.modules = modules
    self.faults = faults
  }

  /// The symbol that `address` belongs to, or nil where none does. Cost: a binary search.
  public func place(of address: VirtualAddress) -> SymbolPlace? {
    guard let symbol = image.symbol(containing: address) else {
      return modules.lazy.compactMap { $0.place(of: address) }.first
    }
    return SymbolPlace(
      name: symbol.name, type: symbol.type, address: symbol.address, size: image.size(ofSymbolAt: symbol.address),
      offset: address.distance(from: symbol.address), module: nil)
  }

  /// All symbols called `name`, the kernel's own first. Cost: a hash look-up, and a pass over the symbols of the modules.
  public func places(named name: String) -> [SymbolPlace] {
    let own = image.addresses(of: name).map { address in
      // Several symbols may start at one address, and several have one name.
      let type = image.lettersOfSymbols(at: address, named: name).first ?? "?"
      return SymbolPlace(
        name: name, type: type, address: address, size: image.size(ofSymbolAt: address), offset: 0, module: nil)
    }
    return own + modules.flatMap { $0.places(named: name) }
  }

  /// Every symbol, the kernel's own first, in the order of the tables; the list is made anew by each call.
  public var all: [SymbolPlace] {
    let own = image.map { symbol in
      SymbolPlace(
        name: symbol.name, type: symbol.type, address: symbol.address, size: image.size(ofSymbolAt: symbol.address),
        offset: 0, module: nil)
    }
    return own + ofModules
  }

  /// The symbols of modules, in the order of the tables.
  package var ofModules: [SymbolPlace] { modules.flatMap(\.all) }

  /// The address that `text` means: `schedule`, `schedule+0x10`, `0xffffffff81000000`, or the same without `0x`.
  ///
  /// A symbol comes before a number that is written like it. Nil where it is neither.
  public func address(_ text: String) -> VirtualAddress? {
    if let place = places(named: text).first { return place.address }
    if let plus = text.lastIndex(of: "+"), plus != text.startIndex,
      let offset = Self.number(String(text[text.index(after: plus)...])),
      let place = places(named: String(text[..<plus])).first
    {
      return VirtualAddress(place.address.rawValue &+ offset)
    }
    return Self.number(text, radix: 16).map { VirtualAddress($0) }
  }

  /// A number as C writes it; without `0x`, in `radix`.
  package static func number(_ text: String, radix: Int = 10) -> UInt64? {
    if text.hasPrefix("0x") || text.hasPrefix("0X") { return UInt64(text.dropFirst(2), radix: 16) }
    return text.hasPrefix("+") ? nil : UInt64(text, radix: radix)
  }
}

extension Kernel {
  /// The symbols, both ways: those of the modules as they are loaded now.
  ///
  /// Cost: four round trips, and one more for each page that the list of modules turns through.
  public func symbolMap() throws(KernelError) -> SymbolMap {
    // A kernel without modules.
    guard symbols.address(of: "modules") != nil else { return SymbolMap(image: symbols) }
    let map = try reader(CodeMap.self)
    return try settled(\.faults) { () throws(KernelError) in map.snapshot(in: addressSpace).symbolMap() }
  }
}
