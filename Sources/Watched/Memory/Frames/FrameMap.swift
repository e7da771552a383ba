/// The class of each page frame that a memory holds.
///
/// One byte a frame: 256 MiB for a TiB of memory.
public struct FrameMap: Sendable {
  /// Frames that lie beside each other.
  public struct Part: Sendable {
    /// The first one's number: its address divided by 4096.
    public let first: UInt64
    /// Raw values of ``FrameClass``, one a frame.
    public fileprivate(set) var classes: [UInt8]
  }

  /// In ascending order, without overlap.
  public private(set) var parts: [Part]
  /// Descriptions of frames that could not be read; those frames are ``FrameClass/unknown``.
  public var faults: [MemoryFault] = []

  /// The bytes of a page frame.
  public static let frameSize: UInt64 = 4096

  /// The frames that lie in `segments` whole, in ascending order, all of no known class.
  public init(of segments: [MemorySegment]) {
    var end: UInt64 = 0
    parts = []
    for segment in segments {
      let first = max(
        segment.start.rawValue / Self.frameSize + (segment.start.rawValue % Self.frameSize == 0 ? 0 : 1), end)
      let last = min(segment.start.rawValue &+ segment.count, 1 << 52) / Self.frameSize
      guard first < last else { continue }
      parts.append(
        Part(first: first, classes: [UInt8](repeating: FrameClass.unknown.rawValue, count: Int(last - first))))
      end = last
    }
  }

  /// The class of a frame; ``FrameClass/unknown`` where the memory does not hold it.
  ///
  /// Cost: a binary search.
  public subscript(frame: UInt64) -> FrameClass {
    guard let part = part(of: frame) else { return .unknown }
    return FrameClass(rawValue: parts[part].classes[Int(frame - parts[part].first)]) ?? .unknown
  }

  /// Gives frames a class, as far as the memory holds them.
  public mutating func set(_ frames: Range<UInt64>, _ value: FrameClass) {
    for index in parts.indices {
      let part = parts[index]
      let start = max(frames.lowerBound, part.first)
      let end = min(frames.upperBound, part.first + UInt64(part.classes.count))
      guard start < end else { continue }
      for place in Int(start - part.first)..<Int(end - part.first) { parts[index].classes[place] = value.rawValue }
    }
  }

  /// Changes the classes of one part in place.
  package mutating func update(_ index: Int, _ body: (_ first: UInt64, inout [UInt8]) -> Void) {
    body(parts[index].first, &parts[index].classes)
  }

  /// How many frames there are of each class.
  ///
  /// Cost: one pass.
  public var counts: [FrameClass: UInt64] {
    var counts = [UInt64](repeating: 0, count: 256)
    for part in parts { for value in part.classes { counts[Int(value)] += 1 } }
    return Dictionary(
      uniqueKeysWithValues: FrameClass.allCases.compactMap {
        counts[Int($0.rawValue)] > 0 ? ($0, counts[Int($0.rawValue)]) : nil
      })
  }

  private func part(of frame: UInt64) -> Int? {
    let last = parts.partitioningIndex { $0.first > frame } - 1
    guard last >= 0, frame - parts[last].first < UInt64(parts[last].classes.count) else { return nil }
    return last
  }
}
