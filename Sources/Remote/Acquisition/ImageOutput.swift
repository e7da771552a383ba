import Glibc
import Host

/// Where an image's bytes go: a file that has another name until it is whole, or a pipe.
///
/// In a file, pages of zeros are holes. A pipe takes bytes in their order, and zeros for what lies between.
final class ImageOutput {
  /// The file's name, or what a pipe is called.
  let name: String
  private let path: String?
  private let descriptor: CInt
  /// Whether each piece has its offset and size before it: makedumpfile's flattened form, for pipes.
  private let isFlattened: Bool
  /// How far a pipe has got, in bytes of the image; of what is flattened, the end of what was written furthest behind.
  private(set) var position: UInt64 = 0

  /// The name under which a file is written that is not whole yet.
  static func partialPath(of path: String) -> String { path + ".part" }

  /// What is open already, and stays so; flattened where an image has to be written in another order than that of its bytes.
  ///
  /// `position` is how far another pipe has got, behind whose bytes these go, 0 for none; `name` is what it leads to, nil where nobody knows.
  ///
  /// - Throws: ``AcquisitionError`` where nothing can be written to it.
  init(stream: CInt, isFlattened: Bool, from position: UInt64 = 0, name: String? = nil) throws(AcquisitionError) {
    self.isFlattened = isFlattened
    self.position = position
    self.name = name ?? (stream == STDOUT_FILENO ? "standard output" : "descriptor \(stream)")
    path = nil
    descriptor = stream
    guard isFlattened, position == 0 else { return }
    // Name, type 1, version 1, big endian; padded to a page. Source: makedumpfile, struct makedumpfile_header.
    var header = ByteWriter()
    header.bytes = Array("makedumpfile".utf8) + [0, 0, 0, 0]
    header.append(UInt64(1).bigEndian, UInt64(1).bigEndian)
    header.align(ZeroPages.size)
    try send(header.bytes)
  }

  /// The file that `path` is to become, as a part of it was left or empty.
  ///
  /// - Throws: ``AcquisitionError`` where there is a file of that name, another process writes it, or the system does not let it.
  init(path: String) throws(AcquisitionError) {
    name = path
    self.path = path
    isFlattened = false
    guard access(path, F_OK) != 0 else { throw AcquisitionError(path, .exists) }
    let partial = Self.partialPath(of: path)
    descriptor = open(partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw AcquisitionError(partial, .system(call: "open", errno)) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      throw AcquisitionError(partial, code == EWOULDBLOCK ? .busy : .system(call: "flock", code))
    }
  }

  deinit {
    guard path != nil else { return }
    // A program that is being started meanwhile has the file open, too, until it runs.
    flock(descriptor, LOCK_UN)
    close(descriptor)
  }

  var isStream: Bool { path == nil }

  /// The file's length in bytes; 0 for a pipe.
  var size: UInt64 {
    var status = stat()
    return !isStream && fstat(descriptor, &status) == 0 ? UInt64(clamping: status.st_size) : 0
  }

  /// Cuts a file, or lengthens it by a hole.
  func setSize(_ size: UInt64) throws(AcquisitionError) {
    if isStream { return isFlattened ? () : try pad(to: size) }
    guard SystemCall.retrying({ ftruncate(descriptor, off_t(clamping: size)) }) == 0 else { throw failure("ftruncate") }
  }

