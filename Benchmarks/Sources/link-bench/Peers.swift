import Foundation
import LinkBench
import Measuring

/// What links are compared with: the least that this machine can do.
enum Peers {
  /// The C library's copy of so many bytes, from other places of 64 MiB each time, as results come: no cache holds them.
  static func copy(byteCount: Int, count: Int) -> Samples {
    let size = 64 << 20
    let from = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    let to = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
    defer {
      from.deallocate()
      to.deallocate()
    }
    memset(from, 1, size)
    var shift = 0
    return Samples.measure(count, warmUp: 100) {
      memcpy(to, from + shift, byteCount)
      shift = shift + 2 * byteCount <= size ? shift + byteCount : 0
    }
  }
}
