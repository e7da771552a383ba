import Foundation
public import Lab
import Testing

/// Everything that needs a booted guest, one test at a time: guests are slow to boot and share two cores.
@Suite(.serialized) enum GuestTests {}

/// Guests that tests share: booted on first use, kept until others are needed, and ended with the test process.
final class SharedGuests: @unchecked Sendable {
  // Sendable because the lock guards the list.
  static let shared = SharedGuests()
  private let lock = NSLock()
  private var guests: [(options: GuestOptions, guest: Guest)] = []

  /// A running guest of this kind. Tests that break theirs boot one of their own.
  func guest(_ options: GuestOptions) throws -> Guest {
    lock.lock()
    defer { lock.unlock() }
    if let known = guests.first(where: { $0.options == options }) { return known.guest }
    // At most one is kept beside a test's own: each takes its whole RAM.
    while let oldest = guests.first {
      oldest.guest.shutDown()
      guests.removeFirst()
    }
    let guest = try Guest(options)
    guests.append((options, guest))
    return guest
  }
}

/// The kernels that every view is checked on: both series, all flavours, both paging depths; with `GRASS_ALL_KERNELS` set,
/// every kernel that was fetched.
let guestKinds: [GuestOptions] =
  ProcessInfo.processInfo.environment["GRASS_ALL_KERNELS"] == nil
  ? newestKernels
  : KernelStore().kernels().enumerated().map { index, kernel in
    GuestOptions(kernel: kernel.release, memory: 512, paging: index % 2 == 0 ? .fourLevel : .fiveLevel)
  }

private let newestKernels: [GuestOptions] = [
  GuestOptions(kernel: "6.1", paging: .fourLevel),
  GuestOptions(kernel: "6.1", paging: .fiveLevel),
  GuestOptions(kernel: "6.1-cloud", paging: .fourLevel),
  GuestOptions(kernel: "6.1-rt", paging: .fiveLevel),
  GuestOptions(kernel: "6.12", paging: .fiveLevel),
  GuestOptions(kernel: "6.12-cloud", paging: .fourLevel),
  GuestOptions(kernel: "6.12-rt", paging: .fourLevel),
]

extension GuestOptions: CustomStringConvertible {
  public var description: String { "\(kernel), \(paging.rawValue)-level, \(memory) MiB" }
}
