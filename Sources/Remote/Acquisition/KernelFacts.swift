public import Memory

/// What an image says of the kernel in it, so that other programs find it.
public struct KernelFacts: Hashable, Sendable {
  /// The text of its VMCOREINFO note; empty where it has none.
  public var coreInfo: [UInt8]
  /// As `uname -r` and `uname -v` print them.
  public var release: String
  public var version: String
  /// Where it maps physical address 0.
  public var directMap: VirtualAddress
  /// What to add to a distance from the start of the kernel's mapping to get the physical address.
  public var physicalBase: Int64
  /// What CPUs saved of their registers when it died, by their numbers: `struct elf_prstatus`, of the kernel's own layout.
  public var registers: [Int: [UInt8]]

  public init(
    coreInfo: [UInt8], release: String, version: String, directMap: VirtualAddress, physicalBase: Int64,
    registers: [Int: [UInt8]] = [:]
  ) {
    self.coreInfo = coreInfo
    self.release = release
    self.version = version
    self.directMap = directMap
    self.physicalBase = physicalBase
    self.registers = registers
  }
}
