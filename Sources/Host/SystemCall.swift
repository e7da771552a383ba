import CLinux
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

  /// A pipe whose ends no program gets that another thread starts at the same time.
  ///
  /// The corresponding C function is `pipe2`.
  ///
  /// - Throws: ``SystemCallError`` with `subject` where there is none.
  package static func pipe(for subject: String) throws(SystemCallError) -> (reading: Int32, writing: Int32) {
    var ends: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutablePointer(to: &ends) { pointer in
      pointer.withMemoryRebound(to: Int32.self, capacity: 2) { grass_pipe($0) }
    }
    guard result == 0 else { throw SystemCallError(subject, call: "pipe2", code: errno) }
    return (ends.0, ends.1)
  }

  package static func sleep(nanoseconds: UInt64) {
    var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    nanosleep(&time, nil)
  }
}
