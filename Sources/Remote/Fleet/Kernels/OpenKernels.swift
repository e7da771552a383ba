import Host
import LinuxKernel
import Remote

/// Kernels of hosts that were found, each with a session of its own, kept for whoever looks into their memory next.
///
/// Finding one costs up to seconds, and each takes memory; so the newest few are kept. A host that has booted anew is found anew.
final class OpenKernels: Sendable {
  /// A host's kernel, of this boot.
  struct Opened: Sendable {
    let session: Session
    let kernel: Kernel
    fileprivate var boot: BootIdentity
    fileprivate var used: Double
  }

  /// There is no host of this name in the fleet.
  struct NoSuchHost: Error {}

  private let watch: FleetWatch
  private let kept = Locked<[String: Opened]>([:])
  private let most: Int
  /// For how long one that nobody looks into is kept, in seconds.
  private static let keepTime = 120.0

  /// - Parameters:
  ///   - watch: whose hosts.
  ///   - most: how many are kept.
  init(_ watch: FleetWatch, most: Int) {
    self.watch = watch
    self.most = most
  }

  /// The kernel of a host as it is now.
  ///
  /// Cost: one round trip where it is kept; else up to seconds.
  ///
  /// - Throws: ``NoSuchHost``, or why it cannot be reached or read.
  func kernel(of host: String) throws -> Opened {
    let now = Moments.utc
    if var opened = kept.withLock({ $0[host] }) {
      if opened.boot.holds(in: opened.kernel.memory) {
        opened.used = now
        kept.withLock { [opened] in $0[host] = opened }
        return opened
      }
      drop(host)
    }
    guard let session = try watch.session(host, slots: 4) else { throw NoSuchHost() }
    let memory = try RemoteMemory(session: session)
    let kernel = try Kernel(memory: DeadlineMemory(memory), hint: memory.kernelHint, known: watch.builds)
    watch.name(host, KernelName(kernel))
    let opened = Opened(session: session, kernel: kernel, boot: BootIdentity(of: kernel), used: now)
    kept.withLock { kept in
      kept = kept.filter { now - $0.value.used <= Self.keepTime }
      while kept.count >= most, let oldest = kept.min(by: { $0.value.used < $1.value.used }) { kept[oldest.key] = nil }
      kept[host] = opened
    }
    return opened
  }

  /// Forgets a host's kernel, of which what was read did not hold together.
  ///
  /// Its session ends with its last user.
  func drop(_ host: String) { kept.withLock { $0[host] = nil } }

  /// Forgets all.
  func removeAll() { kept.withLock { $0 = [:] } }
}
