import Glibc

/// A file that a test writes, removed with the object.
final class TemporaryFile {
  let path: String

  init(_ bytes: [UInt8]) throws {
    var template = Array("/tmp/grass-memory-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw Failure.system(errno) }
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { close(descriptor) }
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw Failure.system(errno) }
  }

  enum Failure: Error { case system(Int32) }

  /// Sets the length without writing: what is added reads as zero and takes no space.
  func setLength(_ count: Int) throws {
    guard truncate(path, off_t(count)) == 0 else { throw Failure.system(errno) }
  }

  func write(_ bytes: [UInt8], at offset: Int) throws {
    let descriptor = open(path, O_WRONLY)
    defer { close(descriptor) }
    guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else { throw Failure.system(errno) }
  }

  deinit { unlink(path) }
}
