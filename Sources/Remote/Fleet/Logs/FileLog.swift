import Glibc
import Host

/// A file to which lines are appended.
///
/// Who moves it away sends SIGHUP, and it is made anew. A line of which the disk took only a part is gone on with.
final class FileLog: LogWriter {
  private struct State {
    var file: Int32 = -1
    /// How much of the line that is written was taken.
    var written = 0
  }

  let name: String
  private let state = Locked(State())

  init(path: String) { name = path }

  deinit { reopen() }

  func reopen() {
    state.withLock { state in
      if state.file >= 0 { close(state.file) }
      state = State()
    }
  }

  func write(_ line: LogLine) throws(LogError) {
    let bytes = line.bytes + [UInt8(ascii: "\n")]
    let failure = state.withLock { state -> Int32? in
      if state.file < 0 {
        // Findings name what attackers look for: no others read them.
        state.file = SystemCall.retrying { open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640) }
        if state.file < 0 { return errno }
      }
      while state.written < bytes.count {
        let count = bytes[state.written...].withUnsafeBytes { rest in
          SystemCall.retrying { Glibc.write(state.file, rest.baseAddress, rest.count) }
        }
        if count < 0 { return errno }
        state.written += count
      }
      state.written = 0
      return nil
    }
    if let failure { throw LogError(description: "\(name): \(String(cString: strerror(failure)))") }
  }
}
