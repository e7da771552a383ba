import Foundation
import Testing

/// Which page frames images hold, read apart from GRASS's own readers: a bit a frame, the lowest first, without zeros at the end.
enum PageSets {
  /// Frames of the loadable segments of an ELF core.
  static func elf(_ path: String) throws -> Data {
    let file = try FileHandle(forReadingFrom: URL(filePath: path))
    defer { try? file.close() }
    let header = try bytes(of: file, at: 0, count: 64)
    let (table, number) = (number(header, 0x20, 8), Int(number(header, 0x38, 2)))
    let headers = try bytes(of: file, at: table, count: number * 56)
    var map = [UInt8](repeating: 0, count: 1 << 16)
    for index in 0..<number where self.number(headers, index * 56, 4) == 1 {
      let start = self.number(headers, index * 56 + 24, 8)
      let frames = Int(start >> 12)..<Int((start + self.number(headers, index * 56 + 32, 8)) >> 12)
      try #require(frames.upperBound <= map.count * 8, "more memory than these guests have")
      for frame in frames { map[frame / 8] |= 1 << UInt8(frame % 8) }
    }
    return trimmed(Data(map))
  }

  /// Frames that the second bitmap of a kdump names.
  ///
  /// Source: makedumpfile, diskdump_mod.h: a header of one block with block size, blocks of the second header and of the
  /// bitmaps at 428, 432 and 436; the second bitmap is the latter half of these.
  static func kdump(_ path: String) throws -> Data {
    let file = try FileHandle(forReadingFrom: URL(filePath: path))
    defer { try? file.close() }
    let header = try bytes(of: file, at: 0, count: 4096)
    try #require(header.prefix(8).elementsEqual(Array("KDUMP   ".utf8)), "\(path) is no kdump")
    let (block, second, maps) = (number(header, 428, 4), number(header, 432, 4), number(header, 436, 4))
    return trimmed(try bytes(of: file, at: block * (1 + second) + maps * block / 2, count: Int(maps * block / 2)))
  }

  /// The first frames that only one of two has.
  static func difference(_ one: Data, _ other: Data) -> [Int] {
    (0..<max(one.count, other.count)).lazy
      .filter { ($0 < one.count ? one[$0] : 0) != ($0 < other.count ? other[$0] : 0) }.prefix(8).map { $0 * 8 }
  }

  /// How many frames there are.
  static func count(_ frames: Data) -> Int { frames.reduce(0) { $0 + $1.nonzeroBitCount } }

  private static func trimmed(_ map: Data) -> Data { Data(map[..<((map.lastIndex { $0 != 0 } ?? -1) + 1)]) }

  private static func bytes(of file: FileHandle, at offset: UInt64, count: Int) throws -> Data {
    try file.seek(toOffset: offset)
    let data = try #require(try file.read(upToCount: count))
    try #require(data.count == count)
    return data
  }

  private static func number(_ bytes: Data, _ offset: Int, _ size: Int) -> UInt64 {
    bytes[offset..<offset + size].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
