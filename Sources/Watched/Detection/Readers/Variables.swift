import KernelViews

extension Look {
  /// The kernel's variable `name`, a number of `size` bytes; nil where this kernel has no such variable.
  func number(_ name: String, size: Int = 4) throws(KernelError) -> UInt64? {
    guard let address = kernel.symbols.address(of: name) else { return nil }
    let kernel = kernel
    return try KernelError.reading("the variable \(name)") {
      let bytes = try kernel.addressSpace.read(address, count: size)
      return bytes.enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << UInt64(8 * $1.offset) }
    }
  }

  /// How long ago the kernel's count of ticks was `tick`, in nanoseconds; nil where it was not yet, or is not to be had.
  func nanoseconds(sinceTick tick: UInt64) throws(KernelError) -> UInt64? {
    guard let now = try number("jiffies_64", size: 8), let length = try number("tick_nsec", size: 8), length > 0,
      now > tick
    else { return nil }
    let (age, overflow) = (now - tick).multipliedReportingOverflow(by: length)
    return overflow ? nil : age
  }

  /// The text in the kernel's array `name`, up to its first zero; nil where this kernel has no such variable.
  func text(_ name: String, limit: Int = 256) throws(KernelError) -> [UInt8]? {
    guard let address = kernel.symbols.address(of: name) else { return nil }
    let size = min(Int(clamping: kernel.symbols.size(ofSymbolAt: address) ?? UInt64(limit)), limit)
    let kernel = kernel
    return try KernelError.reading("the variable \(name)") {
      Array(try kernel.addressSpace.read(address, count: size).prefix { $0 != 0 })
    }
  }
}
