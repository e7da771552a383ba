import Glibc

/// SIGINT and SIGTERM, and SIGHUP, held back from the time this is made and taken when asked for.
struct TerminationSignals {
  enum Wish {
    case end
    /// Take monitors anew.
    case reload
  }

  private var set = sigset_t()

  init() {
    sigemptyset(&set)
    sigaddset(&set, SIGINT)
    sigaddset(&set, SIGTERM)
    sigaddset(&set, SIGHUP)
    pthread_sigmask(SIG_BLOCK, &set, nil)
    // A remote host that goes away is an error of its own connection.
    signal(SIGPIPE, SIG_IGN)
  }

  /// Waits for one of them.
  ///
  /// - Returns: nil where none came within the time.
  func wait(for time: Duration) -> Wish? {
    var set = set
    var time = timespec(
      tv_sec: Int(time.components.seconds), tv_nsec: Int(time.components.attoseconds / 1_000_000_000))
    let signal = sigtimedwait(&set, nil, &time)
    return signal > 0 ? signal == SIGHUP ? .reload : .end : nil
  }
}
