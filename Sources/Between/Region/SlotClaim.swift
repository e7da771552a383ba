import Glibc
import Host

/// Neighbouring slots of a region that are one session's own until the claim goes, or its process dies.
///
/// Claims are locks of open file descriptions on the region's file, one byte a slot: they hold between threads as
/// between processes, and need nothing that a process would have to do in dying.
public final class SlotClaim: @unchecked Sendable {
  // F_OFD_GETLK and F_OFD_SETLK of <fcntl.h>, which Swift's module of the C library leaves out.
  private static let getLock: Int32 = 36
  private static let setLock: Int32 = 37

  // Immutable after init.
  public let slots: Range<Int>
  package let descriptor: Int32

  /// Opens the region at `path` and takes up to `count` neighbouring slots: the longest free run where none is as long.
  ///
  /// - Throws: ``RegionError`` where the file cannot be opened or every slot is taken.
  public convenience init(path: String, layout: RegionLayout, count: Int) throws(RegionError) {
    let descriptor = SystemCall.retrying { open(path, O_RDWR | O_CLOEXEC) }
    guard descriptor >= 0 else { throw RegionError(path, .system(call: "open", code: errno)) }
    do throws(RegionError) {
      try self.init(descriptor: descriptor, subject: path, layout: layout, count: count)
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Takes slots through a descriptor, opened for reading and writing, that becomes the claim's own on success.
  package init(descriptor: Int32, subject: String, layout: RegionLayout, count: Int) throws(RegionError) {
    var wanted = max(1, min(count, layout.slotCount))
    while wanted > 0 {
      for start in 0...layout.slotCount - wanted where Self.lock(descriptor, byte: 1 + start, count: wanted) {
        slots = start..<start + wanted
        self.descriptor = descriptor
        return
      }
      wanted -= 1
    }
    throw RegionError(subject, .noFreeSlot)
  }

  deinit { close(descriptor) }

  /// Whether the region's owner still lives.
  package var ownerLives: Bool {
    var lock = Self.request(byte: 0, count: 1)
    return fcntl(descriptor, Self.getLock, &lock) != 0 || lock.l_type != Int16(F_UNLCK)
  }

  /// Takes an exclusive lock on bytes of a file, all or none.
  ///
  /// The corresponding C call is `fcntl(F_OFD_SETLK)`.
  static func lock(_ descriptor: Int32, byte: Int, count: Int) -> Bool {
    var lock = request(byte: byte, count: count)
    return fcntl(descriptor, setLock, &lock) == 0
  }

  private static func request(byte: Int, count: Int) -> flock {
    var lock = flock()
    lock.l_type = Int16(F_WRLCK)
    lock.l_whence = Int16(SEEK_SET)
    lock.l_start = byte
    lock.l_len = count
    return lock
  }
}
