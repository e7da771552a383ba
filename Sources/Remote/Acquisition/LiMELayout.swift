import Memory

/// A LiME image: each run behind a header of 32 bytes with its first and last address.
///
/// Source: the LiME project's documentation of its format.
enum LiMELayout {
  private static let headerSize: UInt64 = 32

  static func layout(_ contents: ImageContents) -> ImageLayout {
    var placements: [ImageLayout.Placement] = []
    var offset: UInt64 = 0
    var position: UInt64 = 0
    for run in contents.runs where run.count > 0 {
      var header = ByteWriter()
      header.append(UInt32(0x4c69_4d45), UInt32(1))
      header.append(run.start.rawValue, run.start.rawValue &+ run.count &- 1, UInt64(0))
      offset += headerSize
      placements.append(.init(segment: run, offset: offset, position: position, prefix: header.bytes))
      offset += run.count
      position += run.count
    }
    return ImageLayout(head: [], placements: placements, end: offset)
  }
}
