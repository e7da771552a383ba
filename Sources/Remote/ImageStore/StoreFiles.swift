import Glibc
import Host
import Keys

/// Files of a store: whole or not there, and never more of one than was asked for.
enum StoreFiles {
  /// At most `limit` bytes of a file.
  ///
  /// - Throws: ``StoreError`` where it cannot be read, or has more.
  static func contents(_ path: String, limit: Int) throws(StoreError) -> [UInt8] {
    let descriptor = try open(path, O_RDONLY)
    defer { close(descriptor) }
    let size = try size(descriptor, path)
    guard size <= UInt64(limit) else { throw StoreError(path, .damaged("it has \(size) bytes")) }
    return try read(descriptor, 0, count: Int(size), path)
  }

  static func open(_ path: String, _ flags: CInt) throws(StoreError) -> CInt {
    let descriptor = SystemCall.retrying { Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600) }
    guard descriptor >= 0 else { throw .system(path, "open", errno) }
    return descriptor
  }

  static func size(_ descriptor: CInt, _ path: String) throws(StoreError) -> UInt64 {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .system(path, "fstat", errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw StoreError(path, .damaged("it is no file")) }
    return UInt64(clamping: status.st_size)
  }

  /// The bytes at `offset`, fewer where the file ends before.
  static func read(_ descriptor: CInt, _ offset: UInt64, count: Int, _ path: String) throws(StoreError) -> [UInt8] {
    var code: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[filled...])
        let got = SystemCall.retrying {
          pread(descriptor, rest.baseAddress, rest.count, off_t(clamping: offset) + off_t(filled))
        }
        if got < 0 { code = errno }
        if got <= 0 { return }
        filled += got
      }
    }
    guard code == 0 else { throw .system(path, "pread", code) }
    return bytes
  }

  /// Writes all of `bytes` where the descriptor stands.
  static func write(_ bytes: [UInt8], to descriptor: CInt, _ path: String) throws(StoreError) {
    var done = 0
    while done < bytes.count {
      let count = SystemCall.retrying {
        bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done) }
      }
      guard count > 0 else { throw .system(path, "write", count == 0 ? ENOSPC : errno) }
      done += count
    }
  }

  /// Writes a file whole or not at all, and to the disk.
  static func replace(_ path: String, _ bytes: [UInt8]) throws(StoreError) {
    do throws(KeyError) {
      try KeyFile.write(bytes, to: path, mode: 0o600, replacing: true)
    } catch {
      guard case .system(let call, let code) = error.reason else { throw StoreError(error) }
      throw .system(path, call, code)
    }
  }

  /// Has what was written, and the file's name, kept whatever happens to this machine.
  static func synchronize(_ descriptor: CInt, _ path: String) throws(StoreError) {
    guard SystemCall.retrying({ fsync(descriptor) }) == 0 else { throw .system(path, "fsync", errno) }
    try synchronizeFolder(KeyFile.folder(of: path))
  }

  static func synchronizeFolder(_ folder: String) throws(StoreError) {
    let above = try open(folder, O_RDONLY | O_DIRECTORY)
    fsync(above)
    close(above)
  }

  /// The names in a folder, in ascending order; hidden ones are left out.
  static func names(_ folder: String) throws(StoreError) -> [String] {
    guard let stream = opendir(folder) else { throw .system(folder, "opendir", errno) }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  /// The numbers of the files `NUMBER.suffix` in a folder, in ascending order.
  static func numbers(_ folder: String, _ suffix: String) throws(StoreError) -> [UInt32] {
    try names(folder).compactMap { name in
      guard name.hasSuffix(suffix), let number = UInt32(name.dropLast(suffix.count)),
        self.name(number, suffix) == name
      else { return nil }
      return number
    }.sorted()
  }

  static func name(_ number: UInt32, _ suffix: String) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + suffix
  }
}
