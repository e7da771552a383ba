import Glibc

/// A value that one thread at a time may use: `Mutex` of Swift's Synchronization, but over pthread's lock.
///
/// The thread sanitizer knows nothing of a `Mutex` on Linux and takes all that it guards for a race; pthread's it knows.
package final class Locked<Value>: @unchecked Sendable {
  // Used only under the lock.
  private var value: Value
  private let lock: UnsafeMutablePointer<pthread_mutex_t>

  package init(_ value: sending Value) {
    self.value = value
    lock = .allocate(capacity: 1)
    lock.initialize(to: pthread_mutex_t())
    let code = pthread_mutex_init(lock, nil)
    precondition(code == 0, "pthread_mutex_init: \(code)")
  }

  deinit {
    pthread_mutex_destroy(lock)
    lock.deinitialize(count: 1)
    lock.deallocate()
  }

  /// Runs `body` with the value, while every other thread that wants it waits.
  package func withLock<Result, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return try body(&value)
  }
}
