import Host
import KernelViews
import Remote

/// Reads views of hosts' kernels for who asks, over sessions of their own.
///
/// A few at once, and so many wait at most: whoever asks for more is told to come again.
final class ViewReader: Sendable {
  private struct Kept {
    let session: Session
    let kernel: Kernel
    var used: Double
  }

  /// Why there is no view to show.
  struct Failure: Error, CustomStringConvertible {
    enum Reason { case noSuchHost, noSuchView, badOptions, busy, failed }
    let reason: Reason
    let description: String
  }

  private let watch: FleetWatch
  private let pool: WorkPool
  private let kept = Locked<[String: Kept]>([:])
  private let waiting = Locked(0)

  private static let mostWaiting = 32
  /// How long a kernel that was found is kept, in seconds.
  private static let keepTime = 60.0
  private static let mostKept = 16

  init(_ watch: FleetWatch) throws(SystemCallError) {
    self.watch = watch
    pool = try WorkPool(name: "views", threads: 2)
  }

  func finish() {
    pool.finish()
    kept.withLock { kept in
      for one in kept.values { one.session.close() }
      kept = [:]
    }
  }

  /// A view of a host, as its rows are now.
  ///
  /// Cost: seconds where the host's kernel has to be found first, else tens of milliseconds.
  func table(_ host: String, _ view: String, options: [(name: String, text: String)]) async throws(Failure) -> ViewTable
  {
    guard let view = KernelViews.view(named: view) else {
      throw Failure(
        reason: .noSuchView,
        description:
          "there is no view \"\(view.prefix(40))\"; there are \(KernelViews.all.map { $0.name }.joined(separator: ", "))"
      )
    }
    let isFree = waiting.withLock { waiting in
      guard waiting < Self.mostWaiting else { return false }
      waiting += 1
      return true
    }
    guard isFree else { throw Failure(reason: .busy, description: "others are being answered; ask again in a moment") }
    defer { waiting.withLock { $0 -= 1 } }
    let result = await withCheckedContinuation { continuation in
      pool.add { [self] in continuation.resume(returning: Result { try read(host, view, options) }) }
    }
    switch result {
    case .success(let table): return table
    case .failure(let failure as Failure): throw failure
    case .failure(let error): throw Failure(reason: .failed, description: "\(error)")
    }
  }

  private func read(_ host: String, _ view: any KernelView.Type, _ options: [(name: String, text: String)]) throws
    -> ViewTable
  {
    // Wrong options are told before anybody is asked.
    func check<View: KernelView>(_ view: View.Type) throws(ViewOptionError) { _ = try View.Options(options) }
    do throws(ViewOptionError) { try check(view) } catch {
      throw Failure(reason: .badOptions, description: "\(error)")
    }
    let now = Moments.utc
    let old = kept.withLock { kept -> [Kept] in
      let old = kept.filter { now - $0.value.used > Self.keepTime || kept.count > Self.mostKept }
      for name in old.keys { kept[name] = nil }
      return Array(old.values)
    }
    for one in old { one.session.close() }
    if let one = kept.withLock({ $0[host] }) {
      // A host that has booted anew has another kernel: then it is found anew.
      if let table = try? view.table(of: one.kernel, options: options), table.shortcomings.isEmpty {
        kept.withLock { $0[host]?.used = now }
        return table
      }
      kept.withLock { $0[host] = nil }
      one.session.close()
    }
    guard let session = try watch.session(host, slots: 4) else {
      throw Failure(reason: .noSuchHost, description: "there is no host \"\(host.prefix(100))\" in this fleet")
    }
    let memory = try RemoteMemory(session: session)
    let kernel = try Kernel(memory: memory, hint: memory.kernelHint, known: .standard())
    let table = try view.table(of: kernel, options: options)
    kept.withLock { $0[host] = Kept(session: session, kernel: kernel, used: now) }
    return table
  }
}
