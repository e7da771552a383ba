import CLinux
import Glibc
import Host

/// The pages of a region's file, which are there before anybody stores into them: a full file system is then told by an error,
/// and not by a signal.
///
/// What everybody reads, and the head of each request, which is polled, are there from the start; the records of a slot are from when
/// it is first lent. They stay from then on: the device may answer somebody who is gone.
enum RegionPages {
  /// Gives a new region's file, of its full size, what is needed before any slot is lent.
  ///
  /// Returns an errno, 0 for none.
  static func allocateFixed(_ descriptor: Int32, _ layout: RegionLayout) -> Int32 {
    var parts = [0..<layout.responseOffset(slot: 0), layout.scratchPart]
    parts += (0..<layout.slotCount).map { slot in
      layout.requestOffset(slot: slot)..<layout.requestOffset(slot: slot) + MemoryLayout<UInt64>.size
    }
    for part in parts where !part.isEmpty {
      let code = allocate(descriptor, part)
      // Where that can be done only by writing, it is done now, while nobody else has the file.
      if code == EOPNOTSUPP { return posix_fallocate(descriptor, 0, layout.regionSize) }
      if code != 0 { return code }
    }
    return 0
  }

  /// Gives the records of slots their pages.
  ///
  /// Returns an errno, 0 for none. Cost: clears the pages that were not there, some 0.3 ms a MiB.
  static func allocate(_ slots: Range<Int>, _ descriptor: Int32, _ layout: RegionLayout) -> Int32 {
    for part in [layout.requests(of: slots), layout.responses(of: slots)] {
      let code = allocate(descriptor, part)
      if code == EOPNOTSUPP { return 0 }
      if code != 0 { return code }
    }
    return 0
  }

  private static func allocate(_ descriptor: Int32, _ part: Range<Int>) -> Int32 {
    let result = SystemCall.retrying {
      grass_allocate_pages(descriptor, Int64(part.lowerBound), Int64(part.count))
    }
    return result == 0 ? 0 : errno
  }
}
