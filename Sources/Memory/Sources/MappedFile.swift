import CLinux
import Glibc

/// A file mapped read-only into this process, for as long as this object lives.
///
/// The file may be written by others meanwhile: it may be the RAM of a running guest. It may also be cut short while it
/// is mapped: what is gone then reads as zeros, and ``isWhole`` tells.
final class MappedFile: @unchecked Sendable {
  // Sendable because nothing changes after init and the mapping is never written through.
  let path: String
  /// Bytes mapped.
  let count: Int
  let base: UnsafeRawPointer
  /// Becomes 1 once a page was read that is gone; valid as long as this object.
  let lost: UnsafeMutablePointer<UInt32>
  private let descriptor: Int32

  init(path: String) throws(MemoryImageError) {
    self.path = path
    // Not to wait for a writer where the path is a pipe.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw MemoryImageError(path, .system("open", errno)) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw MemoryImageError(path, .system("fstat", code))
    }
    let kind = status.st_mode & S_IFMT
    // A block device has no size in its status.
    let size = kind == S_IFBLK ? Int(lseek(descriptor, 0, SEEK_END)) : Int(status.st_size)
    guard kind == S_IFREG || kind == S_IFBLK, size > 0 else {
      close(descriptor)
      throw MemoryImageError(path, kind == S_IFREG && size == 0 ? .empty : .notAFile)
    }
    guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
      let code = errno
      close(descriptor)
      throw MemoryImageError(path, .system("mmap", code))
    }
    self.descriptor = descriptor
    count = size
    self.base = UnsafeRawPointer(base)
    lost = .allocate(capacity: 1)
    lost.initialize(to: 0)
    _ = grass_guard_mapping(base, size, lost)
  }

  deinit {
    grass_unguard_mapping(base)
    lost.deallocate()
    munmap(UnsafeMutableRawPointer(mutating: base), count)
    close(descriptor)
  }

  /// Whether the file is still as long as the mapping. Cost: one system call.
  var isWhole: Bool {
    var status = stat()
    return fstat(descriptor, &status) == 0 && (status.st_mode & S_IFMT != S_IFREG || Int(status.st_size) >= count)
  }

  /// A copy of `count` bytes from `offset`, fewer where the file ends before.
  func bytes(at offset: Int, count wanted: Int) -> [UInt8] {
    guard offset >= 0, offset < count else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: base + offset, count: min(wanted, count - offset)))
  }

  /// Maps a range's pages in one go, which costs a tenth of faulting them in one by one.
  func populate(_ range: Range<Int>) { advise(range, 22 /* MADV_POPULATE_READ, from Linux 5.14 on */) }

  /// Takes a range's pages out of this process again; the file keeps them.
  func release(_ range: Range<Int>) { advise(range, MADV_DONTNEED) }

  private func advise(_ range: Range<Int>, _ advice: Int32) {
    // Advice is about whole pages, and only ever advice: a failure changes nothing that can be seen.
    let start = range.lowerBound & ~4095
    let end = min(range.upperBound, count)
    guard start < end else { return }
    _ = madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, advice)
  }
}
