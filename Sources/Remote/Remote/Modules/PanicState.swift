import Memory
public import Region

/// Whether the host died, and the last it said: what `monitors/panic.c` gives.
public struct PanicState: ModuleView {
  /// A record of the kernel log.
  public struct Line: Hashable, Sendable {
    /// Its number since boot.
    public let sequence: UInt64
    /// Nanoseconds since boot.
    public let time: UInt64
    public let caller: UInt32
    /// printk's level, 0 (emergency) to 7 (debug).
    public let level: UInt8
    public let facility: UInt8
    /// Its text, of which the module gives 512 bytes at most.
    public let text: [UInt8]
  }

  /// The CPU that panicked, nil as long as none did.
  public let panicCPU: Int?
  /// Whether a CPU is just printing an oops.
  public let isInOops: Bool
  /// Bits as in /proc/sys/kernel/tainted.
  public let taint: UInt64
  /// The newest records of the log, oldest first.
  public let lines: [Line]
  public static let module = "panic"

  public init?(_ result: MonitorResult) {
    let states = Self.records(result, kind: 1, size: 16) { reader throws(MemoryFault) in
      (cpu: try reader.load(0, as: Int32.self), oops: try reader.u32(4), taint: try reader.u64(8))
    }
    let lines = Self.records(result, kind: 2, size: 24...1024) { reader throws(MemoryFault) in
      let text = try reader.slice(24, count: Int(try reader.u16(22))).copy()
      return Line(
        sequence: try reader.u64(0), time: try reader.u64(8), caller: try reader.u32(16), level: try reader.u8(20),
        facility: try reader.u8(21), text: text)
    }
    guard let state = states?.first, states?.count == 1, let lines else { return nil }
    panicCPU = state.cpu < 0 ? nil : Int(state.cpu)
    isInOops = state.oops != 0
    taint = state.taint
    self.lines = lines.sorted { $0.sequence < $1.sequence }
  }
}
