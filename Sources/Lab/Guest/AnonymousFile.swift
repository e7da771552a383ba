import CLinux
import Glibc

/// A file in memory without a name: it is gone with the last process that holds it, however that ends.
final class AnonymousFile: Sendable {
  let descriptor: Int32

  /// Makes a file of `count` bytes, all zero.
  ///
  /// Huge pages are of 2 MiB; the machine must have enough of them set aside (vm.nr_hugepages).
  init(name: String, count: Int, inHugePages: Bool = false) throws(LabError) {
    // Not closed on exec would leak into every child; QEMU opens it by its path below /proc instead.
    descriptor = grass_memfd_create(name, inHugePages ? GRASS_MEMFD_HUGE : GRASS_MEMFD_PLAIN)
    guard descriptor >= 0, ftruncate(descriptor, count) == 0 else {
      throw LabError("cannot get \(count) bytes of shared memory: \(String(cString: strerror(errno)))")
    }
  }

  deinit { close(descriptor) }

  /// The path under which other processes may open it as long as this process lives.
  var path: String { "/proc/\(getpid())/fd/\(descriptor)" }

  /// All its bytes.
  func contents() -> [UInt8] {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_size > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    let count = pread(descriptor, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, count)))
  }
}
