import Foundation
public import Lab
import Testing

/// Everything that needs a booted guest, one test at a time: guests are slow to boot and share two cores.
@Suite(.serialized) enum GuestTests {}

/// Guests that tests share: booted on first use, kept until another is needed, and ended with the test process.
final class SharedGuests: @unchecked Sendable {
  // Sendable because the lock guards the guest.
  static let shared = SharedGuests()
  private let lock = NSLock()
  /// At most one beside a test's own: each takes its whole RAM.
  private var kept: Guest?

  /// A running guest of this kind. Tests that break theirs boot one of their own.
  func guest(_ options: GuestOptions) throws -> Guest {
    lock.lock()
    defer { lock.unlock() }
    // One that a test left unable to answer must not cost every later one its time.
    if let kept, kept.options == options, (try? kept.run("true", timeout: .seconds(20)))?.status == 0 { return kept }
    endKept()
    let guest = try Guest(options)
    kept = guest
    return guest
  }

  /// Ends the guest that is kept, before a test boots several of its own: three are all that the machine carries.
  func release() {
    lock.lock()
    defer { lock.unlock() }
    endKept()
  }

  private func endKept() {
    kept?.shutDown()
    kept = nil
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
