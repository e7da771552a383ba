import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads the printk ring buffer of kernels from 5.10 on.
///
/// ```
/// descriptor ring   2^count_bits of prb_desc: state_var, text_blk_lpos {begin, next}
/// info ring         as many printk_info: seq, ts_nsec, text_len, facility, flags:5 level:3, caller_id
/// text ring         2^size_bits bytes of blocks: [id: 8 bytes | text]
/// ```
/// A descriptor's id counts up for ever; its place in the ring is the id modulo the ring's size. `state_var` holds the
/// id in its low 62 bits and the state in the top two. A text block at logical position `begin` lies at `begin` modulo
/// the ring's size, or at the ring's start where it would cross its end. Odd positions mean that there is no text.
/// Source: kernel/printk/printk_ringbuffer.c and .h.
struct LogReader: KernelReader {
  static let subject = "the kernel log"

  private let pointer: VirtualAddress
  private let subject: String
  private let ring: RingFields
  private let descriptor: (size: Int, state: FieldLayout, begin: FieldLayout, next: FieldLayout)
  private let info: (size: Int, sequence: FieldLayout, time: FieldLayout, length: FieldLayout, facility: FieldLayout)
  private let level: FieldLayout
  private let caller: FieldLayout

  private struct RingFields: Sendable {
    let size: Int
    let countBits, descriptors, infos, headID, tailID: FieldLayout
    let sizeBits, data: FieldLayout
  }

  /// Sizes beyond what any kernel is built with (CONFIG_LOG_BUF_SHIFT is 25 at most; log_buf_len= up to 2 GiB).
  private static let maximumCountBits: UInt64 = 24
  private static let maximumSizeBits: UInt64 = 31

  init(kernel: Kernel) throws {
    subject = kernel.subject(of: Self.self)
    pointer = try kernel.symbol("prb", for: subject)
    let types = kernel.types
    let buffer = try types.structure("printk_ringbuffer")
    ring = RingFields(
      size: buffer.size,
      countBits: try buffer.field("desc_ring.count_bits"), descriptors: try buffer.field("desc_ring.descs"),
      infos: try buffer.field("desc_ring.infos"), headID: try buffer.field("desc_ring.head_id"),
      tailID: try buffer.field("desc_ring.tail_id"), sizeBits: try buffer.field("text_data_ring.size_bits"),
      data: try buffer.field("text_data_ring.data"))
    let prbDescriptor = try types.structure("prb_desc")
    descriptor = (
      prbDescriptor.size, try prbDescriptor.field("state_var"), try prbDescriptor.field("text_blk_lpos.begin"),
      try prbDescriptor.field("text_blk_lpos.next")
    )
    let printkInfo = try types.structure("printk_info")
    info = (
      printkInfo.size, try printkInfo.field("seq"), try printkInfo.field("ts_nsec"), try printkInfo.field("text_len"),
      try printkInfo.field("facility")
    )
    level = try printkInfo.field("level")
    caller = try printkInfo.field("caller_id")
  }

  func read(in space: AddressSpace) throws(KernelError) -> KernelLog {
    try KernelError.reading(subject) {
      let pointer = try space.read(self.pointer, count: 8)
      let buffer = try ByteReader(pointer.span.bytes).pointer(0)
      return try read(header: space.read(buffer, count: ring.size), in: space)
    }
  }

  private func read(header: [UInt8], in space: AddressSpace) throws -> KernelLog {
    let reader = ByteReader(header.span.bytes)
    var values: [UInt64] = []
    for field in [ring.countBits, ring.descriptors, ring.infos, ring.headID, ring.tailID, ring.sizeBits, ring.data] {
      values.append(try field.load(reader))
    }
    let (countBits, headID, tailID, sizeBits) = (values[0], values[3], values[4], values[5])
    guard (1...Self.maximumCountBits).contains(countBits), (6...Self.maximumSizeBits).contains(sizeBits) else {
      throw KernelError(
        subject, .inconsistent("its ring buffer claims 2^\(countBits) records and 2^\(sizeBits) bytes of text"))
    }
    let memorySize = space.memory.segments.reduce(0 as UInt64) { $0 &+ $1.count }
    guard UInt64(info.size + descriptor.size) << countBits <= memorySize, 1 << sizeBits <= memorySize else {
      throw KernelError(subject, .inconsistent("its ring buffer is larger than the memory"))
    }
    let idMask = UInt64(1) << 62 - 1
    let count = 1 << Int(countBits)
    // Ids wrap at 62 bits; those in use run from the tail to the head.
    let used = Int(min(((headID &- tailID) & idMask) + 1, UInt64(count)))
    let textSize = 1 << Int(sizeBits)

    // Only what is in use is read: descriptors and infos first, as runs of the two rings; then the text between.
    var batch = ReadBatch<VirtualAddress>()
    let firstIndex = Int(tailID & UInt64(count - 1))
    let runs = Self.runs(from: firstIndex, count: used, size: count)
    for run in runs {
      batch.add(VirtualAddress(values[1]) + run.lowerBound * descriptor.size, count: run.count * descriptor.size)
      batch.add(VirtualAddress(values[2]) + run.lowerBound * info.size, count: run.count * info.size)
    }
    space.read(&batch)

    var log = KernelLog()
    var drafts: [(record: LogRecord, begin: UInt64, next: UInt64, length: Int, id: UInt64)] = []
    var position = 0
    for (runIndex, run) in runs.enumerated() {
      let descriptors = try batch.reader(runIndex * 2)
      let infos = try batch.reader(runIndex * 2 + 1)
      for index in 0..<run.count {
        let id = (tailID &+ UInt64(position)) & idMask
        position += 1
        let base = index * descriptor.size
        let state = try descriptor.state.load(descriptors, base: base)
        // Committed (1) or finalized (2); reserved (0) is being written, reusable (3) is about to be.
        guard state & idMask == id, state >> 62 == 1 || state >> 62 == 2 else {
          if state & idMask != id || state >> 62 == 0 { log.torn += 1 }
          continue
        }
        let infoBase = index * info.size
        let record = LogRecord(
          sequence: try info.sequence.load(infos, base: infoBase), time: try info.time.load(infos, base: infoBase),
          level: LogRecord.Level(rawValue: UInt8(try level.load(infos, base: infoBase) & 7)) ?? .debug,
          facility: UInt8(truncatingIfNeeded: try info.facility.load(infos, base: infoBase)),
          caller: UInt32(truncatingIfNeeded: try caller.load(infos, base: infoBase)), text: [])
        drafts.append(
          (
            record, try descriptor.begin.load(descriptors, base: base),
            try descriptor.next.load(descriptors, base: base),
            Int(clamping: try info.length.load(infos, base: infoBase)), id
          ))
      }
    }
    try readTexts(of: drafts, data: VirtualAddress(values[6]), textSize: textSize, in: space, into: &log)
    return log
  }

