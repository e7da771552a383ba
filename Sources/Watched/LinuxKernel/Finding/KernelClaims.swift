package import KernelInfo
package import Memory

/// What is claimed of a kernel before anything of it is proven, and who claims it.
///
/// There are several ways to come by claims: a VMCOREINFO note (``NoteReader``) or the form of a kernel's tables
/// (``TableSearch`` and ``ImageSearch``). All end here, and ``KernelProof`` holds them against the memory.
package struct KernelClaims: Sendable {
  package enum Claimant: Sendable {
    /// A note, to which the kernel's own pointer has to lead.
    case note(VMCoreInfo)
    /// Nobody: its tables were known by their form.
    case form
  }

  /// Where its type information is.
  package enum Types: Sendable {
    case bytes(Range<VirtualAddress>)
    /// Found by its header and parsed already.
    case parsed(TypeTable, at: Range<VirtualAddress>)
  }

  package var claimant: Claimant
  /// Where the claims come from: the note's address, or a place in the table of tokens.
  package var place: PhysicalAddress
  /// The release that the banner has to name; nil takes the banner's word for it.
  package var release: String?
  /// The linker's build ID in hexadecimal, where it is known.
  package var buildID: String?
  /// What to add to a distance from the start of the kernel's mapping to get the physical address.
  package var physicalBase: Int64
  /// The kernel's own top page table, and how many levels it heads.
  package var root: PhysicalAddress
  package var levels: Int
  /// How far the image lies from where it was linked to run, in bytes.
  package var slide: UInt64
  package var symbols: SymbolTable
  package var image: Range<VirtualAddress>
  package var banner: VirtualAddress
  package var types: Types
  /// Whether the symbols name variables, as with CONFIG_KALLSYMS_ALL.
  package var listsVariables: Bool
  /// Where the memory holds the tables of the symbols; nil where they are kept ones.
  package var tables: SymbolTables?
  package var source = TableSource.memory

  /// Where the image is linked to start: 16 MiB into its mapping (CONFIG_PHYSICAL_START).
  package static let linkedStart = FoundKernel.imageMap + 0x100_0000
}

extension SymbolTable {
  /// The symbol's address, or an error that names it.
  package func required(_ name: String) throws(KernelInfoError) -> VirtualAddress {
    guard let address = address(of: name) else { throw KernelInfoError(.missingSymbol(name)) }
    return address
  }

  /// What lies between two symbols, at most `limit` bytes.
  package func range(
    _ first: String, _ last: String, limit: UInt64
  ) throws(KernelInfoError) -> Range<VirtualAddress> {
    let (start, end) = (try required(first), try required(last))
    guard start < end, end.distance(from: start) <= limit else {
      throw KernelInfoError(.inconsistent("'\(first)' is \(start) and '\(last)' is \(end)"))
    }
    return start..<end
  }

  /// Whether it has more than functions.
  ///
  /// - Throws: ``KernelInfoError`` where it does and lacks the top page table.
  package func listsVariables() throws(KernelInfoError) -> Bool {
    guard address(of: "init_top_pgt") == nil else { return true }
    // Only where that is missing are all symbols looked at.
    if !contains(where: { "dDbBrR".contains($0.type) }) { return false }
    throw KernelInfoError(.missingSymbol("init_top_pgt"))
  }
}

extension FoundKernel {
  /// The most bytes that type information has.
  package static let longestTypes: UInt64 = 32 << 20

  /// Where `what` lies, which has to be in an image.
  package static func place(
    of address: VirtualAddress, _ what: String, physicalBase: Int64
  ) throws(KernelInfoError) -> PhysicalAddress {
    guard let place = physicalAddress(address, physicalBase: physicalBase) else {
      throw KernelInfoError(.inconsistent("'\(what)' at \(address) is outside any image"))
    }
    return place
  }
}
