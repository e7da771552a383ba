import Foundation
public import Lab
import Testing

/// What needs a booted guest and can share it, one test at a time: guests are slow to boot.
@Suite(.serialized, .guests(1)) enum GuestTests {
  /// Shell commands, run while the guest has one CPU alone: for those that make the kernel change its own code.
  ///
  /// The kernel puts a breakpoint there for a moment, and an emulated CPU may still run into it when that moment is over:
  /// then the kernel knows nothing of it, and dies.
  static func alone(_ commands: String) -> String {
    let other = "/sys/devices/system/cpu/cpu1/online"
    return "(echo 0 > \(other); \(commands); status=$?; echo 1 > \(other); exit $status)"
  }
}

/// What needs guests of its own, one test at a time: it breaks them, or joins several.
///
/// `scripts/test` runs these beside ``GuestTests``, in a process of their own.
@Suite(.serialized, .guests(1)) enum OwnGuestTests {}

/// Guests that tests share: booted on first use, stopped while another is in use, and ended with the test process.
final class SharedGuests: @unchecked Sendable {
  // Sendable because the lock guards the guests.
  static let shared = SharedGuests()
  private let lock = NSLock()
  /// The one that was asked for last is the last.
  ///
  /// At most one runs.
  private var kept: [Guest] = []
  /// How many are kept beside those of ``standardGuests``: each may take its whole RAM.
  private static let others = 2

  private init() {
    // Guests end with this process; this one is to end with whoever runs the tests, also where that is killed.
    let parent = getppid()
    Thread.detachNewThread {
      while getppid() == parent { sleep(1) }
      kill(getpid(), SIGKILL)
    }
  }

  /// A running guest of this kind; every other one stands still.
  func guest(_ options: GuestOptions) throws -> Guest {
    lock.lock()
    defer { lock.unlock() }
    if kept.last?.options != options { stopAll() }
    if let index = kept.firstIndex(where: { $0.options == options }) {
      let known = kept.remove(at: index)
      // One that a test left unable to answer must not cost every later one its time.
      if (try? known.resume()) != nil, (try? known.run("true", timeout: .seconds(20)))?.status == 0 {
        kept.append(known)
        return known
      }
      known.shutDown()
    }
    let others = kept.indices.filter { !standardGuests.contains(kept[$0].options) }
    if !standardGuests.contains(options), others.count >= Self.others { kept.remove(at: others[0]).shutDown() }
    let guest = try Guest(options)
    kept.append(guest)
    return guest
  }

  /// A guest that a test may break, and ends itself.
  ///
  /// It has the machine to itself.
  func own(_ options: GuestOptions) throws -> Guest {
    rest()
    return try Guest(options)
  }

  /// Stops all that are shared.
  func rest() {
    lock.lock()
    defer { lock.unlock() }
    stopAll()
  }

  private func stopAll() {
    // One that cannot be stopped has ended.
    kept.removeAll { (try? $0.pause()) == nil }
  }
}

/// The guests of most tests, one of each series, with modules for disks in files and for an Ethernet device.
///
/// They are kept for all of them. A test leaves no more behind than others can live with: processes that sleep, mounts.
/// `GRASS_GUESTS` names others: `GRASS_GUESTS="5.10/4 7.1/5"` runs the tests on two kernels with page tables of four and
/// of five levels.
let standardGuests =
  ProcessInfo.processInfo.environment["GRASS_GUESTS"].map(guests(named:)) ?? [
    standardGuest("6.1", .fourLevel), standardGuest("6.12", .fiveLevel),
  ]

private func standardGuest(_ label: String, _ paging: GuestOptions.Paging) -> GuestOptions {
  let modules = (try? KernelStore().kernel(label))?.deviceModules ?? []
  return GuestOptions(kernel: label, paging: paging, programs: modules.map(\.path))
}

/// The guests that words like `6.1/4` mean: a kernel's label, and the depth of page tables.
private func guests(named names: String) -> [GuestOptions] {
  names.split(separator: " ").map { name in
    let parts = name.split(separator: "/")
    guard parts.count == 2, let paging = Int(parts[1]).flatMap(GuestOptions.Paging.init) else {
      fatalError("GRASS_GUESTS has '\(name)', which is no kernel with a depth of page tables, as 6.1/4 is")
    }
    return standardGuest(String(parts[0]), paging)
  }
}

/// The kernels that every view is checked on: both series, all flavours, both paging depths; with `GRASS_ALL_KERNELS` set,
/// every kernel that was fetched; with `GRASS_GUESTS`, those that it names.
let guestKinds: [GuestOptions] =
  ProcessInfo.processInfo.environment["GRASS_GUESTS"] != nil
  ? standardGuests
  : ProcessInfo.processInfo.environment["GRASS_ALL_KERNELS"] == nil
    ? newestKernels
    : KernelStore().kernels().enumerated().map { index, kernel in
      GuestOptions(kernel: kernel.release, memory: 512, paging: index % 2 == 0 ? .fourLevel : .fiveLevel)
    }

/// The kernels at the ends of the range, of which a few broad tests run on one guest each; none where `GRASS_GUESTS` names
/// the guests of all tests.
let otherKernels: [GuestOptions] =
  ProcessInfo.processInfo.environment["GRASS_GUESTS"] != nil
  ? [] : [("5.10", GuestOptions.Paging.fiveLevel), ("6.18", .fourLevel), ("7.1", .fiveLevel)].map(standardGuest)

// Those of real-time kernels come last: the tests of locks, which follow, find them still there.
private let newestKernels: [GuestOptions] =
  standardGuests + [
    GuestOptions(kernel: "6.1", paging: .fiveLevel),
    GuestOptions(kernel: "6.1-cloud", paging: .fourLevel),
    GuestOptions(kernel: "6.12-cloud", paging: .fourLevel),
    GuestOptions(kernel: "6.1-rt", paging: .fiveLevel),
    GuestOptions(kernel: "6.12-rt", paging: .fourLevel),
  ]

extension GuestOptions: CustomStringConvertible {
  /// Whether there are no modules for this guest's kernel.
  var lacksModules: Bool { (try? KernelStore().kernel(kernel))?.lacksModules ?? false }

  public var description: String { "\(kernel), \(paging.rawValue)-level, \(memory) MiB" }
}
