import KernelInfo
public import LinuxKernel
import MachineViews
import Memory
import Paging

/// The file `vmcore`: the physical memory as an ELF core with the kernel's VMCOREINFO, as /proc/vmcore has it.
///
/// ```
/// ELF header, program headers (the notes first, then the runs of memory by address), the notes, the runs
/// ```
/// Only the headers are made; the memory is read when it is asked for. Source: elf(5).
public enum CoreFile {
  /// One fewer than what the header's own count can say: the last value means that it stands elsewhere.
  private static let mostRuns = 0xfffe - 1
  private static let page: UInt64 = 4096

  public static func node(of kernel: Kernel) -> ShadowNode {
    var node = ShadowNode(
      attributes: ShadowAttributes(.file, 0o400),
      body: .file {
        let (head, pieces) = try layout(of: kernel)
        return .core(head, pieces, kernel.memory)
      })
    node.attributes.size = (try? layout(of: kernel)).flatMap { $0.pieces.last.map { $0.offset + $0.count } } ?? 0
    return node
  }

  private static func layout(of kernel: Kernel) throws -> (head: [UInt8], pieces: [ShadowContents.Piece]) {
    guard let information = kernel.coreInfo().map({ Array($0.text.utf8) }), !information.isEmpty else {
      throw ShadowError.unreadable("the kernel has no VMCOREINFO, without which nobody can read a core")
    }
    let directMap = kernel.addressSpace.linearRanges.first { $0.physical.rawValue == 0 }?.start.rawValue ?? 0
    return try layout(
      kernel.memory.segments.map { ($0.start.rawValue, $0.count) }, information: information, directMap: directMap)
  }

  static func layout(
    _ runs: [(start: UInt64, count: UInt64)], information: [UInt8], directMap: UInt64
  ) throws -> (head: [UInt8], pieces: [ShadowContents.Piece]) {
    guard runs.count <= mostRuns else { throw ShadowError.unreadable("the memory has \(runs.count) pieces") }
    var notes: [UInt8] = []
    let name = Array("VMCOREINFO\0".utf8)
    for word in [UInt32(name.count), UInt32(information.count), 0] { append(word, to: &notes) }
    for part in [name, information] { notes += part + [UInt8](repeating: 0, count: (4 - part.count % 4) % 4) }
    let notesOffset = UInt64(64 + 56 * (runs.count + 1))
    var offset = aligned(notesOffset + UInt64(notes.count))
    var pieces: [ShadowContents.Piece] = []
    for run in runs {
      pieces.append(.init(offset: offset, start: run.start, count: run.count))
      offset = aligned(offset &+ run.count)
    }
    var head: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    // A core of x86-64, version 1.
    append(UInt16(4), to: &head)
    append(UInt16(62), to: &head)
    append(UInt32(1), to: &head)
    // No entry; where program headers lie; no sections.
    for word in [UInt64(0), 64, 0] { append(word, to: &head) }
    append(UInt32(0), to: &head)
    for number in [64, 56, runs.count + 1, 64, 0, 0] { append(UInt16(number), to: &head) }
    // Type and flags; offset, virtual and physical address; bytes in the file and in memory; no alignment.
    append(UInt32(4), to: &head)
    append(UInt32(0), to: &head)
    for word in [notesOffset, 0, 0, UInt64(notes.count), UInt64(notes.count), 0] { append(word, to: &head) }
    for piece in pieces {
      append(UInt32(1), to: &head)
      append(UInt32(7), to: &head)
      for word in [piece.offset, directMap &+ piece.start, piece.start, piece.count, piece.count, 0] {
        append(word, to: &head)
      }
    }
    return (head + notes, pieces)
  }

  private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
    for index in 0..<value.bitWidth / 8 { bytes.append(UInt8(truncatingIfNeeded: value >> (index * 8))) }
  }

  private static func aligned(_ offset: UInt64) -> UInt64 { (offset &+ page &- 1) / page * page }
}
