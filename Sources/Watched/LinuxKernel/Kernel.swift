public import KernelInfo
public import Memory
public import Paging
import Synchronization

/// A Linux kernel in the memory of a host: what every view starts from.
///
/// Its address space, symbols and types are fixed when it is opened; what they lead to is read anew by each view.
/// Views of a live host see memory that changes under them; each copies what it needs and says where it had to give up.
public final class Kernel: Sendable {
  public let memory: any PhysicalMemory
  public let found: FoundKernel
  /// The kernel's own address space, with its image and the direct map as linear ranges.
  public let addressSpace: AddressSpace
  /// What those who use it ought to know: that its symbols are kept ones, or that they could not be kept.
  public let notes: [String]

  /// Where the memory holds the tables of the symbols; nil where they are kept ones.
  package let symbolTables: SymbolTables?

  /// Readers of further views, by their types.
  let readers = Mutex<[ObjectIdentifier: any KernelReader]>([:])

  public var release: String { found.release }
  public var symbols: SymbolTable { found.symbols }
  public var types: TypeTable { found.types }

  /// Finds the kernel in `memory`, with nothing given but the bytes.
  ///
  /// Cost: one pass over the memory until it is found; none with a hint.
  ///
  /// - Parameters:
  ///   - memory: the physical memory of a machine, or a copy of it.
  ///   - hint: where one was found before; believed only if it holds.
  ///   - known: builds that were proven before, to spare reading their tables, and to stand in for tables that do not serve.
  /// - Throws: ``KernelError`` with what was tried.
  public convenience init(
    memory: any PhysicalMemory, hint: PhysicalAddress? = nil, known: BuildFolder? = nil
  ) throws(KernelError) {
    self.init(try KernelFinder(layouts: [memory], known: known).find(hint: hint))
  }

  /// Opens the kernel in the one of `layouts` that fits: several ways to lay out one raw image in physical memory.
  ///
  /// The kernel itself knows where its memory ends, so it decides which layout was right.
  ///
  /// - Throws: ``KernelError`` with what was tried. Cost: as ``init(memory:hint:known:)``, for each layout.
  public static func open(
    _ layouts: [any PhysicalMemory], hint: PhysicalAddress? = nil, known: BuildFolder? = nil
  ) throws(KernelError) -> Kernel {
    Kernel(try KernelFinder(layouts: layouts, known: known).find(hint: hint))
  }

  package init(_ proven: ProvenKernel) {
    memory = proven.memory
    found = proven.found
    addressSpace = proven.addressSpace
    notes = proven.notes
    symbolTables = proven.tables
  }

  /// The same kernel, in which every address is looked up in the page tables, and nothing is by addition: another way to read it.
  package func walkingPageTables() -> Kernel {
    let space = AddressSpace(memory: memory, format: addressSpace.format, root: addressSpace.root)
    return Kernel(
      ProvenKernel(memory: memory, found: found, addressSpace: space, tables: symbolTables, notes: notes))
  }

  /// The address of a symbol that `subject` cannot do without.
  package func symbol(_ name: String, for subject: String) throws(KernelError) -> VirtualAddress {
    guard let address = symbols.address(of: name) else { throw KernelError(subject, .missingSymbol(name)) }
    return address
  }
}
