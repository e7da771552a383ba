import Acquisition
public import Memory

/// The memory in an image of a store.
///
/// Every page and node is held against its name before it is used: one that is damaged cannot be read, and its neighbours can.
public final class StoredMemory: PhysicalMemory {
  public let image: StoredImage
  public let segments: [MemorySegment]
  public let movedFrames: MovedFrames?
  private let tree: TreeReader
  private let objects: ObjectStore

  private static let page: UInt64 = 4096

  init(_ image: StoredImage, _ objects: ObjectStore) {
    (self.image, self.objects) = (image, objects)
    segments = image.contents.runs
    movedFrames = image.consistency.map { MovedFrames($0.moved) }
    tree = TreeReader(image.root, image.height, objects)
  }

  public var isNear: Bool { true }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    // What lies beside each other is asked for one after the other.
    var last: (frame: UInt64, bytes: [UInt8])?
    batch.fill { (address, target) throws(MemoryFault) in
      guard holds(address, count: target.count) else { throw MemoryFault(.physical(address), .absent) }
      movedFrames?.note(address, count: target.count)
      var done = 0
      while done < target.count {
        let place = address + done
        let (frame, offset) = (place.rawValue / Self.page, Int(place.rawValue % Self.page))
        let count = min(target.count - done, Int(Self.page) - offset)
        if last?.frame != frame { last = (frame, try page(frame)) }
        let part = UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
        if let bytes = last?.bytes, bytes.count >= offset + count {
          bytes.withUnsafeBytes { part.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count])) }
        } else {
          // Of a page of zeros there is nothing.
          part.initializeMemory(as: UInt8.self, repeating: 0)
        }
        done += count
      }
    }
  }

  /// The bytes of a page; none for one of zeros.
  private func page(_ frame: UInt64) throws(MemoryFault) -> [UInt8] {
    let address = PhysicalAddress(frame * Self.page)
    do throws(ObjectStore.Fault) {
      let name = try tree.page(frame)
      if name == .zero { return [] }
      if !name.isMark { return try objects.read(name, .page) }
    } catch {
      throw MemoryFault(.physical(address), .inconsistent("in the store, \(error)"))
    }
    throw MemoryFault(.physical(address), .absent)
  }

  /// Whether all of `count` bytes lie in one segment.
  private func holds(_ address: PhysicalAddress, count: Int) -> Bool {
    var (low, high) = (0, segments.count)
    while low < high {
      let middle = (low + high) / 2
      if segments[middle].start <= address { low = middle + 1 } else { high = middle }
    }
    return low > 0 && segments[low - 1].contains(address, count: count)
  }

  /// What of a segment is neither zeros nor known to be unreadable.
  ///
  /// Cost: the nodes above it.
  public func dataRanges(in segment: MemorySegment) -> [MemorySegment] {
    var ranges: [MemorySegment] = []
    let end = segment.start.rawValue &+ segment.count
    var start = segment.start.rawValue
    func add(_ stop: UInt64) {
      if let last = ranges.last, last.start.rawValue + last.count == start {
        ranges[ranges.count - 1].count += stop - start
      } else {
        ranges.append(MemorySegment(start: PhysicalAddress(start), count: stop - start))
      }
    }
    while start < end {
      // As far as the highest node goes that is a mark as a whole.
      var stop = min(end, (start / Self.page + 1) * Self.page)
      var isData = true
      for level in stride(from: tree.height, through: 0, by: -1) {
        guard let name = try? tree.node(start / Self.page, level: level), name.isMark else { continue }
        let size = ImageTree.frames(level) * Self.page
        (stop, isData) = (min(end, (start / size + 1) * size), false)
        break
      }
      if isData { add(stop) }
      start = stop
    }
    return ranges
  }
}