  private func readTexts(
    of drafts: [(record: LogRecord, begin: UInt64, next: UInt64, length: Int, id: UInt64)], data: VirtualAddress,
    textSize: Int, in space: AddressSpace, into log: inout KernelLog
  ) throws {
    // The text of consecutive records is consecutive, so one run, or two where the ring wraps, holds it all.
    let positions = drafts.filter { $0.begin & 1 == 0 }
    // Without any text there is nothing to read.
    let (begin, end) = (positions.first?.begin ?? 0, positions.last?.next ?? 0)
    let span = end &- begin
    let wanted = span <= UInt64(textSize) ? Int(span) : textSize
    let start = Int(begin & UInt64(textSize - 1))
    var batch = ReadBatch<VirtualAddress>()
    let runs = span <= UInt64(textSize) ? Self.runs(from: start, count: wanted, size: textSize) : [0..<textSize]
    for run in runs { batch.add(data + run.lowerBound, count: run.count) }
    space.read(&batch)
    for (index, _) in runs.enumerated() { _ = try batch.reader(index) }

    // Blocks do not overlap, so together they are no longer than the ring: were it not so, a small ring could be made
    // to fill the memory here.
    var unclaimed = textSize
    for draft in drafts {
      var record = draft.record
      // No text: an empty line (3, EMPTY_LINE_LPOS), else a record whose text did not fit or was overwritten.
      if draft.begin & 1 != 0 {
        if draft.begin == 3, draft.next == 3 { log.records.append(record) } else { log.torn += 1 }
        continue
      }
      let mask = UInt64(textSize - 1)
      let size = UInt64(textSize)
      // A block that would cross the ring's end lies at its start instead (`get_data`).
      let offset: Int
      let room: Int
      if draft.begin / size == draft.next / size, draft.next > draft.begin {
        offset = Int(draft.begin & mask)
        room = Int(draft.next - draft.begin)
      } else if draft.begin / size &+ 1 == draft.next / size {
        let wraps = draft.next & mask != 0
        offset = wraps ? 0 : Int(draft.begin & mask)
        room = wraps ? Int(draft.next & mask) : Int(size - (draft.begin & mask))
      } else {
        log.torn += 1
        continue
      }
      guard let run = runs.firstIndex(where: { $0.lowerBound <= offset && offset + room <= $0.upperBound }),
        room >= 8, draft.length <= room - 8, room <= unclaimed
      else {
        log.torn += 1
        continue
      }
      unclaimed -= room
      let reader = try batch.reader(run).slice(offset - runs[run].lowerBound, count: room)
      guard try reader.u64(0) & (1 << 62 - 1) == draft.id else {
        log.torn += 1
        continue
      }
      record.text = try reader.slice(8, count: draft.length).copy()
      log.records.append(record)
    }
  }

  /// The ranges of a ring of `size` that `count` elements from `first` take: one, or two where they wrap.
  static func runs(from first: Int, count: Int, size: Int) -> [Range<Int>] {
    guard count > 0 else { return [] }
    if first + count <= size { return [first..<first + count] }
    return [first..<size, 0..<first + count - size]
  }
}

extension Kernel {
  /// The kernel log, also of a kernel that has died.
  ///
  /// Cost: four round trips where the memory is remote.
  public func log() throws(KernelError) -> KernelLog {
    let reader = try reader(LogReader.self)
    return try reader.read(in: addressSpace)
  }
}
