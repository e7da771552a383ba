import Binding
import LinuxKernel
import Memory

/// Reads the watched kernel's clock as of its last tick.
private struct UptimeReader: KernelReader {
  static let subject = "the clock"
  private let clock: ClockReader

  init(kernel: Kernel) throws { clock = try ClockReader(kernel: kernel) }

  func read(in space: AddressSpace) throws -> UInt64 {
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    space.read(&batch)
    return try clock.read(record, batch).uptime
  }
}

extension Kernel {
  /// Nanoseconds since boot, sleep included, at the kernel's last clock tick.
  package func uptime() throws(KernelError) -> UInt64 {
    let reader = try reader(UptimeReader.self)
    return try KernelError.reading(subject(of: UptimeReader.self)) { try reader.read(in: addressSpace) }
  }

  /// The id of this boot, as /proc/sys/kernel/random/boot_id has it; nil where nobody has asked the kernel for it yet.
  package var bootID: String? {
    symbols.address(of: "sysctl_bootid").flatMap { try? addressSpace.read($0, count: 16) }.flatMap { Text.bootID($0) }
  }
}
