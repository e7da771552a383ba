/// A LiME image: ranges of physical memory, each behind a header of 32 bytes.
///
/// ```
/// 45 4d 69 4c   magic 0x4c694d45
/// u32 version = 1, u64 first byte's address, u64 last byte's address (inclusive), u64 reserved
/// ```
/// Source: the LiME project's documentation of its format.
enum LiME {
  static let magic: [UInt8] = [0x45, 0x4d, 0x69, 0x4c]
  private static let format = "a LiME image"
  private static let headerSize = 32
  private static let maximumRanges = 1 << 20

  static func open(_ file: MappedFile, _ moved: MovedFrames? = nil) throws(MemoryImageError) -> FileMemory {
    func malformed(_ what: String) -> MemoryImageError { MemoryImageError(file.path, .malformed(format, what)) }
    var extents: [FileMemory.Extent] = []
    var offset = 0
    while offset < file.count {
      let bytes = file.bytes(at: offset, count: headerSize)
      let header = ByteReader(bytes.span.bytes)
      let fields: (magic: UInt32, version: UInt32, first: UInt64, last: UInt64)
      do throws(MemoryFault) {
        // The reserved field, too, must be there: the range follows it.
        _ = try header.u64(24)
        fields = (try header.u32(0), try header.u32(4), try header.u64(8), try header.u64(16))
      } catch {
        throw malformed("it ends within the header at offset \(offset)")
      }
      guard fields.magic == 0x4c69_4d45 else { throw malformed("there is no range's header at offset \(offset)") }
      guard fields.version == 1 else { throw malformed("its version is \(fields.version), and 1 is known") }
      guard fields.first <= fields.last, fields.last - fields.first < UInt64(file.count) else {
        throw malformed("the range at offset \(offset) is longer than the file; was it cut short?")
      }
      let count = fields.last - fields.first + 1
      guard count <= UInt64(file.count - offset - headerSize), extents.count < maximumRanges else {
        throw malformed("the range at offset \(offset) reaches beyond the file's end; was it cut short?")
      }
      extents.append(
        .init(
          segment: MemorySegment(start: PhysicalAddress(fields.first), count: count), fileOffset: offset + headerSize))
      offset += headerSize + Int(count)
    }
    return FileMemory(file: file, format: format, extents: extents, moved: moved)
  }
}
