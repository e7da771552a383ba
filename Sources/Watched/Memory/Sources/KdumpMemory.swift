import Glibc
import Synchronization

/// A kdump-compressed image: what makedumpfile writes, QEMU's dump-guest-memory -z, and grassctl dump; each page compressed by itself.
///
/// ```
/// block 0     "KDUMP   ", u32 version, struct utsname, ...; at 424: u32 status, block size, blocks of the second header and of the
///             bitmaps, number of frames
/// block 1     the second header; at 12: u32 1 for a part of a split image; at 96, from version 6 on: u64 number of frames
/// then        two bitmaps of equal length, a bit a frame: frames that the memory has, frames that are in the image
///             for each of these, 24 bytes: u64 offset in the file, u32 size, u32 how it is compressed, u64 flags
/// ```
/// It may lie in makedumpfile's flattened form, as it came out of a pipe (``FlattenedFile``).
/// Source: makedumpfile's IMPLEMENTATION and diskdump_mod.h.
final class KdumpMemory: PhysicalMemory {
  static let magic = Array("KDUMP   ".utf8)
  private static let format = "a kdump"

  let segments: [MemorySegment]
  let movedFrames: MovedFrames?
  private let image: KdumpBytes
  /// The second bitmap, and for how many frames it is.
  private let bitmap: KdumpBytes.Part
  private let frameLimit: UInt64
  /// Where the table of pages begins.
  private let table: Int
  /// How many frames of the image come before each group of ``groupSize``.
  private let ranks: [UInt32]
  private let pages = Mutex(PageCache())

  private static let pageSize = 4096
  private static let entrySize = 24
  /// Frames to a group, whose bits are counted one by one.
  private static let groupSize: UInt64 = 512

  /// Pages that were unpacked before: who follows pointers comes back to the same ones.
  private struct PageCache {
    private var pages: [UInt64: [UInt8]] = [:]
    private static let most = 4096

    subscript(frame: UInt64) -> [UInt8]? { pages[frame] }

    mutating func keep(_ page: [UInt8], of frame: UInt64) {
      if pages.count >= Self.most { pages.removeAll(keepingCapacity: true) }
      pages[frame] = page
    }
  }

  /// Reads the image's headers and bitmap.
  ///
  /// - Throws: ``MemoryImageError`` where it is broken, or compressed in a way that is not known here. Cost: the bitmap is read, a bit a page.
  init(_ file: MappedFile) throws(MemoryImageError) {
    let image = try KdumpBytes(file)
    func malformed(_ what: String) -> MemoryImageError { MemoryImageError(file.path, .malformed(Self.format, what)) }
    func unsupported(_ what: String, _ remedy: String) -> MemoryImageError {
      MemoryImageError(file.path, .unsupported("\(Self.format) \(what)", remedy: remedy))
    }
    let head = image.bytes(at: 0, count: 2 * Self.pageSize)
    guard head.starts(with: Self.magic) else {
      throw unsupported("in flattened form that holds something else", "make a file of it with makedumpfile -R")
    }
    let header = ByteReader(head.span.bytes)
    let fields: (version: UInt32, status: UInt32, block: UInt32, second: UInt32, bitmaps: UInt32, frames: UInt64)
    let isPart: Bool
    do throws(MemoryFault) {
      let version = try header.u32(8)
      fields = (
        version, try header.u32(424), try header.u32(428), try header.u32(432), try header.u32(436),
        version >= 6 ? try header.u64(Self.pageSize + 96) : UInt64(try header.u32(440))
      )
      isPart = version >= 2 ? try header.u32(Self.pageSize + 12) != 0 : false
    } catch {
      throw malformed("it ends within its headers; was it cut short?")
    }
    guard fields.block == UInt32(Self.pageSize) else {
      throw unsupported("of pages of \(fields.block) bytes", "give an image of an x86-64 machine")
    }
    guard !isPart else {
      throw unsupported("that was split", "join its parts with makedumpfile --reassemble")
    }
    for (flag, name) in [(KdumpPage.lzo, "LZO"), (KdumpPage.snappy, "snappy")] where fields.status & flag != 0 {
      throw unsupported(
        "compressed with \(name)",
        "compress it with zlib: makedumpfile -c -d 0 FILE NEW")
    }
    // In 64 bits nothing overflows: blocks are counted in 32.
    let first = (1 + UInt64(fields.second)) * UInt64(Self.pageSize)
    let half = UInt64(fields.bitmaps) / 2 * UInt64(Self.pageSize)
    let table = first + 2 * half
    guard fields.frames <= UInt64(UInt32.max) else {
      throw unsupported("of more than 16 TiB", "look into it with crash")
    }
    guard half > 0, fields.frames <= half * 8, table <= UInt64(image.count) else {
      throw malformed("its bitmaps are too short, or reach beyond the file's end; was it cut short?")
    }
    self.image = image
    frameLimit = fields.frames
    self.table = Int(table)
    // In words of 64 frames.
    bitmap = image.part(at: Int(first + half), count: Int((fields.frames + 63) / 64) * 8)
    (segments, ranks) = Self.index(bitmap.base, fields.frames)
    let count = UInt64(ranks.last ?? 0)
    guard count > 0 else { throw malformed("it holds no memory") }
    // So what it claims to hold is bounded by how long it is.
    guard count * UInt64(Self.entrySize) <= UInt64(image.count) - table else {
      throw malformed("its table of pages reaches beyond the file's end; was it cut short?")
    }
    movedFrames = fields.version >= 4 ? Self.moved(header, image) : nil
  }

