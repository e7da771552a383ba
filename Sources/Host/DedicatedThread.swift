import Glibc

/// A thread of its own for one closure, joined by its owner.
package final class DedicatedThread: @unchecked Sendable {
  // Written only by `init` and `join`, which one owner calls.
  private var handle: pthread_t?

  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  /// Starts `body`.
  ///
  /// Messages call the thread by `name`.
  ///
  /// - Throws: ``SystemCallError`` where `pthread_create` fails.
  package init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemCallError) {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Body(body))
    let code = pthread_create(
      &thread, nil,
      { argument in
        if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
        return nil
      }, box.toOpaque())
    guard code == 0 else {
      box.release()
      throw SystemCallError("thread \(name)", call: "pthread_create", code: code)
    }
    handle = thread
  }

  /// Lets the thread end by itself, whenever that is.
  package func detach() {
    guard let thread = handle else { return }
    handle = nil
    pthread_detach(thread)
  }

  /// Waits until the body has returned.
  ///
  /// A second call does nothing.
  package func join() {
    guard let thread = handle else { return }
    handle = nil
    pthread_join(thread, nil)
  }
}
