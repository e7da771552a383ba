import CLinux
import Glibc

/// Memory for secrets: zero at first, never written to disk, in no core dump, in no child, and zero again before it goes.
///
/// Where the kernel has `memfd_secret`, no other process reads it, not even root's by `/proc/PID/mem`. Whoever debugs this process, or is
/// in the kernel, can still have it handed over.
package final class LockedMemory: @unchecked Sendable {
  /// Its first byte, at the start of a page.
  package let base: UnsafeMutableRawPointer
  /// How many bytes, in whole pages.
  package let byteCount: Int

  /// - Throws: ``SystemCallError`` where the memory cannot be had or locked.
  package init(byteCount: Int) throws(SystemCallError) {
    let page = Int(getpagesize())
    let size = (max(byteCount, 1) + page - 1) / page * page
    self.byteCount = size
    if let secret = Self.secret(size) {
      base = secret
      return
    }
    guard let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED
    else { throw SystemCallError("memory for keys", call: "mmap", code: errno) }
    guard mlock(base, size) == 0 else {
      let code = errno
      munmap(base, size)
      throw SystemCallError("memory for keys (raise its limit: ulimit -l, or LimitMEMLOCK=)", call: "mlock", code: code)
    }
    // Neither a core dump nor a child gets it; older kernels do not know the second.
    _ = madvise(base, size, MADV_DONTDUMP)
    _ = madvise(base, size, MADV_WIPEONFORK)
    self.base = base
  }

  /// Memory that the kernel has taken out of its own map, nil where it has none to give.
  private static func secret(_ size: Int) -> UnsafeMutableRawPointer? {
    let descriptor = grass_memfd_secret()
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    guard ftruncate(descriptor, size) == 0,
      let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else { return nil }
    // A child would share it.
    _ = madvise(base, size, MADV_DONTFORK)
    return base
  }

  deinit {
    explicit_bzero(base, byteCount)
    munmap(base, byteCount)
  }
}