  /// What the notes say that grassctl dump leaves: name GRASS, type 3.
  ///
  /// Their place is in the second header from version 4 on.
  private static func moved(_ header: borrowing ByteReader, _ image: KdumpBytes) -> MovedFrames? {
    guard let offset = try? header.u64(pageSize + 48), let size = try? header.u64(pageSize + 56),
      offset < UInt64(image.count), size <= UInt64(image.count) - offset, size <= UInt64(image.file.count)
    else { return nil }
    let notes = image.bytes(at: Int(offset), count: Int(size))
    let reader = ByteReader(notes.span.bytes)
    var place = 0
    while let nameSize = try? reader.u32(place), let size = try? reader.u32(place + 4),
      let type = try? reader.u32(place + 8)
    {
      let text = place + 12
      let content = text + (Int(nameSize) + 3) & ~3
      guard content <= notes.count, Int(size) <= notes.count - content else { return nil }
      if type == 3, notes[text..<min(content, text + 5)].elementsEqual(Array("GRASS".utf8)) {
        return MovedFrames(record: Array(notes[content..<content + Int(size)]))
      }
      place = content + (Int(size) + 3) & ~3
    }
    return nil
  }

  /// The runs of frames whose bits are set, and how many come before each group; last of all, how many there are.
  private static func index(_ bits: UnsafeRawPointer, _ limit: UInt64) -> ([MemorySegment], [UInt32]) {
    var segments: [MemorySegment] = []
    var ranks: [UInt32] = []
    var count: UInt32 = 0
    var start: UInt64?
    func end(_ frame: UInt64) {
      guard let first = start else { return }
      segments.append(
        MemorySegment(
          start: PhysicalAddress(first * UInt64(pageSize)), count: (frame - first) * UInt64(pageSize)))
      start = nil
    }
    var frame: UInt64 = 0
    while frame < limit {
      if frame % groupSize == 0 { ranks.append(count) }
      // 64 frames at once; the bitmap has whole blocks.
      var word = bits.loadUnaligned(fromByteOffset: Int(frame / 8), as: UInt64.self)
      if limit - frame < 64 { word &= (1 << (limit - frame)) - 1 }
      count += UInt32(word.nonzeroBitCount)
      if word == 0 {
        end(frame)
      } else if word == .max {
        if start == nil { start = frame }
      } else {
        for bit in 0..<min(64, limit - frame) {
          if word >> bit & 1 == 0 { end(frame + bit) } else if start == nil { start = frame + bit }
        }
      }
      frame += 64
    }
    end(limit)
    return (segments, ranks + [count])
  }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    batch.fill { (address, target) throws(MemoryFault) in try copy(address, to: target) }
    if !image.file.isWhole {
      batch.fail(
        MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("\(image.file.path) became shorter while it was read"))
      )
    }
  }

  private func copy(_ address: PhysicalAddress, to target: UnsafeMutableRawBufferPointer) throws(MemoryFault) {
    movedFrames?.note(address, count: target.count)
    var done = 0
    while done < target.count {
      let (place, overflows) = address.rawValue.addingReportingOverflow(UInt64(done))
      guard !overflows else { throw MemoryFault(.physical(address), .absent) }
      let offset = Int(place % UInt64(Self.pageSize))
      let count = min(Self.pageSize - offset, target.count - done)
      let page = try page(place / UInt64(Self.pageSize), keeps: target.count < 16 * Self.pageSize)
      page.withUnsafeBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]))
      }
      done += count
    }
  }

  /// A frame's page; kept, unless somebody looks through memory rather than follow it.
  private func page(_ frame: UInt64, keeps: Bool) throws(MemoryFault) -> [UInt8] {
    if let page = pages.withLock({ $0[frame] }) { return page }
    let page = try unpack(frame)
    if keeps { pages.withLock { $0.keep(page, of: frame) } }
    return page
  }

  private func unpack(_ frame: UInt64) throws(MemoryFault) -> [UInt8] {
    let place = MemoryFault.Place.physical(PhysicalAddress(frame &* UInt64(Self.pageSize)))
    guard let index = rank(frame) else { throw MemoryFault(place, .absent) }
    func broken(_ what: String) -> MemoryFault {
      MemoryFault(place, .sourceFailed("\(image.file.path): its page \(what)"))
    }
    let entry = image.bytes(at: table + index * Self.entrySize, count: Self.entrySize)
    let reader = ByteReader(entry.span.bytes)
    let (offset, size) = (try reader.u64(0), Int(try reader.u32(8)))
    let flags = try reader.u32(12)
    guard size > 0, size <= 2 * Self.pageSize, offset <= UInt64(image.count),
      UInt64(size) <= UInt64(image.count) - offset
    else { throw broken("lies outside the file") }
    let data = image.part(at: Int(offset), count: size)
    var filled = 0
    let page = withExtendedLifetime(data) {
      [UInt8](unsafeUninitializedCapacity: Self.pageSize) { bytes, count in
        filled = KdumpPage.unpack(
          UnsafeRawBufferPointer(start: data.base, count: size), flags, to: UnsafeMutableRawBufferPointer(bytes))
        count = filled == Self.pageSize ? filled : 0
      }
    }
    guard filled == Self.pageSize else {
      let isKnown = flags & (KdumpPage.lzo | KdumpPage.snappy) == 0
      throw broken(isKnown ? "does not unpack to \(Self.pageSize) bytes" : "is compressed with LZO or snappy")
    }
    return page
  }

  /// How many frames of the image come before one of them; nil where the image does not hold it.
  private func rank(_ frame: UInt64) -> Int? {
    guard frame < frameLimit else { return nil }
    func word(_ frame: UInt64) -> UInt64 {
      bitmap.base.loadUnaligned(fromByteOffset: Int(frame / 64 * 8), as: UInt64.self)
    }
    let own = word(frame)
    guard own >> (frame % 64) & 1 == 1 else { return nil }
    var rank = Int(ranks[Int(frame / Self.groupSize)])
    var first = frame / Self.groupSize * Self.groupSize
    while first < frame / 64 * 64 {
      rank += word(first).nonzeroBitCount
      first += 64
    }
    rank += (own & ((1 << (frame % 64)) - 1)).nonzeroBitCount
    // The file may be written by others meanwhile: what was counted at first is what the table has room for.
    return rank < Int(ranks.last ?? 0) ? rank : nil
  }
}
