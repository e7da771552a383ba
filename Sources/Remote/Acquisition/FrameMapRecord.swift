public import Memory

/// The classes of frames as an image has them: lengths of runs.
///
/// ```
/// 47 52 41 53 53 46 52 4d   "GRASSFRM"
/// u32 version = 1, u32 number of parts
/// each part: u64 first frame, u64 number of frames, then runs until there are so many:
///   u8 class, then the run's length, seven bits a byte, lowest first, the highest bit set in all but the last
/// ```
public enum FrameMapRecord {
  static let magic = Array("GRASSFRM".utf8)

  /// Cost: one pass over the frames.
  public static func bytes(of map: FrameMap) -> [UInt8] {
    var writer = ByteWriter()
    writer.bytes = magic
    writer.append(UInt32(1), UInt32(clamping: map.parts.count))
    for part in map.parts {
      writer.append(part.first, UInt64(part.classes.count))
      var start = 0
      while start < part.classes.count {
        var end = start + 1
        while end < part.classes.count, part.classes[end] == part.classes[start] { end += 1 }
        writer.bytes.append(part.classes[start])
        var length = UInt64(end - start)
        while length >= 0x80 {
          writer.bytes.append(UInt8(truncatingIfNeeded: length) | 0x80)
          length >>= 7
        }
        writer.bytes.append(UInt8(length))
        start = end
      }
    }
    return writer.bytes
  }
}
