import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// What adjtimex(2) says when nothing is to be changed: how the host's clock is kept.
///
/// Source: kernel/time/ntp.c, `__do_adjtimex`; include/linux/timex.h.
public struct ClockState: Sendable {
  /// Nanoseconds where the status has STA_NANO, else microseconds.
  public var offset: Int64
  /// Parts of a million, with 16 bits of fraction.
  public var frequency: Int64
  /// Microseconds.
  public var greatestError, estimatedError: Int64
  /// STA_*.
  public var status: Int32
  public var constant: Int64
  /// The wall clock as of the host's last tick.
  public var seconds, nanoseconds: Int64
  /// Microseconds.
  public var tick: Int64
  /// Seconds between the wall clock and atomic time.
  public var atomicOffset: Int32
  /// TIME_*: what the call returns.
  public var state: Int32

  /// STA_NANO, and the bits by which a clock counts as one that nobody keeps: STA_UNSYNC and STA_CLOCKERR.
  private static let isNano: Int32 = 0x2000, isUnkept: Int32 = 0x1040
  /// TIME_ERROR.
  private static let error: Int32 = 5

  private struct Data: KernelShape {
    static let type = "ntp_data"
    let tick = Field<UInt64>("tick_usec"), state = Field<Int32>("time_state"), status = Field<Int32>("time_status")
    let offset = Field<Int64>("time_offset"), constant = Field<Int64>("time_constant")
    let greatestError = Field<Int64>("time_maxerror"), estimatedError = Field<Int64>("time_esterror")
    let frequency = Field<Int64>("time_freq")
  }

  private struct Timekeeper: KernelShape {
    static let type = "timekeeper"
    let atomicOffset = Field<Int32>("tai_offset"), seconds = Field<Int64>("xtime_sec")
    let nanoseconds = Field<UInt64>("tkr_mono.xtime_nsec"), shift = Field<UInt64>("tkr_mono.shift")
  }

  init(_ kernel: Kernel) throws {
    let clock = try kernel.read(Timekeeper.self, at: [BootClock(kernel: kernel).address])[0]
    (seconds, atomicOffset) = (try clock.seconds, try clock.atomicOffset)
    nanoseconds = Int64(clamping: try clock.nanoseconds >> (clock.shift & 63))
    let scaledOffset: Int64, scaledFrequency: Int64
    if let address = kernel.symbols.address(of: "tk_ntp_data") {
      // From 6.14 on one struct; from 6.17 on the first of an array, whose others are for clocks of devices.
      let data = try kernel.read(Data.self, at: [address])[0]
      (tick, state, status) = (Int64(bitPattern: try data.tick), try data.state, try data.status)
      (scaledOffset, scaledFrequency, constant) = (try data.offset, try data.frequency, try data.constant)
      (greatestError, estimatedError) = (try data.greatestError, try data.estimatedError)
    } else {
      func word(_ name: String) throws -> Int64 {
        let address = try kernel.symbol(name, for: "how the clock is kept")
        let bytes = try kernel.addressSpace.read(address, count: 8)
        return Int64(bitPattern: try ByteReader(bytes.span.bytes).u64(0))
      }
      (tick, scaledOffset, scaledFrequency) = (try word("tick_usec"), try word("time_offset"), try word("time_freq"))
      state = Int32(bitPattern: try kernel.number("time_state"))
      status = Int32(bitPattern: try kernel.number("time_status"))
      constant = try word("time_constant")
      (greatestError, estimatedError) = (try word("time_maxerror"), try word("time_esterror"))
    }
    // Both have 32 bits of fraction (NTP_SCALE_SHIFT); the offset is what one tick of HZ has to make up for.
    let perTick = scaledOffset.multipliedReportingOverflow(by: Int64(try kernel.ticksPerSecond())).partialValue
    offset = Self.shifted(perTick, by: 32) / (status & Self.isNano == 0 ? 1000 : 1)
    // PPM_SCALE is 1000 << 16; its inverse has 19 bits more.
    let inverse = (1 as Int64) << 51 / (1000 << 16) + 1
    frequency = Self.shifted((scaledFrequency >> 19).multipliedReportingOverflow(by: inverse).partialValue, by: 32)
    if status & Self.isUnkept != 0 { state = Self.error }
  }

  /// Towards zero, as the kernel's `shift_right`.
  private static func shifted(_ value: Int64, by count: Int64) -> Int64 {
    value < 0 ? -(0 &- value >> count) : value >> count
  }
}
