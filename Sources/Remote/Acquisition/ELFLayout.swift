import Memory

/// An ELF core of a machine's memory: one note segment with registers and VMCOREINFO, then a loadable segment a run.
///
/// ```
/// 0x00   ELF header: core, x86-64
/// 0x40   program headers, 56 bytes each: notes first, which crash expects, then the runs by address
///        the notes, then the classes of frames
///        the runs, each from a multiple of 4096 on
///        five section headers (none, `.grass.frames`, `.note.grass` with what went wrong, `.grass.moved` with MovedFrames, names),
///        and the last three sections
/// ```
/// What went wrong is known only at the end, and a pipe cannot go back: so it lies in a section behind the memory. What
/// was left out has no segment: it is absent, not zero. Source: elf(5); Documentation/admin-guide/kdump/vmcoreinfo.rst.
enum ELFLayout {
  /// One fewer than what the header's own count can say: the last value means that it stands elsewhere.
  static let mostRuns = 0xfffe - 1
  private static let headerSize = 64, segmentSize = 56, sectionSize = 64
  private static let page: UInt64 = 4096

  static func layout(_ contents: ImageContents) throws(AcquisitionError) -> ImageLayout {
    guard contents.runs.count <= mostRuns else { throw AcquisitionError("an ELF core", .tooManyRuns(mostRuns)) }
    let notes = contents.coreNotes().bytes
    let notesOffset = headerSize + segmentSize * (contents.runs.count + 1)
    let frames = contents.frames
    let framesOffset = UInt64(notesOffset + notes.count)
    let start = aligned(framesOffset + UInt64(frames.count))

    var placements: [ImageLayout.Placement] = []
    var offset = start
    var position: UInt64 = 0
    for run in contents.runs {
      placements.append(.init(segment: run, offset: offset, position: position))
      offset = aligned(offset + run.count)
      position += run.count
    }

    var head = ByteWriter()
    head.bytes = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    // A core, x86-64, version, no entry; where program and section headers lie.
    head.append(UInt16(4), UInt16(62))
    head.append(UInt32(1))
    head.append(UInt64(0), UInt64(headerSize), offset)
    head.append(UInt32(0))
    // Sizes and numbers of headers; which section has the names.
    head.append(UInt16(headerSize), UInt16(segmentSize), UInt16(contents.runs.count + 1))
    head.append(UInt16(sectionSize), UInt16(5), UInt16(4))
    // Type and flags; offset, virtual and physical address; bytes in the file and in memory; no alignment.
    head.append(UInt32(4), UInt32(0))
    head.append(UInt64(notesOffset), 0, 0, UInt64(notes.count), UInt64(notes.count), 0)
    for placement in placements {
      let run = placement.segment
      head.append(UInt32(1), UInt32(7))
      let mapped = contents.kernel.map { $0.directMap.rawValue &+ run.start.rawValue } ?? 0
      head.append(placement.offset, mapped, run.start.rawValue, run.count, run.count, 0)
    }
    head.bytes += notes + frames
    head.align(Int(page))

    var layout = ImageLayout(head: head.bytes, placements: placements, end: offset)
    let map = (offset: framesOffset, size: UInt64(frames.count))
    layout.tail = { [offset] end in sections(end, at: offset, frames: map) }
    return layout
  }

  /// The section headers at `offset`, and the sections.
  private static func sections(
    _ end: ImageEnd, at offset: UInt64, frames: (offset: UInt64, size: UInt64)
  ) -> [UInt8] {
    var note = ByteWriter()
    note.note("GRASS", type: 1, end.note)
    let names = Array("\0.note.grass\0.shstrtab\0.grass.frames\0.grass.moved\0".utf8)
    let first = offset + 5 * UInt64(sectionSize)
    let moved = first + UInt64(note.bytes.count)
    var writer = ByteWriter()
    writer.bytes = [UInt8](repeating: 0, count: sectionSize)
    // Name, type (data, note, names); flags, address; offset, size; link, info; alignment, entry size.
    for (name, type, offset, size) in [
      (UInt32(23), UInt32(1), frames.offset, frames.size), (1, 7, first, UInt64(note.bytes.count)),
      (37, 1, moved, UInt64(end.moved.count)), (13, 3, moved + UInt64(end.moved.count), UInt64(names.count)),
    ] {
      writer.append(name, type)
      writer.append(UInt64(0), 0, offset, size)
      writer.append(UInt32(0), 0)
      writer.append(UInt64(type == 7 ? 4 : 1), 0)
    }
    return writer.bytes + note.bytes + end.moved + names
  }

  private static func aligned(_ offset: UInt64) -> UInt64 { (offset &+ page - 1) / page * page }
}
