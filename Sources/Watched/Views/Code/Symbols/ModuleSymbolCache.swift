import Binding
import LinuxKernel
import Memory
import Paging

/// The symbols of those modules that somebody asked for.
final class ModuleSymbolCache {
  private let reader: ModuleSymbolReader
  private let space: AddressSpace
  private var known: [VirtualAddress: ModuleSymbols?] = [:]
  private(set) var faults: [MemoryFault] = []

  init(reader: ModuleSymbolReader, space: AddressSpace) {
    self.reader = reader
    self.space = space
  }

  func symbols(of module: LoadedModule) -> ModuleSymbols? {
    if let symbols = known[module.address] { return symbols }
    let symbols = read([module]).first
    known[module.address] = .some(symbols)
    return symbols
  }

  /// The symbols of all of `modules` that have them. Cost: three round trips.
  func read(_ modules: [LoadedModule]) -> [ModuleSymbols] {
    zip(modules, reader.read(modules, in: space)).compactMap { module, result in
      guard let symbols = faults.keep({ () throws(MemoryFault) in try result.get() }) else { return nil }
      if symbols.unnamed > 0 {
        faults.append(
          MemoryFault(
            .virtual(module.address),
            .inconsistent("a module with \(symbols.unnamed) symbols whose names lie outside its strings")))
      }
      return symbols
    }
  }
}
