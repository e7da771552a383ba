import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// What of a host is the same as long as its kernel runs.
struct HostConstants: Sendable {
  /// Major and minor number of the release: `(6, 12)`.
  let version: (Int, Int)
  /// How many CPUs sets of them have room for (`nr_cpu_ids`).
  let cpus: Int
  /// Seconds since 1970 at the boot, as `btime` of /proc/stat.
  let bootTime: Int64
  /// How a task stands that asked for no protection against speculation; nil where it cannot be told.
  let speculation: Speculation?

  /// What arch/x86/kernel/cpu/bugs.c decided.
  struct Speculation: Sendable {
    var hasStoreBypass, hasBranchInjection: Bool
    var storeBypass, branchBarrier, branchPredictors: UInt32
  }

  init(_ kernel: Kernel) throws(KernelError) {
    let parts = kernel.release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    version = (parts.first ?? 0, parts.dropFirst().first ?? 0)
    let possible = try kernel.cpus().map(\.number).max() ?? 0
    cpus = (try? kernel.number("nr_cpu_ids")).map { min(Int($0), 8192) } ?? possible + 1
    bootTime = try Self.bootTime(kernel)
    speculation = try? Self.speculation(kernel)
  }

  /// Whether the kernel is of this release or a later one.
  func isAtLeast(_ major: Int, _ minor: Int) -> Bool { version >= (major, minor) }

  /// The wall clock less the time since the boot, both of the same tick, as `getboottime64` has it.
  private static func bootTime(_ kernel: Kernel) throws(KernelError) -> Int64 {
    let clock = try KernelError.reading("the clock") { try BootClock(kernel: kernel) }
    return try KernelError.reading("the clock") { try clock.read(kernel) }
  }

  private static func speculation(_ kernel: Kernel) throws -> Speculation {
    var faults: [MemoryFault] = []
    let bugs = try CPUInfoView.read(kernel, &faults).first?.bugs ?? []
    return Speculation(
      hasStoreBypass: bugs.contains("spec_store_bypass"), hasBranchInjection: bugs.contains("spectre_v2"),
      storeBypass: try kernel.number("ssb_mode"), branchBarrier: try kernel.number("spectre_v2_user_ibpb"),
      branchPredictors: try kernel.number("spectre_v2_user_stibp"))
  }
}

/// The moment of the boot.
///
/// Source: kernel/time/timekeeping.c, `getboottime64`: what has to be added to the wall clock to have the monotonic one, and the
/// time that the host slept.
struct BootClock {
  private struct Timekeeper: KernelShape {
    static let type = "timekeeper"
    let realOffset = Field<Int64>("offs_real"), bootOffset = Field<Int64>("offs_boot")
  }

  let address: VirtualAddress

  init(kernel: Kernel) throws {
    if let shadow = kernel.symbols.address(of: "shadow_timekeeper") {
      address = shadow
    } else {
      let data = try kernel.symbols.address(of: "timekeeper_data") ?? kernel.symbol("tk_core", for: "the clock")
      address = try data + kernel.offset(of: "shadow_timekeeper", in: "tk_data")
    }
  }

  /// Nanoseconds from the monotonic clock to the wall clock, and to the one that goes on while the host sleeps.
  func offsets(_ kernel: Kernel) throws -> (real: Int64, boot: Int64) {
    let clock = try kernel.read(Timekeeper.self, at: [address])[0]
    return (try clock.realOffset, try clock.bootOffset)
  }

  func read(_ kernel: Kernel) throws -> Int64 {
    let offsets = try offsets(kernel)
    let nanoseconds = offsets.real &- offsets.boot
    return Int64((Double(nanoseconds) / 1e9).rounded(.down))
  }
}

extension Kernel {
  /// HZ.
  ///
  /// Cost: a read.
  func ticksPerSecond() throws -> UInt64 {
    let clock = try ClockReader(kernel: self)
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    addressSpace.read(&batch)
    return UInt64(max(1, min(5000, 1_000_000_000 / max(1, try clock.readTick(record, batch).nanosecondsPerTick))))
  }
}
