public import Memory

/// A name of the kernel image.
public struct KernelSymbol: Hashable, Sendable {
  public let name: String
  /// The letter that `nm` and /proc/kallsyms print: T for code, D for data, and so on.
  public let type: Character
  /// The run-time address.
  ///
  /// A per-CPU symbol of kernels before 6.15 has a small value: the offset in each CPU's area.
  public let address: VirtualAddress
}
