import Dispatch
import Host

/// A few threads for work that waits for others: so much at once, the rest in order.
final class WorkPool: Sendable {
  private struct State {
    var queue: [@Sendable () -> Void] = []
    var first = 0
    var isEnding = false
  }

  private let state = Locked(State())
  private let work = DispatchSemaphore(value: 0)
  private let threads = Locked<[DedicatedThread]>([])

  /// - Throws: ``SystemCallError`` where there can be no threads.
  init(name: String, threads count: Int) throws(SystemCallError) {
    var made: [DedicatedThread] = []
    for _ in 0..<count { made.append(try DedicatedThread(name: name) { [self] in run() }) }
    threads.withLock { [made] in $0 = made }
  }

  func add(_ body: @escaping @Sendable () -> Void) {
    state.withLock { $0.queue.append(body) }
    work.signal()
  }

  /// Lets what is at work come to its end, and drops the rest.
  func finish() {
    let threads = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    state.withLock { state in
      state.isEnding = true
      state.queue.removeAll()
      state.first = 0
    }
    for _ in threads { work.signal() }
    for thread in threads { thread.join() }
  }

  private func run() {
    while true {
      work.wait()
      let body = state.withLock { state -> (@Sendable () -> Void)?? in
        if state.isEnding { return .none }
        guard state.first < state.queue.count else { return .some(nil) }
        defer {
          state.first += 1
          if state.first > 256 {
            state.queue.removeFirst(state.first)
            state.first = 0
          }
        }
        return state.queue[state.first]
      }
      guard let body else { return }
      body?()
    }
  }
}
