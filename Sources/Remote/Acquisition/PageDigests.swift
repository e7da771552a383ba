import Glibc
import Host
import Memory

/// The digests of an image's pages as they were copied, in a file without a name: 16 bytes a page, whatever the memory's size takes.
final class PageDigests {
  let seed: MemoryDigest.Seed
  private let descriptor: CInt
  private let name: String

  /// The digest of a page that is not there to compare: it could not be read, or is broken in the image.
  private static let none = MemoryDigest(low: .max, high: .max)
  private static let size = MemoryLayout<UInt64>.size * 2

  /// In the directory of `path`; of what goes to a pipe, in that for temporary files.
  init(seed: MemoryDigest.Seed, beside path: String?) throws(AcquisitionError) {
    self.seed = seed
    let directory = path.map { $0.lastIndex(of: "/").map { String(path?[...$0] ?? "") } ?? "." } ?? "/var/tmp"
    name = "a file in \(directory)"
    var descriptor = open(directory, O_RDWR | O_CLOEXEC | 0o20200000 /* O_TMPFILE */, 0o600)
    if descriptor < 0 {
      // Not every file system can.
      var template = Array("\(directory)/.grass-digests-XXXXXX".utf8CString)
      descriptor = mkstemp(&template)
      if descriptor >= 0 { unlink(template) }
    }
    guard descriptor >= 0 else { throw AcquisitionError(name, .system(call: "open", errno)) }
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Keeps the digests of pages from number `first` on.
  func set(_ digests: [MemoryDigest?], from first: UInt64) throws(AcquisitionError) {
    let words = digests.flatMap { digest in
      let kept = digest ?? Self.none
      return [kept.low, kept.high]
    }
    let bytes = words.withUnsafeBytes { Array($0) }
    var done = 0
    while done < bytes.count {
      let count = SystemCall.retrying {
        bytes[done...].withUnsafeBytes {
          pwrite(descriptor, $0.baseAddress, $0.count, off_t(first) * off_t(Self.size) + off_t(done))
        }
      }
      guard count > 0 else { throw AcquisitionError(name, .system(call: "pwrite", errno)) }
      done += count
    }
  }

  /// Those of `count` pages from number `first` on, nil where there is none to compare.
  func digests(_ first: UInt64, count: Int) throws(AcquisitionError) -> [MemoryDigest?] {
    var words = [UInt64](repeating: .max, count: 2 * count)
    var done = 0
    while done < count * Self.size {
      let got = SystemCall.retrying {
        words.withUnsafeMutableBytes {
          let rest = UnsafeMutableRawBufferPointer(rebasing: $0[done...])
          return pread(descriptor, rest.baseAddress, rest.count, off_t(first) * off_t(Self.size) + off_t(done))
        }
      }
      guard got >= 0 else { throw AcquisitionError(name, .system(call: "pread", errno)) }
      if got == 0 { break }
      done += got
    }
    return (0..<count).map { index in
      let digest = MemoryDigest(low: words[2 * index], high: words[2 * index + 1])
      return digest == Self.none ? nil : digest
    }
  }
}
