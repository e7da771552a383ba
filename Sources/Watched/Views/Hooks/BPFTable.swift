import Binding
public import LinuxKernel
public import Memory

/// A BPF program that the kernel has loaded.
public struct BPFProgram: Sendable {
  public var address: VirtualAddress
  public var id: UInt32
  /// As enum bpf_prog_type numbers them.
  public var type: UInt32
  /// Any bytes but zero; empty where its maker gave it none.
  public var name: [UInt8]
  /// The eight bytes that tell programs of equal instructions.
  public var tag: [UInt8]
  public var instructions: UInt32
  /// Nanoseconds from the boot to its loading.
  public var loadTime: UInt64
  /// The code that runs.
  public var function: VirtualAddress
}

/// A BPF map.
public struct BPFMap: Sendable {
  public var address: VirtualAddress
  public var id: UInt32
  /// As enum bpf_map_type numbers them.
  public var type: UInt32
  public var name: [UInt8]
  /// Bytes.
  public var keySize: UInt32
  public var valueSize: UInt32
  public var mostEntries: UInt32
}

/// The BPF programs and maps of a host.
public struct BPFTable: Faulted {
  public var programs: [BPFProgram] = []
  public var maps: [BPFMap] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The BPF programs and maps that have numbers: all but those being made. Cost: about ten round trips.
  public func bpf() throws(KernelError) -> BPFTable { try read(BPFReader.self) }
}
