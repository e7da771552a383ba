import Glibc

/// SIGINT and SIGTERM, held back from the time this is made and taken when asked for.
struct TerminationSignals {
  private var set = sigset_t()

  init() {
    sigemptyset(&set)
    sigaddset(&set, SIGINT)
    sigaddset(&set, SIGTERM)
    pthread_sigmask(SIG_BLOCK, &set, nil)
    // A remote host that goes away is an error of its own connection.
    signal(SIGPIPE, SIG_IGN)
  }

  /// Waits for one of them. Returns false where none came within the time.
  func wait(seconds: Int) -> Bool {
    var set = set
    var time = timespec(tv_sec: seconds, tv_nsec: 0)
    return sigtimedwait(&set, nil, &time) > 0
  }
}
