import CCompression
import Glibc
import Memory

/// The compressed kernel within a bzImage.
///
/// ```
/// 0x1f1  u8 sectors of the real-mode part, 0 for 4; 0x202 "HdrS"; 0x206 u16 version of the protocol
/// 0x248  u32 offset of the payload from the protected-mode part's start; 0x24c u32 its length (from version 2.8 on)
/// ```
/// The payload ends with the u32 size of what it unpacks to. Source: Documentation/arch/x86/boot.rst.
struct Payload {
  private let bytes: [UInt8]

  /// Longer files are no kernels.
  private static let longestFile = 256 << 20
  /// What is larger unpacked is none either: it bounds what a file that is made to hurt takes.
  private static let longestKernel = 512 << 20

  /// The payload of the file at `path`; nil where it is no bzImage.
  init?(ofFileAt path: String) throws(KernelFileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw KernelFileError(path, String(cString: strerror(errno))) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw KernelFileError(path, "it is no file")
    }
    func bytes(_ offset: Int, _ count: Int) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
        done = 0
        while done < count {
          let read = pread(descriptor, buffer.baseAddress.map { $0 + done }, count - done, off_t(offset + done))
          guard read > 0 else { break }
          done += read
        }
      }
    }
    let header = bytes(0, 0x250)
    guard header.count == 0x250, header[0x202..<0x206].elementsEqual("HdrS".utf8) else { return nil }
    guard Int(status.st_size) <= Self.longestFile else {
      throw KernelFileError(path, "with \(status.st_size) bytes it is longer than kernels are")
    }
    func number(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(header[offset + $1]) << (8 * $1) } }
    let start = (Int(header[0x1f1] == 0 ? 4 : header[0x1f1]) + 1) * 512 + number(0x248)
    let count = number(0x24c)
    guard count > 16, start <= Int(status.st_size), count <= Int(status.st_size) - start else {
      throw KernelFileError(path, "it is a bzImage whose payload does not lie in it; was it cut short?")
    }
    self.bytes = bytes(start, count)
    guard self.bytes.count == count else { throw KernelFileError(path, "it became shorter while it was read") }
  }

  /// The kernel.
  ///
  /// - Throws: ``KernelFileError`` where it is compressed in another way than with xz, zstd or gzip, or is damaged.
  func unpacked(_ path: String) throws(KernelFileError) -> [UInt8] {
    let size = bytes.suffix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
    guard size > 0, size <= Self.longestKernel else {
      throw KernelFileError(path, "its kernel would take \(size) bytes; it is damaged")
    }
    let formats:
      [(magic: [UInt8], name: String, unpack: ((UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) -> Int)?)] =
        [
          ([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz", Self.unpackXZ),
          ([0x28, 0xb5, 0x2f, 0xfd], "zstd", Self.unpackZstd),
          ([0x1f, 0x8b], "gzip", Self.unpackGzip), ([0x02, 0x21, 0x4c, 0x18], "lz4", nil),
          (Array("BZh".utf8), "bzip2", nil), ([0x5d, 0x00, 0x00], "lzma", nil), ([0x89, 0x4c, 0x5a, 0x4f], "lzo", nil),
        ]
    guard let format = formats.first(where: { bytes.starts(with: $0.magic) }) else {
      throw KernelFileError(path, "its payload is of no known form")
    }
    guard let unpack = format.unpack else {
      throw KernelFileError(path, "it is compressed with \(format.name); unpack it, and give the vmlinux")
    }
    let kernel = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = bytes.withUnsafeBytes { unpack($0, UnsafeMutableRawBufferPointer(buffer)) }
    }
    guard kernel.count == size else {
      throw KernelFileError(path, "its \(format.name) stream is damaged after \(kernel.count) of \(size) bytes")
    }
    return kernel
  }

  // Each unpacks one stream at the start of `source` into all of `target`, and returns how many bytes it gave: other than
  // there is room for where the stream is damaged. What follows a stream is not looked at.

  private static func unpackXZ(_ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer) -> Int {
    // Kernels are packed with dictionaries of up to 128 MiB.
    var (limit, taken, given) = (UInt64(512 << 20), 0, 0)
    let status = lzma_stream_buffer_decode(
      &limit, 0, nil, source.baseAddress?.assumingMemoryBound(to: UInt8.self), &taken, source.count,
      target.baseAddress?.assumingMemoryBound(to: UInt8.self), &given, target.count)
    return status == LZMA_OK ? given : 0
  }

  private static func unpackZstd(_ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer) -> Int {
    let frame = ZSTD_findFrameCompressedSize(source.baseAddress, source.count)
    guard ZSTD_isError(frame) == 0 else { return 0 }
    let given = ZSTD_decompress(target.baseAddress, target.count, source.baseAddress, frame)
    return ZSTD_isError(given) == 0 ? given : 0
  }

  private static func unpackGzip(_ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer) -> Int {
    var stream = z_stream()
    guard grass_inflate_gzip(&stream) == Z_OK else { return 0 }
    defer { inflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
    stream.avail_in = UInt32(source.count)
    stream.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.avail_out = UInt32(target.count)
    return inflate(&stream, Z_FINISH) == Z_STREAM_END ? target.count - Int(stream.avail_out) : 0
  }
}
