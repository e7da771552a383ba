import Dispatch
import Host

/// Lines on their way to one writer, on a thread of its own.
///
/// Who has something to write never waits. While the writer fails the newest lines wait, so many at most, and the oldest of them are
/// dropped; how many is said, and that it goes on.
final class LogQueue: Sendable {
  private struct State {
    var lines: [LogLine] = []
    var lost: UInt64 = 0
    /// Of those, how many were not said yet.
    var unsaid: UInt64 = 0
    var written: UInt64 = 0
    var problem: String?
    var isEnding = false
    /// Whether the first line is being written.
    var isWriting = false
  }

  private let writer: any LogWriter
  private let state = Locked(State())
  private let work = DispatchSemaphore(value: 0)
  private let thread = Locked<DedicatedThread?>(nil)
  private let say: @Sendable (String?, String) -> Void
  private let room: Int
  private let pause: Double

  /// - Parameters:
  ///   - writer: where lines go.
  ///   - room: how many wait at most.
  ///   - pause: seconds between two tries of what failed.
  ///   - say: called with the fault, or nil when it is over, and with words for operators.
  /// - Throws: ``SystemCallError`` where there can be no thread.
  init(
    _ writer: any LogWriter, room: Int = 10_000, pause: Double = 1, say: @escaping @Sendable (String?, String) -> Void
  ) throws(SystemCallError) {
    self.writer = writer
    self.room = room
    self.pause = pause
    self.say = say
    let made = try DedicatedThread(name: "log") { [self] in run() }
    thread.withLock { $0 = made }
  }

  var name: String { writer.name }
  /// Lines that were written and lost so far, and the fault that it has; nil where it has none.
  var figures: (written: UInt64, lost: UInt64, problem: String?) {
    state.withLock { ($0.written, $0.lost, $0.problem) }
  }

  func add(_ line: LogLine) {
    state.withLock { state in
      if state.lines.count >= room {
        // The first may be written by half.
        state.lines.remove(at: state.isWriting || state.problem != nil ? min(1, state.lines.count - 1) : 0)
        state.lost += 1
        state.unsaid += 1
      }
      state.lines.append(line)
    }
    work.signal()
  }

  func reopen() { writer.reopen() }

  /// Ends it: what waits is written, where the writer takes it.
  func finish() {
    state.withLock { $0.isEnding = true }
    work.signal()
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
  }

  private func run() {
    while true {
      work.wait()
      while true {
        let line = state.withLock { state -> LogLine? in
          state.isWriting = !state.lines.isEmpty
          return state.lines.first
        }
        guard let line else { break }
        do throws(LogError) {
          try writer.write(line)
          let news = state.withLock { state -> (wasBad: Bool, lost: UInt64) in
            if !state.lines.isEmpty { state.lines.removeFirst() }
            state.isWriting = false
            state.written += 1
            defer { (state.problem, state.unsaid) = (nil, 0) }
            return (state.problem != nil, state.unsaid)
          }
          if news.wasBad {
            say(nil, "\(name) is written again\(news.lost > 0 ? "; \(news.lost) lines were lost meanwhile" : "")")
          }
        } catch {
          let (isNew, isEnding) = state.withLock { state -> (Bool, Bool) in
            defer { state.problem = error.description }
            return (state.problem == nil, state.isEnding)
          }
          if isNew { say(error.description, "\(error); up to \(room) lines wait for it") }
          if isEnding { return }
          // Who ends does not wait for it.
          _ = work.wait(timeout: .now() + pause)
        }
      }
      if state.withLock({ $0.isEnding && $0.lines.isEmpty }) { return }
    }
  }
}
