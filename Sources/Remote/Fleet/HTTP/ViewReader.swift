import Host
import KernelViews

/// Reads views of hosts' kernels for who asks.
///
/// A few at once, and so many wait at most: whoever asks for more is told to come again.
final class ViewReader: Sendable {
  /// Why there is no view to show.
  struct Failure: Error, CustomStringConvertible {
    enum Reason { case noSuchHost, noSuchView, badOptions, busy, failed }
    let reason: Reason
    let description: String
  }

  private let kernels: OpenKernels
  private let pool: WorkPool
  private let waiting = Locked(0)

  private static let mostWaiting = 32

  init(_ kernels: OpenKernels) throws(SystemCallError) {
    self.kernels = kernels
    pool = try WorkPool(name: "views", threads: 2)
  }

  func finish() { pool.finish() }

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
    let kernel: Kernel
    do { kernel = try kernels.kernel(of: host).kernel } catch is OpenKernels.NoSuchHost {
      throw Failure(reason: .noSuchHost, description: "there is no host \"\(host.prefix(100))\" in this fleet")
    }
    do {
      let table = try view.table(of: kernel, options: options)
      if !table.shortcomings.isEmpty { kernels.drop(host) }
      return table
    } catch {
      // The next who asks begins anew.
      kernels.drop(host)
      throw error
    }
  }
}
