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

  private struct Descriptor: KernelShape {
    static let type = "prb_desc"
    let state = Field<UInt64>("state_var")
    let begin = Field<UInt64>("text_blk_lpos.begin")
    let next = Field<UInt64>("text_blk_lpos.next")
  }

  private struct Info: KernelShape {
    static let type = "printk_info"
    let sequence = Field<UInt64>("seq")
    let time = Field<UInt64>("ts_nsec")
    let length = Field<Int>("text_len")
    let facility = Field<UInt8>("facility")
    let level = Field<UInt8>("level")
    let caller = Field<UInt32>("caller_id")
  }

  private let pointer: VirtualAddress
  private let subject: String
  private let ring: Bound<PrintkRing>
  private let descriptor: Bound<Descriptor>
  private let info: Bound<Info>

  /// Sizes beyond what any kernel is built with (CONFIG_LOG_BUF_SHIFT is 25 at most; log_buf_len= up to 2 GiB).
  private static let maximumCountBits: UInt64 = 24
  private static let maximumSizeBits: UInt64 = 31

  init(kernel: Kernel) throws {
    subject = kernel.subject(of: Self.self)
    pointer = try kernel.symbol("prb", for: subject)
    ring = try Bound(kernel.types)
    descriptor = try Bound(kernel.types)
    info = try Bound(kernel.types)
  }

  func read(in space: AddressSpace) throws(KernelError) -> KernelLog {
    try KernelError.reading(subject) { try read(space.read(ring, at: [try space.pointer(at: pointer)])[0], in: space) }
  }

  private func read(_ ring: Reading<PrintkRing>, in space: AddressSpace) throws -> KernelLog {
    let (countBits, headID, tailID, sizeBits) = (
      try ring.countBits, try ring.headID, try ring.tailID, try ring.sizeBits
    )
    guard (1...Self.maximumCountBits).contains(countBits), (6...Self.maximumSizeBits).contains(sizeBits) else {
      throw KernelError(
        subject, .inconsistent("its ring buffer claims 2^\(countBits) records and 2^\(sizeBits) bytes of text"))
    }
    let memorySize = space.memorySize
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
    let (descriptors, infos) = (try ring.descriptors, try ring.infos)
    for run in runs {
      batch.add(descriptors + run.lowerBound * descriptor.size, count: run.count * descriptor.size)
      batch.add(infos + run.lowerBound * info.size, count: run.count * info.size)
    }
    space.read(&batch)

    var log = KernelLog()
    var drafts: [(record: LogRecord, begin: UInt64, next: UInt64, length: Int, id: UInt64)] = []
    var position = 0
    for run in runs.indices {
      let infos = try StructArray(info, run * 2 + 1, of: batch)
      for descriptor in try StructArray(descriptor, run * 2, of: batch) {
        let id = (tailID &+ UInt64(position)) & idMask
        position += 1
        let state = try descriptor.state
        // Committed (1) or finalized (2); reserved (0) is being written, reusable (3) is about to be.
        guard state & idMask == id, state >> 62 == 1 || state >> 62 == 2 else {
          if state & idMask != id || state >> 62 == 0 { log.torn += 1 }
          continue
        }
        let info = infos[descriptor.index]
        let record = LogRecord(
          sequence: try info.sequence, time: try info.time,
          level: LogRecord.Level(rawValue: try info.level & 7) ?? .debug,
          facility: try info.facility, caller: try info.caller, text: [])
        drafts.append((record, try descriptor.begin, try descriptor.next, try info.length, id))
      }
    }
    try readTexts(of: drafts, data: try ring.data, textSize: textSize, in: space, into: &log)
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