  /// Writes all of `bytes` at `offset`, which for a pipe is not before what was written.
  ///
  /// Pages of zeros are passed over in a file that has nothing there.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(AcquisitionError) {
    if isFlattened {
      guard !bytes.isEmpty else { return }
      try sendHeader(Int64(clamping: offset), Int64(bytes.count))
      try send(bytes)
      position = max(position, offset + UInt64(bytes.count))
      return
    }
    guard !isStream else {
      try pad(to: offset)
      try send(bytes)
      position += UInt64(bytes.count)
      return
    }
    var start = 0
    while start < bytes.count {
      let isZero = ZeroPages.isZero(bytes, start)
      var end = start
      while end < bytes.count, ZeroPages.isZero(bytes, end) == isZero { end = min(end + ZeroPages.size, bytes.count) }
      if !isZero {
        try put(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) { rest, done in
          pwrite(self.descriptor, rest.baseAddress, rest.count, off_t(clamping: offset) + off_t(start + done))
        }
      }
      start = end
    }
  }

  /// Writes all of `bytes` at `offset` of a file, or of a flattened image, over what is there.
  func overwrite(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(AcquisitionError) {
    guard path != nil else { return try write(bytes, at: offset) }
    try put(bytes) { rest, done in
      pwrite(self.descriptor, rest.baseAddress, rest.count, off_t(clamping: offset) + off_t(done))
    }
  }

  /// Whether what was written can be written anew.
  var takesRewriting: Bool { !isStream || isFlattened }

  func write(_ bytes: [UInt8], at offset: UInt64) throws(AcquisitionError) {
    try bytes.span.bytes.withUnsafeBytes { buffer throws(AcquisitionError) in try write(buffer, at: offset) }
  }

  /// The file's bytes from `offset` on, fewer where it ends before.
  func read(_ offset: UInt64, count: Int) throws(AcquisitionError) -> [UInt8] {
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
    if code != 0 { throw AcquisitionError(name, .system(call: "pread", code)) }
    return bytes
  }

  /// Has what was written kept whatever happens to this machine.
  ///
  /// Cost: as long as the disk takes.
  func synchronize() throws(AcquisitionError) {
    guard !isStream else { return }
    guard SystemCall.retrying({ fdatasync(descriptor) }) == 0 else { throw failure("fdatasync") }
  }

  /// Gives the file its name: it is whole.
  func finish() throws(AcquisitionError) {
    if isFlattened { try sendHeader(-1, -1) }
    guard let path else { return }
    try synchronize()
    // Not over a file that somebody made meanwhile.
    guard link(Self.partialPath(of: path), path) == 0 else {
      let code = errno
      guard code != EEXIST else { throw AcquisitionError(path, .exists) }
      // Some file systems have no links.
      guard rename(Self.partialPath(of: path), path) == 0 else { throw failure("rename") }
      return
    }
    unlink(Self.partialPath(of: path))
  }

  private func pad(to offset: UInt64) throws(AcquisitionError) {
    let zeros = [UInt8](repeating: 0, count: Int(min(1 << 20, offset > position ? offset - position : 0)))
    while position < offset {
      let count = Int(min(UInt64(zeros.count), offset - position))
      try zeros.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in
        try send(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      }
      position += UInt64(count)
    }
  }

  /// What stands before each piece of a flattened image, and at its end.
  private func sendHeader(_ offset: Int64, _ count: Int64) throws(AcquisitionError) {
    var header = ByteWriter()
    header.append(offset.bigEndian, count.bigEndian)
    try send(header.bytes)
  }

  private func send(_ bytes: [UInt8]) throws(AcquisitionError) {
    try bytes.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in try send(bytes) }
  }

  private func send(_ bytes: UnsafeRawBufferPointer) throws(AcquisitionError) {
    try put(bytes) { rest, _ in Glibc.write(self.descriptor, rest.baseAddress, rest.count) }
  }

  private func put(
    _ bytes: UnsafeRawBufferPointer, _ call: (UnsafeRawBufferPointer, Int) -> Int
  ) throws(AcquisitionError) {
    var done = 0
    while done < bytes.count {
      let count = SystemCall.retrying { call(UnsafeRawBufferPointer(rebasing: bytes[done...]), done) }
      guard count > 0 else { throw failure("write") }
      done += count
    }
  }

  private func failure(_ call: String) -> AcquisitionError { AcquisitionError(name, .system(call: call, errno)) }
}
