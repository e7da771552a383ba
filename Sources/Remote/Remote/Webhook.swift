import Dispatch
package import FoundationEssentials
import Glibc
package import Host

/// Posts changes to a web server, one after the other, on a thread of its own, by the program `curl`.
///
/// A library in its place would be loaded by every command, and takes longer for that than most of them for their work.
///
/// Who has something to post never waits: there is a queue, and where it is full the oldest that waits is dropped. What the server
/// does not take is tried again, later and later; what it refuses, or does not take in the end, is dropped. How much was dropped,
/// and why, is said.
package final class Webhook: @unchecked Sendable {
  // Everything that changes is in `state`, or the thread's own.
  private struct State {
    var queue: [[UInt8]] = []
    /// Of the queue's first, whether it is on its way.
    var isPosting = false
    /// Dropped since that was said last, and in all.
    var dropped = 0
    var droppedInAll = 0
    var isEnding = false
  }

  /// How it waits and how often.
  package struct Patience {
    /// Changes that wait at most.
    package var room: Int
    /// How often a change is tried.
    package var attempts: Int
    /// The pause after the first try that failed; it doubles from try to try.
    package var firstPause: Double
    package var longestPause: Double
    /// How long the server may take for one.
    package var timeout: Double

    package init(
      room: Int = 256, attempts: Int = 8, firstPause: Double = 0.5, longestPause: Double = 30, timeout: Double = 10
    ) {
      (self.room, self.attempts, self.timeout) = (room, attempts, timeout)
      (self.firstPause, self.longestPause) = (firstPause, longestPause)
    }
  }

  private let url: URL
  private let patience: Patience
  private let say: @Sendable (String) -> Void
  private let state = Locked(State())
  private let work = DispatchSemaphore(value: 0)
  private let ending = DispatchSemaphore(value: 0)
  private let ended = DispatchSemaphore(value: 0)
  private var thread: DedicatedThread?

  /// Whether changes can be posted to an address.
  package static func takes(_ text: String) -> Bool {
    guard let url = URL(string: text), let host = url.host, !host.isEmpty else { return false }
    return ["http", "https"].contains(url.scheme?.lowercased() ?? "")
  }

  /// `say` is called on any thread, with what an operator ought to know.
  ///
  /// - Throws: ``SystemCallError`` where there can be no thread.
  package init(
    _ url: URL, patience: Patience = Patience(), say: @escaping @Sendable (String) -> Void
  ) throws(SystemCallError) {
    self.url = url
    self.patience = patience
    self.say = say
    thread = try DedicatedThread(name: "webhook") { [self] in run() }
  }

  /// Posts an object of JSON, some time later.
  package func post(_ bytes: [UInt8]) {
    let isDropping = state.withLock { state in
      state.queue.append(bytes)
      guard state.queue.count > patience.room else { return false }
      // The first is on its way.
      state.queue.remove(at: state.isPosting ? 1 : 0)
      state.dropped += 1
      state.droppedInAll += 1
      return state.droppedInAll == 1
    }
    if isDropping {
      say("\(url) is too slow or away: \(patience.room) changes wait, and the oldest of them are dropped")
    }
    work.signal()
  }

  /// Ends it, after what waits was posted or so many seconds are over.
  ///
  /// Says what was dropped or left.
  package func finish(within seconds: Double) {
    state.withLock { $0.isEnding = true }
    work.signal()
    if ended.wait(timeout: .now() + seconds) == .timedOut { ending.signal() }
    _ = ended.wait(timeout: .now() + patience.timeout)
    let (left, dropped) = state.withLock { ($0.queue.count, $0.droppedInAll) }
    if left > 0 { say("\(url): \(left) changes were not posted any more") }
    if dropped > 0 { say("\(url): \(dropped) changes were dropped in all") }
    thread?.detach()
    thread = nil
  }

  // MARK: The thread

  private func run() {
    defer {
      // Who waits for the end, and who asks once more.
      ended.signal()
      ended.signal()
    }
    while true {
      work.wait()
      while let bytes = state.withLock({ state -> [UInt8]? in
        state.isPosting = !state.queue.isEmpty
        return state.queue.first
      }) {
        guard deliver(bytes) else { return }
        state.withLock { state in
          state.isPosting = false
          state.queue.removeFirst()
        }
      }
      if state.withLock({ $0.isEnding && $0.queue.isEmpty }) { return }
    }
  }

  /// Posts one; false where it has to end first.
  private func deliver(_ bytes: [UInt8]) -> Bool {
    var pause = patience.firstPause
    for attempt in 1...patience.attempts {
      let failure: (reason: String, isFinal: Bool)? = attemptPost(bytes)
      guard let failure else {
        let dropped = state.withLock { state in
          defer { state.dropped = 0 }
          return state.dropped
        }
        if dropped > 0 { say("\(url) takes changes again; \(dropped) were dropped") }
        return true
      }
      if failure.isFinal || attempt == patience.attempts {
        let isFirst = state.withLock { state in
          state.dropped += 1
          state.droppedInAll += 1
          return state.dropped == 1
        }
        if isFirst { say("\(url) does not take a change, which is dropped: \(failure.reason)") }
        return true
      }
      if attempt == 1 { say("\(url) does not take a change, which is tried again: \(failure.reason)") }
      if ending.wait(timeout: .now() + pause) == .success { return false }
      pause = min(pause * 2, patience.longestPause)
    }
    return true
  }

  /// Why it was not taken, and whether it never will be; nil where it was.
  private func attemptPost(_ bytes: [UInt8]) -> (reason: String, isFinal: Bool)? {
    let said: [UInt8]
    do throws(SystemCallError) {
      // Its last three characters are the status, 000 where there was no answer; before it stands what it complains of.
      said = try curl(
        [
          ("request", "POST"), ("header", "Content-Type: application/json"), ("max-time", "\(patience.timeout)"),
          ("output", "/dev/null"), ("write-out", "%{http_code}"), ("url", url.absoluteString),
        ], body: bytes, most: 65536
      ).said
    } catch {
      return ("\(error); the program curl is needed", true)
    }
    let text = String(decoding: said, as: UTF8.self).split(whereSeparator: \.isNewline).joined(separator: "; ")
    guard let code = Int(text.suffix(3)), code > 0 else {
      return (
        text.hasSuffix("000") ? String(text.dropLast(3)).trimmingPrefix("curl: ").description : "curl: \(text)", false
      )
    }
    if (200..<300).contains(code) { return nil }
    // What it does not understand it will not understand later either; that it is busy will pass.
    return ("status \(code)", (400..<500).contains(code) && code != 408 && code != 429)
  }
}
