import CLinux
import Glibc

/// A file mapped read-only into this process, for as long as this object lives.
///
/// The file may be written by others meanwhile: it may be the RAM of a running guest. It may also be cut short while it
/// is mapped: what is gone then reads as zeros, and ``isWhole`` tells.
final class MappedFile: @unchecked Sendable {
  // Sendable because nothing changes after init and the mapping is never written through.
  let path: String
  /// Where the mapping ends, in bytes.
  let count: Int
  let base: UnsafeRawPointer
  /// The ranges that are mapped of a driver that shows this machine's memory, each physical address as an offset: its RAM.
  ///
  /// Nil for any other file, which is mapped whole.
  let ram: [Range<Int>]?
  /// Becomes 1 once a page was read that is gone; valid as long as this object.
  let lost: UnsafeMutablePointer<UInt32>
  private let descriptor: Int32

  init(path: String) throws(MemoryImageError) {
    self.path = path
    // Not to wait for a writer where the path is a pipe.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw MemoryImageError(path, .system("open", errno)) }
    do throws(MemoryImageError) {
      (base, count, ram) = try Self.map(descriptor, path)
    } catch {
      close(descriptor)
      throw error
    }
    self.descriptor = descriptor
    lost = .allocate(capacity: 1)
    lost.initialize(to: 0)
    _ = grass_guard_mapping(base, count, lost)
  }

  /// Maps the file once more, so that it could be written; nil where it cannot be.
  ///
  /// For devices that are to pin it, which kernels before 6.2 allow for no other mapping. Nobody writes there. It stays as long as the
  /// process.
  func mapWritable() -> UnsafeMutableRawPointer? {
    let descriptor = open("/proc/self/fd/\(self.descriptor)", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    guard let base = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
      return nil
    }
    return base
  }

  private static func map(
    _ descriptor: Int32, _ path: String
  ) throws(MemoryImageError) -> (base: UnsafeRawPointer, count: Int, ram: [Range<Int>]?) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw MemoryImageError(path, .system("fstat", errno)) }
    let kind = status.st_mode & S_IFMT
    let size: Int
    switch kind {
    case S_IFREG: size = Int(status.st_size)
    // A block device has no size in its status, and neither has memory that is used like one (device-dax).
    case S_IFBLK: size = Int(lseek(descriptor, 0, SEEK_END))
    case S_IFCHR:
      guard let dax = SystemMemory.daxSize(of: status.st_rdev) else { return try mapMachine(descriptor, path) }
      size = dax
    default: size = 0
    }
    guard size > 0 else { throw MemoryImageError(path, kind == S_IFREG ? .empty : .notAFile) }
    guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
      throw MemoryImageError(path, .system("mmap", errno))
    }
    return (UnsafeRawPointer(base), size, nil)
  }

  /// Maps the RAM of this machine out of a driver that shows all physical memory, each piece at its address.
  private static func mapMachine(
    _ descriptor: Int32, _ path: String
  ) throws(MemoryImageError) -> (base: UnsafeRawPointer, count: Int, ram: [Range<Int>]?) {
    let ranges = SystemMemory.ranges()
    guard let count = ranges.last?.upperBound else {
      throw MemoryImageError(
        path, .unsupported("a device, and /proc/iomem does not show where this machine has RAM", remedy: "run as root"))
    }
    // Room for all, so that an address is an offset; only what is RAM is ever touched.
    guard let base = mmap(nil, count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), base != MAP_FAILED
    else { throw MemoryImageError(path, .system("mmap", errno)) }
    for range in ranges {
      let piece = mmap(
        base + range.lowerBound, range.count, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, range.lowerBound)
      guard piece != MAP_FAILED else {
        let code = errno
        munmap(base, count)
        throw MemoryImageError(
          path,
          .unsupported(
            "a device that does not let RAM be mapped (\(String(cString: strerror(code))))",
            remedy: "use a driver that shows all of it; /dev/mem does not where CONFIG_STRICT_DEVMEM is set"))
      }
    }
    return (UnsafeRawPointer(base), count, ranges)
  }

  deinit {
    grass_unguard_mapping(base)
    lost.deallocate()
    munmap(UnsafeMutableRawPointer(mutating: base), count)
    close(descriptor)
  }

  /// Whether the file is still as long as the mapping.
  ///
  /// Cost: one system call.
  var isWhole: Bool {
    var status = stat()
    return fstat(descriptor, &status) == 0 && (status.st_mode & S_IFMT != S_IFREG || Int(status.st_size) >= count)
  }

  /// Holes shorter than this are not told apart from what surrounds them.
  private static let shortestHole = 64 << 10

  /// Whether the file has holes: it takes less room than it is long.
  ///
  /// Cost: one system call.
  var isSparse: Bool {
    var status = stat()
    return ram == nil && fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
      && status.st_blocks < (count + 511) / 512
  }

  /// What of `range` the file holds; the rest are holes, which read as zeros.
  ///
  /// All of it where that cannot be told.
  ///
  /// A read of a hole through the mapping would fill it: memory is taken for a page of zeros. Cost: two system calls for
  /// each range returned.
  func dataRanges(in range: Range<Int>) -> [Range<Int>] {
    guard isSparse else { return [range] }
    var found: [Range<Int>] = []
    var place = range.lowerBound
    while place < range.upperBound {
      let start = Int(lseek(descriptor, off_t(place), Int32(GRASS_SEEK_DATA.rawValue)))
      // ENXIO says that there is nothing from there on. What was cut off the file is no hole.
      if start < 0, errno == ENXIO, isWhole { break }
      let end = start < place ? -1 : Int(lseek(descriptor, off_t(start), Int32(GRASS_SEEK_HOLE.rawValue)))
      guard end > start else { return [range] }
      if start >= range.upperBound { break }
      let piece = start..<min(end, range.upperBound)
      if let last = found.last, piece.lowerBound - last.upperBound < Self.shortestHole {
        found[found.count - 1] = last.lowerBound..<piece.upperBound
      } else {
        found.append(piece)
      }
      place = end
    }
    return found
  }

  /// A copy of `count` bytes from `offset`, fewer where the file ends before.
  ///
  /// Not of a machine's memory.
  func bytes(at offset: Int, count wanted: Int) -> [UInt8] {
    guard offset >= 0, offset < count, ram == nil else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: base + offset, count: min(wanted, count - offset)))
  }

  /// Maps a range's pages in one go, which costs a tenth of faulting them in one by one.
  func populate(_ range: Range<Int>) { advise(range, 22 /* MADV_POPULATE_READ, from Linux 5.14 on */) }

  /// Takes a range's pages out of this process again; the file keeps them.
  func release(_ range: Range<Int>) { advise(range, MADV_DONTNEED) }

  private func advise(_ range: Range<Int>, _ advice: Int32) {
    // Advice is about whole pages, and only ever advice: a failure changes nothing that can be seen. A driver's pages are
    // there as long as the mapping.
    guard ram == nil else { return }
    let start = range.lowerBound & ~4095
    let end = min(range.upperBound, count)
    guard start < end else { return }
    _ = madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, advice)
  }
}
