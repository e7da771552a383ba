public import Memory

/// The symbols of the kernel image, in ascending order of address, decoded from its kallsyms tables.
///
/// kallsyms has a symbol for every name in the image, but none of loaded modules. Without CONFIG_KALLSYMS_ALL it has
/// functions only; variables that were found otherwise have addresses here, but are not among the symbols.
public final class SymbolTable: Sendable {
  /// Per symbol its type letter followed by its name, without separators.
  package let text: [UInt8]
  /// Where each symbol starts in `text`; one more than there are symbols.
  package let starts: [UInt32]
  package let addresses: [UInt64]
  private let index: NameIndex
  /// Variables that the tables do not list, by their names.
  private let variables: [String: VirtualAddress]

  package init(
    text: [UInt8], starts: [UInt32], addresses: [UInt64], index: NameIndex, variables: [String: VirtualAddress] = [:]
  ) {
    self.variables = variables
    self.text = text
    self.starts = starts
    self.addresses = addresses
    self.index = index
  }

  /// The same symbols, and variables that the tables do not list.
  package func adding(_ more: [String: VirtualAddress]) -> SymbolTable {
    SymbolTable(
      text: text, starts: starts, addresses: addresses, index: index, variables: variables.merging(more) { $1 })
  }

  /// The same symbols of an image that lies `distance` further up: what is no address of the image stays, as offsets in the per-CPU areas.
  ///
  /// Names and their index are shared. Cost: one addition a symbol.
  package func moved(by distance: UInt64) -> SymbolTable {
    SymbolTable(
      text: text, starts: starts, addresses: addresses.map { $0 >> 63 == 1 ? $0 &+ distance : $0 }, index: index,
      variables: variables.mapValues { VirtualAddress($0.rawValue &+ distance) })
  }

  /// The run-time address of the symbol, the lowest one where several are called so.
  ///
  /// Cost: one hash look-up.
  public func address(of name: String) -> VirtualAddress? {
    var found: VirtualAddress?
    forEachPosition(of: name) { position in
      found = VirtualAddress(addresses[position])
      return false
    }
    return found ?? variables[name]
  }

  /// All addresses of symbols called `name`, ascending: static functions and data often share a name.
  public func addresses(of name: String) -> [VirtualAddress] {
    var found: [VirtualAddress] = []
    forEachPosition(of: name) { position in
      found.append(VirtualAddress(addresses[position]))
      return true
    }
    return found.isEmpty ? variables[name].map { [$0] } ?? [] : found
  }

  /// The symbol that `address` belongs to, the first one where several start at the same place.
  ///
  /// - Returns: nil outside the kernel image, also for an offset in the per-CPU areas.
  ///
  /// Cost: a binary search. Mirrors `get_symbol_pos` in `kernel/kallsyms.c`.
  public func symbol(containing address: VirtualAddress) -> KernelSymbol? {
    // Only the kernel's half of the address space holds an image, and nothing is known to follow the last symbol.
    guard address.rawValue >> 63 == 1, let last = addresses.last, address.rawValue <= last else { return nil }
    let above = firstPosition { $0 > address.rawValue }
    guard above > 0, addresses[above - 1] >> 63 == 1 else { return nil }
    let start = addresses[above - 1]
    return self[firstPosition { $0 >= start }]
  }

  /// The type letters of the symbols called `name` at `address`.
  public func lettersOfSymbols(at address: VirtualAddress, named name: String) -> [Character] {
    var letters: [Character] = []
    forEachPosition(of: name) { position in
      if addresses[position] == address.rawValue { letters.append(self[position].type) }
      return true
    }
    return letters
  }

  /// How many bytes lie between the symbol at `address` and the next one above: its size, padding included.
  ///
  /// Nil for the last, and for variables that the tables do not list. Cost: a binary search. Mirrors `get_symbol_pos` in `kernel/kallsyms.c`.
  public func size(ofSymbolAt address: VirtualAddress) -> UInt64? {
    let above = firstPosition { $0 > address.rawValue }
    guard variables.isEmpty || above > 0 && addresses[above - 1] == address.rawValue else { return nil }
    return above < addresses.count ? addresses[above] - address.rawValue : nil
  }

  /// The first position whose address satisfies `condition`, which all later ones satisfy too.
  private func firstPosition(where condition: (UInt64) -> Bool) -> Int {
    var low = 0
    var high = addresses.count
    while low < high {
      let middle = (low + high) / 2
      if condition(addresses[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Calls `body` with the position of each symbol called `name`, ascending, until it returns false.
  private func forEachPosition(of name: String, _ body: (Int) -> Bool) {
    var item = index.first(hash: NameHash.of(name))
    while item != NameIndex.none {
      let start = Int(starts[Int(item)]) + 1
      if text[start..<Int(starts[Int(item) + 1])].elementsEqual(name.utf8), !body(Int(item)) { return }
      item = index.next(item)
    }
  }
}

extension SymbolTable: RandomAccessCollection {
  public var startIndex: Int { 0 }
  public var endIndex: Int { addresses.count }

  public subscript(position: Int) -> KernelSymbol {
    let start = Int(starts[position])
    return KernelSymbol(
      name: String(decoding: text[(start + 1)..<Int(starts[position + 1])], as: UTF8.self),
      type: Character(Unicode.Scalar(text[start])),
      address: VirtualAddress(addresses[position]))
  }
}
