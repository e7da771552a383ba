import Glibc
import Host

/// Wakes a thread that waits in `poll`: two ends of a socket, closed with the last reference.
final class Waker: Sendable {
  /// Readable once somebody has called ``wake()``.
  let descriptor: Int32
  private let end: Int32

  /// - Throws: ``LinkError`` about `subject` where there are no descriptors left.
  init(_ subject: String) throws(LinkError) {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw LinkError(subject, .system(call: "socketpair", code: errno))
    }
    descriptor = ends[0]
    end = ends[1]
  }

  deinit {
    close(descriptor)
    close(end)
  }

  /// Never waits: where so many wake it that the socket is full, one more says nothing new.
  func wake() {
    var byte: UInt8 = 1
    _ = SystemCall.retrying { send(end, &byte, 1, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)) }
  }

  /// Takes in what woke it.
  func drain() {
    withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { bytes in
      while recv(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT)) == bytes.count {}
    }
  }
}
