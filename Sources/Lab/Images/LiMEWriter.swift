public import Foundation

/// Makes a LiME image of a raw one, as the LiME module would write it in the guest.
public enum LiMEWriter {
  /// Writes what `ranges` have of a raw image, whose offsets are physical addresses.
  public static func write(raw: URL, ranges: [Range<UInt64>], to target: URL) throws {
    let input = try FileHandle(forReadingFrom: raw)
    _ = FileManager.default.createFile(atPath: target.path, contents: nil)
    let output = try FileHandle(forWritingTo: target)
    for range in ranges {
      var header = Data()
      for word in [UInt32(0x4c69_4d45), 1] { withUnsafeBytes(of: word.littleEndian) { header.append(contentsOf: $0) } }
      // The end is inclusive.
      for word in [range.lowerBound, range.upperBound - 1, 0] {
        withUnsafeBytes(of: word.littleEndian) { header.append(contentsOf: $0) }
      }
      try output.write(contentsOf: header)
      try input.seek(toOffset: range.lowerBound)
      var left = range.upperBound - range.lowerBound
      while left > 0, let chunk = try input.read(upToCount: Int(min(left, 16 << 20))), !chunk.isEmpty {
        try output.write(contentsOf: chunk)
        left -= UInt64(chunk.count)
      }
    }
    try output.close()
  }
}
