public import KernelInfo
public import Memory

/// A Linux kernel found in physical memory: what it says about itself, its symbols and its types.
public struct FoundKernel: Sendable {
  /// Where the x86-64 kernel's mapping of its own image starts (`__START_KERNEL_map`).
  package static let imageMap = VirtualAddress(0xffff_ffff_8000_0000)
  /// The size of the largest such mapping (`KERNEL_IMAGE_SIZE`).
  package static let imageMapSize: UInt64 = 1 << 30
  /// An image starts at a multiple of this, in physical memory and in its mapping (`CONFIG_PHYSICAL_ALIGN`, as all
  /// distributions have it): its pages are mapped as large ones.
  package static let imageAlignment: UInt64 = 2 << 20

  /// The release as `uname -r` prints it.
  public let release: String
  /// The banner as /proc/version prints it, without the line's end.
  public let banner: String
  /// The note that the kernel keeps for crash tools; nil where it was found without one.
  public let coreInfo: VMCoreInfo?
  /// Where the VMCOREINFO note lies, or where there is none a place in the token table of the symbols: as a hint it spares a
  /// later search.
  public let coreInfoAddress: PhysicalAddress
  /// The linker's build ID in hexadecimal, where the note gives it.
  public let buildID: String?
  /// How far address randomisation moved the image from where it was linked, in bytes.
  public let slide: UInt64
  /// What to add to a distance from the start of the kernel's mapping to get the physical address.
  public let physicalBase: Int64
  /// The kernel's own top page table (`swapper_pg_dir`).
  public let rootPageTable: PhysicalAddress
  /// 4 or 5.
  public let pagingLevels: Int
  /// The kernel image at its run-time addresses, from `_text` up to `_end`.
  public private(set) var imageRange: Range<VirtualAddress>
  public private(set) var symbols: SymbolTable
  public let types: TypeTable
  /// Whether its symbols name variables, as with CONFIG_KALLSYMS_ALL.
  ///
  /// Where they do not, those that the first task leads to are found by their form and added.
  public let listsVariables: Bool
  /// Where symbols and types were taken from.
  public let tableSource: TableSource

  /// What `claims` say, and what the image said to them.
  package init(_ claims: KernelClaims, release: String, banner: String, types: TypeTable) {
    self.release = release
    self.banner = banner
    coreInfo = if case .note(let note) = claims.claimant { note } else { nil }
    coreInfoAddress = claims.place
    buildID = claims.buildID
    slide = claims.slide
    physicalBase = claims.physicalBase
    rootPageTable = claims.root
    pagingLevels = claims.levels
    imageRange = claims.image
    symbols = claims.symbols
    self.types = types
    listsVariables = claims.listsVariables
    tableSource = claims.source
  }

  /// The same kernel with variables that were found by their form, and with its image up to `imageEnd`.
  package func adding(_ variables: [String: VirtualAddress], imageEnd: VirtualAddress) -> FoundKernel {
    var kernel = self
    kernel.symbols = symbols.adding(variables)
    kernel.imageRange = imageRange.lowerBound..<max(imageEnd, imageRange.lowerBound)
    return kernel
  }

  /// Where a byte of the kernel image lies; nil outside the image.
  public func physicalAddress(ofImage address: VirtualAddress) -> PhysicalAddress? {
    imageRange.contains(address) ? Self.physicalAddress(address, physicalBase: physicalBase) : nil
  }

  /// The symbol's address, or an error that names the symbol and the release.
  public func symbol(_ name: String) throws(KernelInfoError) -> VirtualAddress {
    guard let address = symbols.address(of: name) else {
      throw KernelInfoError(.missingSymbol(name), release: release)
    }
    return address
  }

  package static func physicalAddress(_ address: VirtualAddress, physicalBase: Int64) -> PhysicalAddress? {
    let distance = address.distance(from: imageMap)
    guard distance < imageMapSize else { return nil }
    let (sum, overflow) = Int64(distance).addingReportingOverflow(physicalBase)
    return overflow || sum < 0 ? nil : PhysicalAddress(UInt64(sum))
  }
}
