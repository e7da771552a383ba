import Foundation
import Testing

/// Which page frames images hold, read apart from GRASS's own readers.
enum PageSets {
  /// Frames of the loadable segments of an ELF core.
  static func elf(_ path: String) throws -> Set<UInt64> {
    let file = try FileHandle(forReadingFrom: URL(filePath: path))
    defer { try? file.close() }
    let header = try bytes(of: file, at: 0, count: 64)
    let (table, number) = (number(header, 0x20, 8), Int(number(header, 0x38, 2)))
    let headers = try bytes(of: file, at: table, count: number * 56)
    var frames: Set<UInt64> = []
    for index in 0..<number where self.number(headers, index * 56, 4) == 1 {
      let start = self.number(headers, index * 56 + 24, 8)
      frames.formUnion(start >> 12..<(start + self.number(headers, index * 56 + 32, 8)) >> 12)
    }
    return frames
  }

  /// Frames that the second bitmap of a kdump names.
  ///
  /// Source: makedumpfile, diskdump_mod.h: a header of one block with block size, blocks of the second header and of the
  /// bitmaps at 428, 432 and 436; the second bitmap is the latter half of these.
  static func kdump(_ path: String) throws -> Set<UInt64> {
    let file = try FileHandle(forReadingFrom: URL(filePath: path))
    defer { try? file.close() }
    let header = try bytes(of: file, at: 0, count: 4096)
    try #require(header.prefix(8).elementsEqual(Array("KDUMP   ".utf8)), "\(path) is no kdump")
    let (block, second, maps) = (number(header, 428, 4), number(header, 432, 4), number(header, 436, 4))
    let bitmap = try bytes(of: file, at: block * (1 + second) + maps * block / 2, count: Int(maps * block / 2))
    var frames: Set<UInt64> = []
    for (index, byte) in bitmap.enumerated() where byte != 0 {
      for bit in 0..<8 where byte >> bit & 1 == 1 { frames.insert(UInt64(index * 8 + bit)) }
    }
    return frames
  }

  private static func bytes(of file: FileHandle, at offset: UInt64, count: Int) throws -> [UInt8] {
    try file.seek(toOffset: offset)
    let data = try #require(try file.read(upToCount: count))
    try #require(data.count == count)
    return Array(data)
  }

  private static func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> UInt64 {
    bytes[offset..<offset + size].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
