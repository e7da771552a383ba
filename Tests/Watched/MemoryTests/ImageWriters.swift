import Samples

/// Writes ELF cores as QEMU and /proc/vmcore do, and also wrongly where a test wants that.
struct ELFCoreWriter {
  struct Segment {
    var type: UInt32 = 1
    var physical: UInt64
    var bytes: [UInt8]
    /// Where the header says that the bytes lie, and how many they are, if not as it is.
    var offset: UInt64?
    var size: UInt64?
  }

  var segments: [Segment]
  var type: UInt16 = 4
  var machine: UInt16 = 62
  var isWide = true
  var headerSize: UInt16 = 56
  /// The number of headers as the ELF header gives it; 0xffff sends the reader to section header 0.
  var number: UInt16?
  var sectionNumber: UInt32?

  var bytes: [UInt8] {
    let stride = max(Int(headerSize), 56)
    let table = 64 + (sectionNumber == nil ? 0 : 64)
    var file = Bytes()
    // Magic, 64 or 32 bit, little endian, version; padding.
    file.all += [0x7f, 0x45, 0x4c, 0x46, isWide ? 2 : 1, 1, 1] + [UInt8](repeating: 0, count: 9)
    file.append(type)
    file.append(machine)
    file.append(UInt32(1))
    file.append(UInt64(0))  // 0x18: entry
    file.append(UInt64(table))  // 0x20: program headers
    file.append(UInt64(sectionNumber == nil ? 0 : 64))  // 0x28: section headers
    file.append(UInt32(0))  // 0x30: flags
    file.append(UInt16(64))  // 0x34: size of this header
    file.append(headerSize)  // 0x36: of a program header
    file.append(number ?? UInt16(segments.count))  // 0x38: their number
    for _ in 0..<3 { file.append(UInt16(0)) }
    if let sectionNumber {
      file.all += [UInt8](repeating: 0, count: 0x2c)
      file.append(sectionNumber)  // sh_info
      file.all += [UInt8](repeating: 0, count: 64 - 0x30)
    }
    var place = UInt64(table + stride * segments.count)
    for segment in segments {
      file.append(segment.type)
      file.append(UInt32(7))
      file.append(segment.offset ?? place)
      file.append(UInt64(0xffff_8880_0000_0000) &+ segment.physical)
      file.append(segment.physical)
      file.append(segment.size ?? UInt64(segment.bytes.count))
      file.append(segment.size ?? UInt64(segment.bytes.count))
      file.append(UInt64(0))
      file.all += [UInt8](repeating: 0xee, count: stride - 56)
      place += UInt64(segment.bytes.count)
    }
    for segment in segments { file.all += segment.bytes }
    return file.all
  }
}

/// One range of a LiME image: its header and its bytes.
func limeRange(_ first: UInt64, _ content: [UInt8], version: UInt32 = 1, last: UInt64? = nil) -> [UInt8] {
  // "EMiL", version, first and last address, reserved.
  bytes(UInt32(0x4c69_4d45), version)
    + bytes(first, last ?? first &+ UInt64(content.count) &- 1, 0) + content
}
