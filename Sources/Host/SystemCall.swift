import Glibc

/// The few things about system calls that this package's modules share.
package enum SystemCall {
  /// The text for an errno.
  ///
  /// The corresponding C function is `strerror_r`.
  package static func describe(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let start = buffer.baseAddress, strerror_r(code, start, 256) == 0 else { return "error \(code)" }
      return String(cString: start)
    }
  }

  /// Repeats a call that a signal interrupted.
  ///
  /// - Returns: its result, -1 with errno set for any other failure.
  package static func retrying<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
      let result = call()
      if result != -1 || errno != EINTR { return result }
    }
  }

  /// Nanoseconds of the monotonic clock.
  package static func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  package static func sleep(nanoseconds: UInt64) {
    var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    nanosleep(&time, nil)
  }
}
