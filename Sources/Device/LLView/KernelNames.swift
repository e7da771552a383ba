public import KernelInfo
public import LinuxKernel
public import Memory

/// What a monitor's names mean in one kernel: its types, and the addresses of its symbols.
public struct KernelNames: Sendable {
  public let release: String
  /// The linker's build ID in hexadecimal, empty where the kernel has none.
  public let build: String
  public let types: TypeTable
  /// What this boot added to the addresses of the kernel's image.
  let slide: UInt64
  let address: @Sendable (String) -> VirtualAddress?

  public init(
    release: String, build: String = "", types: TypeTable, slide: UInt64 = 0,
    address: @escaping @Sendable (String) -> VirtualAddress?
  ) {
    self.release = release
    self.build = build
    self.types = types
    self.slide = slide
    self.address = address
  }

  public init(_ kernel: FoundKernel) {
    let symbols = kernel.symbols
    self.init(
      release: kernel.release, build: kernel.buildID ?? "", types: kernel.types,
      slide: kernel.slide
    ) { symbols.address(of: $0) }
  }
}
