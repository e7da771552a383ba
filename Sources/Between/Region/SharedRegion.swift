import CRegion
import Glibc
import Host

/// The shared region on its owner's side: memory laid out, mapped, and removed when the last reference goes.
///
/// The memory is a file (for the shared-memory link) or an anonymous one, mode 0600, or a device's own, beside an empty file.
/// A lock on the file's byte 0 says that the owner lives; a lock on byte 1 + n that slot n is granted to a session that
/// lives. The kernel drops both kinds with the process that holds them, however it ends.
public final class SharedRegion: @unchecked Sendable {
  // Immutable after init; the memory itself is accessed only by atomic words, or by copies.
  public let layout: RegionLayout
  /// The path, for a region that has one.
  public let path: String?
  /// The region's memory, valid as long as this object; where it is a device's, an address that only the device can use.
  public let base: UnsafeMutableRawPointer
  /// The device's memory that it lies in; nil for host memory.
  public let device: (any RegionMemory)?
  package let descriptor: Int32

  /// Makes a region at `path`, or an anonymous one for nil.
  ///
  /// A file left by an owner that died is replaced; any other file stays, and is an error.
  ///
  /// - Throws: ``RegionError`` where the file cannot be made or mapped, or another live process owns it.
  public init(path: String? = nil, layout: RegionLayout) throws(RegionError) {
    let subject = path ?? "(anonymous)"
    var descriptor: Int32
    if let path {
      try Self.removeAbandoned(path)
      descriptor = SystemCall.retrying { open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600) }
      guard descriptor >= 0 else { throw RegionError(subject, .system(call: "open", code: errno)) }
    } else {
      descriptor = try Self.anonymousFile()
    }
    func abandon(_ call: String) -> RegionError {
      let code = errno
      close(descriptor)
      if let path { unlink(path) }
      return RegionError(subject, .system(call: call, code: code))
    }
    guard ftruncate(descriptor, layout.regionSize) == 0 else { throw abandon("ftruncate") }
    let allocated = RegionPages.allocateFixed(descriptor, layout)
    guard allocated == 0 else {
      errno = allocated
      throw abandon("fallocate")
    }
    guard SlotClaim.lock(descriptor, byte: 0, count: 1) else { throw abandon("fcntl(F_OFD_SETLK)") }
    guard
      let base = mmap(nil, layout.regionSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else { throw abandon("mmap") }
    self.path = path
    self.layout = layout
    self.descriptor = descriptor
    self.base = base
    device = nil
    try storeHeader()
  }

  /// Makes a region in a device's memory, which it keeps.
  ///
  /// - Throws: ``RegionError`` where the memory is too small or the device cannot copy.
  public init(layout: RegionLayout, in memory: any RegionMemory) throws(RegionError) {
    guard let base = UnsafeMutableRawPointer(bitPattern: UInt(memory.address)), memory.count >= layout.regionSize else {
      throw RegionError("of a device", .device("it needs \(layout.regionSize) bytes, and there are \(memory.count)"))
    }
    descriptor = try Self.anonymousFile()
    path = nil
    self.layout = layout
    self.base = base
    device = memory
    guard SlotClaim.lock(descriptor, byte: 0, count: 1) else {
      throw RegionError("of a device", .system(call: "fcntl(F_OFD_SETLK)", code: errno))
    }
    try storeHeader()
  }

  private func storeHeader() throws(RegionError) {
    var header = layout.header
    // The magic, which makes it a region, is the first word: it goes in last.
    var magic = header.magic
    header.magic = 0
    try withUnsafeBytes(of: &header) { bytes throws(RegionError) in try store(bytes, at: 0) }
    try withUnsafeBytes(of: &magic) { bytes throws(RegionError) in try store(bytes, at: 0) }
  }

  /// A file for a region without a path: nameless, but still openable anew through /proc, which the slots' locks need.
  private static func anonymousFile() throws(RegionError) -> Int32 {
    var template = Array("/dev/shm/grass-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw RegionError("(anonymous)", .system(call: "mkstemp", code: errno)) }
    unlink(&template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return descriptor
  }

  deinit {
    // Unlinked first, so that nobody finds a path without an owner.
    if let path { unlink(path) }
    if device == nil { munmap(base, layout.regionSize) }
    close(descriptor)
  }

  /// Copies bytes into the region: in ascending order into host memory, as ``RegionMemory`` does into a device's.
  ///
  /// - Throws: ``RegionError`` where the device cannot copy; never in host memory.
  public func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
    precondition(offset >= 0 && bytes.count <= layout.regionSize - offset)
    if let device { return try device.store(bytes, at: offset) }
    grass_copy_in(base + offset, bytes.baseAddress, UInt64(bytes.count))
  }

  /// Copies bytes out of the region: in ascending order from host memory.
  ///
  /// - Throws: ``RegionError`` where the device cannot copy; never in host memory.
  public func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
    precondition(offset >= 0 && bytes.count <= layout.regionSize - offset)
    if let device { return try device.load(into: bytes, at: offset) }
    grass_copy_out(bytes.baseAddress, base + offset, UInt64(bytes.count))
  }

  /// The word at an offset that is a multiple of 8.
  ///
  /// - Throws: ``RegionError`` where the device cannot copy; never in host memory.
  public func word(at offset: Int) throws(RegionError) -> UInt64 {
    guard device != nil else { return grass_load(base + offset) }
    var word: UInt64 = 0
    try withUnsafeMutableBytes(of: &word) { bytes throws(RegionError) in try load(into: bytes, at: offset) }
    return word
  }

  /// Takes up to `count` neighbouring free slots for a session, as ``SlotClaim`` says.
  ///
  /// - Throws: ``RegionError`` where every slot is taken, or there is no memory for their records.
  public func claim(slots count: Int) throws(RegionError) -> SlotClaim {
    try SlotClaim(path: "/proc/self/fd/\(descriptor)", layout: layout, count: count, hasPages: device == nil)
  }

  /// Takes slots for the region's owner itself, whom nobody is lent them from then on.
  ///
  /// - Returns: whether it has them now: false where one of them is a session's.
  @discardableResult
  public func reserve(_ slots: Range<Int>) -> Bool {
    SlotClaim.lock(descriptor, byte: 1 + slots.lowerBound, count: slots.count)
  }

  /// Gives back what ``reserve(_:)`` took.
  public func free(_ slots: Range<Int>) { SlotClaim.unlock(descriptor, byte: 1 + slots.lowerBound, count: slots.count) }

  private static func removeAbandoned(_ path: String) throws(RegionError) {
    let descriptor = SystemCall.retrying { open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) }
    guard descriptor >= 0 else {
      if errno == ENOENT { return }
      throw RegionError(path, .system(call: "open", code: errno))
    }
    defer { close(descriptor) }
    var header = grass_header()
    let size = MemoryLayout<grass_header>.size
    guard pread(descriptor, &header, size, 0) == size, grass_header_is_valid(&header, .max) else {
      throw RegionError(path, .system(call: "open", code: EEXIST))
    }
    guard SlotClaim.lock(descriptor, byte: 0, count: 1) else { throw RegionError(path, .inUse) }
    unlink(path)
  }
}
