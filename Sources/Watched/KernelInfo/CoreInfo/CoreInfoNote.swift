package import Memory

/// The header of the page-aligned ELF note that holds VMCOREINFO.
///
/// ```
/// +0  u32 length of the name, 11      +12 "VMCOREINFO\0", padded to 12 bytes
/// +4  u32 length of the text          +24 the text
/// +8  u32 type, 0
/// ```
package enum CoreInfoNote {
  package static let headerSize = 24
  /// Up to now the kernel has one page for the text.
  private static let longestText = 64 << 10

  /// The length of the text, where the bytes at `offset` are such a header.
  @inline(__always)
  package static func textLength(_ reader: borrowing ByteReader, _ offset: Int) -> Int? {
    guard let name = try? reader.u64(offset + 12), name == 0x4e49_4552_4f43_4d56,  // "VMCOREIN"
      let rest = try? reader.u32(offset + 20), rest & 0xff_ffff == 0x00_4f46,  // "FO\0"
      let nameLength = try? reader.u32(offset), nameLength == 11,
      let length = try? reader.u32(offset + 4), length > 0, length <= longestText,
      let type = try? reader.u32(offset + 8), type == 0
    else { return nil }
    return Int(length)
  }
}
