import CCompression
import Memory
import Testing

/// A kdump-compressed image, read apart from what writes it.
struct KdumpImage {
  let file: [UInt8]
  /// Frames that the memory has, and that the image has.
  private(set) var present: Set<UInt64> = []
  private(set) var dumped: [UInt64] = []
  let notesOffset: Int
  private let table: Int

  init(_ file: [UInt8]) throws {
    self.file = file
    let reader = ByteReader(file.span.bytes)
    try #require(file.starts(with: Array("KDUMP   ".utf8)))
    #expect(try reader.u32(8) == 6)
    // Compression (zstd or zlib), block size, blocks of the second header and of the bitmaps.
    #expect(try [0x20, 0x1].contains(reader.u32(424)) && reader.u32(428) == 4096 && reader.u32(432) == 1)
    let blocks = Int(try reader.u32(436))
    let limit = try reader.u64(4096 + 96)
    for frame in 0..<limit {
      func isSet(_ map: Int) throws -> Bool {
        try reader.u8(8192 + map * blocks / 2 * 4096 + Int(frame / 8)) >> UInt8(frame % 8) & 1 == 1
      }
      if try isSet(0) { present.insert(frame) }
      if try isSet(1) { dumped.append(frame) }
    }
    table = 8192 + blocks * 4096
    notesOffset = Int(try reader.u64(4096 + 48))
  }

  /// The page of the image's frame number `index`.
  func page(_ index: Int) throws -> [UInt8] {
    let reader = ByteReader(file.span.bytes)
    let entry = table + index * 24
    let (offset, size, flags) = (Int(try reader.u64(entry)), Int(try reader.u32(entry + 8)), try reader.u32(entry + 12))
    let data = try reader.slice(offset, count: size).copy()
    guard flags != 0 else { return data }
    #expect(try flags == reader.u32(424))
    var page = [UInt8](repeating: 0, count: 4096)
    if flags == 1 {
      var count: uLongf = 4096
      #expect(uncompress(&page, &count, data, uLong(data.count)) == Z_OK && count == 4096)
      return page
    }
    #expect(ZSTD_decompress(&page, page.count, data, data.count) == 4096)
    return page
  }

  /// The notes: names, types and contents.
  func notes() throws -> [(name: [UInt8], type: UInt32, text: [UInt8])] {
    let reader = ByteReader(file.span.bytes)
    var notes: [(name: [UInt8], type: UInt32, text: [UInt8])] = []
    var place = notesOffset
    while place < file.count {
      let (name, size) = (Int(try reader.u32(place)), Int(try reader.u32(place + 4)))
      let text = place + 12 + (name + 3) / 4 * 4
      notes.append(
        (try reader.cString(place + 12), try reader.u32(place + 8), try reader.slice(text, count: size).copy()))
      place = text + (size + 3) / 4 * 4
    }
    return notes
  }

  /// The image that a flattened one stands for.
  static func unflattened(_ stream: [UInt8]) throws -> [UInt8] {
    let reader = ByteReader(stream.span.bytes)
    try #require(stream.starts(with: Array("makedumpfile".utf8)))
    #expect(try reader.u64(16).byteSwapped == 1 && reader.u64(24).byteSwapped == 1)
    var image: [UInt8] = []
    var place = 4096
    while true {
      let (offset, count) = (try reader.u64(place).byteSwapped, try reader.u64(place + 8).byteSwapped)
      place += 16
      if offset == .max { break }
      let end = Int(offset) + Int(count)
      if image.count < end { image += [UInt8](repeating: 0, count: end - image.count) }
      image.replaceSubrange(Int(offset)..<end, with: try reader.slice(place, count: Int(count)).copy())
      place += Int(count)
    }
    #expect(place == stream.count)
    return image
  }
}
