package import Binding
import KernelInfo
package import Memory

/// Reads the kernel's clocks as of its last tick.
///
/// The timekeeper's shadow is read: a symbol of its own with a named type, equal to the timekeeper after every tick.
/// Source: kernel/time/timekeeping.c.
package struct ClockReader: Sendable {
  private struct Timekeeper: KernelShape {
    static let type = "timekeeper"
    let base = Field<UInt64>("tkr_mono.base")
    let shift = Field<UInt64>("tkr_mono.shift")
    let nanoseconds = Field<UInt64>("tkr_mono.xtime_nsec")
    let bootOffset = Field<UInt64>("offs_boot")
    let seconds = Field<Int64>("xtime_sec")
    let tick = Field<UInt64>(optional: "ntp_tick")
  }

  private let address: VirtualAddress
  private let timekeeper: Bound<Timekeeper>

  package init(kernel: Kernel) throws {
    let subject = "the clock of Linux \(kernel.release)"
    if let shadow = kernel.symbols.address(of: "shadow_timekeeper") {
      address = shadow
    } else {
      // From 6.13 on timekeeper and shadow share a struct that starts with a sequence lock, and from 6.17 on that is the
      // first of an array, of which the others are for clocks of devices.
      let core = try kernel.types.structure("tk_data")
      let data = try kernel.symbols.address(of: "timekeeper_data") ?? kernel.symbol("tk_core", for: subject)
      address = try data + core.field("shadow_timekeeper").offset
    }
    timekeeper = try Bound(kernel.types)
  }

  package func add(to batch: inout ReadBatch<VirtualAddress>) -> FieldSelection.Record {
    timekeeper.selection.add(to: &batch, at: address)
  }

  /// - Returns: nanoseconds since boot, sleep included, and seconds since 1970.
  package func read(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> (uptime: UInt64, wallClock: Int64) {
    let uptime = try monotonic(record, batch) &+ timekeeper.load(timekeeper.bootOffset, record, batch)
    return (uptime, try timekeeper.load(timekeeper.seconds, record, batch))
  }

  private func monotonic(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> UInt64 {
    let shift = try timekeeper.load(timekeeper.shift, record, batch) & 63
    return try timekeeper.load(timekeeper.base, record, batch)
      &+ (timekeeper.load(timekeeper.nanoseconds, record, batch) >> shift)
  }

  /// - Returns: nanoseconds of the monotonic clock at the last tick, and how long a tick is: the kernel's own setting, which
  ///   is in 2^-32 nanoseconds (NTP_SCALE_SHIFT), rounded to a whole number of ticks a second.
  package func readTick(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> (monotonic: Int64, nanosecondsPerTick: Int64) {
    let now = try monotonic(record, batch)
    let length = Double(try timekeeper.load(timekeeper.tick, record, batch)) / 4_294_967_296
    guard length >= 1000, length <= 1e9 else {
      throw MemoryFault(.virtual(address), .inconsistent("a tick of \(length) ns"))
    }
    return (Int64(bitPattern: now), 1_000_000_000 / Int64((1e9 / length).rounded()))
  }
}
