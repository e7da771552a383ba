package import Binding
import KernelInfo
package import Memory

/// Reads the kernel's clocks as of its last tick.
///
/// The timekeeper's shadow is read: a symbol of its own with a named type, equal to the timekeeper after every tick.
/// Source: kernel/time/timekeeping.c.
package struct ClockReader: Sendable {
  private let timekeeper: VirtualAddress
  private let selection: FieldSelection
  private let base, shift, nanoseconds, bootOffset, seconds, tick: FieldSelection.Field

  package init(kernel: Kernel) throws {
    let subject = "the clock of Linux \(kernel.release)"
    if let shadow = kernel.symbols.address(of: "shadow_timekeeper") {
      timekeeper = shadow
    } else {
      // From 6.13 on timekeeper and shadow share a struct that starts with a sequence lock, and from 6.17 on that is the
      // first of an array, of which the others are for clocks of devices.
      let core = try kernel.types.structure("tk_data")
      let data = try kernel.symbols.address(of: "timekeeper_data") ?? kernel.symbol("tk_core", for: subject)
      timekeeper = try data + core.field("shadow_timekeeper").offset
    }
    var fields = FieldSelection(try kernel.types.structure("timekeeper"))
    base = try fields.want("tkr_mono.base")
    shift = try fields.want("tkr_mono.shift")
    nanoseconds = try fields.want("tkr_mono.xtime_nsec")
    bootOffset = try fields.want("offs_boot")
    seconds = try fields.want("xtime_sec")
    tick = try fields.wantIfPresent("ntp_tick")
    selection = fields
  }

  package func add(to batch: inout ReadBatch<VirtualAddress>) -> FieldSelection.Record {
    selection.add(to: &batch, at: timekeeper)
  }

  /// - Returns: nanoseconds since boot, sleep included, and seconds since 1970.
  package func read(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> (uptime: UInt64, wallClock: Int64) {
    let shift = try selection.load(shift, record, batch) & 63
    let uptime =
      try selection.load(base, record, batch) &+ (selection.load(nanoseconds, record, batch) >> shift)
      &+ selection.load(bootOffset, record, batch)
    return (uptime, Int64(bitPattern: try selection.load(seconds, record, batch)))
  }

  /// - Returns: nanoseconds of the monotonic clock at the last tick, and how long a tick is: the kernel's own setting, which
  ///   is in 2^-32 nanoseconds (NTP_SCALE_SHIFT), rounded to a whole number of ticks a second.
  package func readTick(
    _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> (monotonic: Int64, nanosecondsPerTick: Int64) {
    let shift = try selection.load(shift, record, batch) & 63
    let now = try selection.load(base, record, batch) &+ (selection.load(nanoseconds, record, batch) >> shift)
    let length = Double(try selection.load(tick, record, batch)) / 4_294_967_296
    guard length >= 1000, length <= 1e9 else {
      throw MemoryFault(.virtual(timekeeper), .inconsistent("a tick of \(length) ns"))
    }
    return (Int64(bitPattern: now), 1_000_000_000 / Int64((1e9 / length).rounded()))
  }
}
