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

  /// Opens the region at `path` and takes up to `count` neighbouring slots, as many as is fair.
  ///
  /// A claim gets up to four slots where all are free, and fewer the fewer are free, but at least one: so late comers find
  /// some, too. Where no free neighbours are as many, it gets the longest run of them.
  ///
  /// - Throws: ``RegionError`` where the file cannot be opened, every slot is taken, or there is no memory for their records.
  convenience init(path: String, layout: RegionLayout, count: Int, hasPages: Bool) throws(RegionError) {
    let descriptor = SystemCall.retrying { open(path, O_RDWR | O_CLOEXEC) }
    guard descriptor >= 0 else { throw RegionError(path, .system(call: "open", code: errno)) }
    do throws(RegionError) {
      try self.init(descriptor: descriptor, subject: path, layout: layout, count: count, hasPages: hasPages)
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Takes slots through a descriptor, opened for reading and writing, that becomes the claim's own on success.
  ///
  /// `hasPages` says that the records lie in the file, and not in a device.
  package init(
    descriptor: Int32, subject: String, layout: RegionLayout, count: Int, hasPages: Bool = true
  ) throws(RegionError) {
    var taken: Range<Int>?
    // Whoever else takes slots meanwhile can spoil no more turns than there are slots.
    for _ in 0...layout.slotCount where taken == nil {
      let runs = Self.freeRuns(descriptor, layout)
      let share = max(1, min(count, runs.reduce(0) { $0 + $1.count } * Self.usualCount / layout.slotCount))
      guard let run = runs.first(where: { $0.count >= share }) ?? runs.max(by: { $0.count < $1.count }) else { break }
      let slots = run.prefix(share)
      if Self.lock(descriptor, byte: 1 + slots.lowerBound, count: slots.count) { taken = slots }
    }
    guard let taken else { throw RegionError(subject, .noFreeSlot) }
    // The caller closes the descriptor, and the lock goes with it.
    let code = hasPages ? RegionPages.allocate(taken, descriptor, layout) : 0
    guard code == 0 else { throw RegionError(subject, .noMemory(code: code)) }
    slots = taken
    self.descriptor = descriptor
  }

  /// What a claim gets of a region that nobody else uses.
  private static let usualCount = 4

  /// The slots that nobody has, in runs of neighbours.
  private static func freeRuns(_ descriptor: Int32, _ layout: RegionLayout) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    for slot in 0..<layout.slotCount {
      var lock = request(byte: 1 + slot, count: 1)
      guard fcntl(descriptor, getLock, &lock) == 0, lock.l_type == Int16(F_UNLCK) else { continue }
      if let last = runs.last, last.upperBound == slot {
        runs[runs.count - 1] = last.lowerBound..<slot + 1
      } else {
        runs.append(slot..<slot + 1)
      }
    }
    return runs
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

  /// Gives locked bytes of a file back.
  static func unlock(_ descriptor: Int32, byte: Int, count: Int) {
    var lock = request(F_UNLCK, byte: byte, count: count)
    _ = fcntl(descriptor, setLock, &lock)
  }

  private static func request(_ type: Int32 = F_WRLCK, byte: Int, count: Int) -> flock {
    var lock = flock()
    lock.l_type = Int16(type)
    lock.l_whence = Int16(SEEK_SET)
    lock.l_start = byte
    lock.l_len = count
    return lock
  }
}
