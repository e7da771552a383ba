import Binding
import KernelInfo
package import LinuxKernel
package import Memory
package import Paging

/// Whose an address of code is: the kernel's text from `_stext` to `_etext`, or a module's memory.
///
/// Modules keep their memory as up to seven regions from 6.4 on, before as one layout for as long as they live and one
/// until they are initialised.
/// Source: include/linux/module.h, `within_module`.
package struct CodeMap: KernelReader {
  package static let subject = "the modules' memory"

  private let text: Range<UInt64>
  private let early: Range<UInt64>
  private let symbols: SymbolTable
  private let modules: ModuleFields?
  private let head: VirtualAddress?
  private let moduleSymbols: ModuleSymbolReader?

  /// The modules at one moment; their symbols are read when they are asked for.
  package struct Snapshot {
    fileprivate(set) var modules: [LoadedModule] = []
    fileprivate let text: Range<UInt64>
    fileprivate let early: Range<UInt64>
    fileprivate let symbols: SymbolTable
    fileprivate let moduleSymbols: ModuleSymbolCache?
    package var faults: [MemoryFault] = []

    /// What could not be read of the symbols that were asked for so far.
    package var symbolFaults: [MemoryFault] { moduleSymbols?.faults ?? [] }

    private func isKernel(_ address: VirtualAddress) -> Bool {
      text.contains(address.rawValue) || early.contains(address.rawValue)
    }

    private func module(of address: VirtualAddress) -> LoadedModule? {
      modules.first { $0.parts.contains { $0.contains(address.rawValue) } }
    }

    /// Whose code it is, with the symbol as the kernel writes it. Cost: three round trips for the first one of a module.
    package func place(of address: VirtualAddress) -> CodePlace {
      let symbol = symbol(at: address).map { place in
        "\(place.name)+0x\(String(place.offset, radix: 16))\(place.module.map { " [\($0)]" } ?? "")"
      }
      if isKernel(address) { return CodePlace(address: address, owner: .kernel, symbol: symbol) }
      let module = module(of: address)
      return CodePlace(address: address, owner: module.map { .module($0.name) } ?? .unknown, symbol: symbol)
    }

    /// Whether it is code of the kernel or of a module.
    package func isCode(_ address: VirtualAddress) -> Bool { isKernel(address) || module(of: address) != nil }

    /// The module that `address` belongs to.
    package func moduleName(of address: VirtualAddress) -> [UInt8]? {
      isKernel(address) ? nil : module(of: address)?.name
    }

    /// The symbol that `address` belongs to, of the kernel's text or of a module.
    package func symbol(at address: VirtualAddress) -> SymbolPlace? {
      if isKernel(address) { return SymbolMap(image: symbols).place(of: address) }
      return module(of: address).flatMap { moduleSymbols?.symbols(of: $0) }?.place(of: address)
    }

    /// All symbols, both ways. Cost: three round trips.
    package func symbolMap() -> SymbolMap {
      let read = moduleSymbols?.read(modules) ?? []
      return SymbolMap(image: symbols, modules: read, faults: faults + symbolFaults)
    }
  }

  package init(kernel: Kernel) throws {
    let start = try kernel.symbol("_stext", for: Self.self).rawValue
    text = start..<max(start, try kernel.symbol("_etext", for: Self.self).rawValue)
    // Vectors that no exception uses keep the gates that the boot gave all 32 (arch/x86/kernel/head_64.S).
    let gates = kernel.symbols.address(of: "early_idt_handler_array")
    let size = gates.flatMap { kernel.symbols.size(ofSymbolAt: $0) } ?? 0
    early = gates.map { $0.rawValue..<max($0.rawValue, $0.rawValue &+ min(size, 4096)) } ?? 0..<0
    symbols = kernel.symbols
    // A kernel without modules has no list of them.
    head = kernel.symbols.address(of: "modules")
    modules = try head.map { _ in try ModuleFields(types: kernel.types) }
    moduleSymbols = try head.map { _ in try kernel.reader(ModuleSymbolReader.self) }
  }

  /// The modules as somebody noted them whose memory is gone, and with it their symbols.
  package func snapshot(of noted: [LoadedModule]) -> Snapshot {
    Snapshot(modules: noted, text: text, early: early, symbols: symbols, moduleSymbols: nil)
  }

  package func snapshot(in space: AddressSpace) -> Snapshot {
    var snapshot = Snapshot(
      text: text, early: early, symbols: symbols,
      moduleSymbols: moduleSymbols.map { ModuleSymbolCache(reader: $0, space: space) })
    if let modules, let head { (snapshot.modules, snapshot.faults) = modules.modules(ofHead: head, in: space) }
    return snapshot
  }
}
