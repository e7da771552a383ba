public import Memory

/// What an image is to hold, and what it says of the kernel in it.
public struct ImageContents: Sendable, Equatable {
  /// The memory to write, in ascending order, without overlap, no run empty and none beyond 2^52 bytes.
  public internal(set) var runs: [MemorySegment]
  /// The memory of which that is a selection.
  public internal(set) var segments: [MemorySegment]
  /// What no image may hold: broken pages, and those that were given back.
  var forbidden: [MemorySegment]
  /// The classes of the frames of the memory, as ``FrameMapRecord`` writes them; empty where they are not known.
  public internal(set) var frames: [UInt8]
  /// What was left out.
  public internal(set) var level: DumpLevel
  /// The kernel in it; nil where none was found.
  public var kernel: KernelFacts?
  /// Lines `KEY=VALUE` that the image's own note is to have, beside those of the acquisition itself.
  public var remarks: [String]

  /// The end of what physical addresses of x86-64 reach.
  private static let end: UInt64 = 1 << 52

  /// What `level` leaves of a memory, by the classes of its frames; broken pages are left out at every level.
  ///
  /// The segments come in any order: who says where memory lies may be wrong, so what overlaps counts once, and what lies
  /// where no memory can be is left out. Cost: one pass over the frames.
  public init(of segments: [MemorySegment], _ map: FrameMap? = nil, _ level: DumpLevel = [], kernel: KernelFacts? = nil)
  {
    self.segments = Self.normalized(segments)
    self.level = level
    self.kernel = kernel
    remarks = ["LEVEL=\(level.rawValue)"]
    if let kernel { remarks.append("OSRELEASE=\(kernel.release)") }
    guard let map else {
      (runs, forbidden, frames) = (self.segments, [], [])
      return
    }
    let selection = FrameSelection(of: self.segments, map, level)
    (runs, forbidden, frames) = (selection.runs, selection.forbidden, FrameMapRecord.bytes(of: map))
    for kind in FrameClass.allCases {
      if let count = selection.leftOut[kind] { remarks.append("LEFT_OUT(\(kind))=\(count)") }
    }
  }

  init(plan reader: inout PlanReader) throws(MemoryFault) {
    segments = Self.normalized(try reader.segments())
    runs = Self.normalized(try reader.segments())
    forbidden = []
    frames = try reader.bytes()
    level = DumpLevel(rawValue: Int(truncatingIfNeeded: try reader.number()))
    remarks = try reader.text().split(separator: "\n").map(String.init)
    guard try reader.number() == 1 else { return }
    kernel = KernelFacts(
      coreInfo: try reader.bytes(), release: try reader.text(), version: try reader.text(),
      directMap: VirtualAddress(try reader.number()), physicalBase: Int64(bitPattern: try reader.number()))
    for _ in 0..<(try reader.number()) {
      let cpu = Int(truncatingIfNeeded: try reader.number())
      kernel?.registers[cpu] = try reader.bytes()
    }
  }

  /// As it is kept beside an image that is not whole.
  func write(to plan: inout PlanWriter) {
    plan.add(segments)
    plan.add(runs)
    plan.add(frames)
    plan.add(UInt64(level.rawValue))
    plan.add(Array(remarks.joined(separator: "\n").utf8))
    plan.add(UInt64(kernel == nil ? 0 : 1))
    guard let kernel else { return }
    plan.add(kernel.coreInfo)
    plan.add(Array(kernel.release.utf8))
    plan.add(Array(kernel.version.utf8))
    plan.add(kernel.directMap.rawValue)
    plan.add(UInt64(bitPattern: kernel.physicalBase))
    plan.add(UInt64(kernel.registers.count))
    for (cpu, status) in kernel.registers.sorted(by: { $0.key < $1.key }) {
      plan.add(UInt64(cpu))
      plan.add(status)
    }
  }

  static func normalized(_ runs: [MemorySegment]) -> [MemorySegment] {
    var kept: [MemorySegment] = []
    var last: UInt64 = 0
    for run in runs.sorted(by: { $0.start < $1.start }) where run.start.rawValue < Self.end {
      let start = max(run.start.rawValue, last)
      let end = run.start.rawValue + min(run.count, Self.end - run.start.rawValue)
      guard start < end else { continue }
      kept.append(MemorySegment(start: PhysicalAddress(start), count: end - start))
      last = end
    }
    return kept
  }

  /// The same without parts of frames, of which a format of whole pages has none.
  func wholeFrames() -> ImageContents {
    let size = FrameMap.frameSize
    func whole(_ segments: [MemorySegment]) -> [MemorySegment] {
      segments.compactMap { segment in
        let start = (segment.start.rawValue + size - 1) / size * size
        let end = (segment.start.rawValue + segment.count) / size * size
        return start < end ? MemorySegment(start: PhysicalAddress(start), count: end - start) : nil
      }
    }
    var contents = self
    contents.runs = whole(runs)
    contents.segments = whole(segments)
    let lost = byteCount - contents.byteCount
    if lost > 0 { contents.remarks.append("LEFT_OUT_BYTES(parts of pages)=\(lost)") }
    return contents
  }

  /// The line of the image's note that says of which CPUs it has registers.
  ///
  /// They are in no memory but where the kernel left them when it died.
  public var registersRemark: String {
    let cpus = (kernel?.registers.keys.sorted() ?? []).map(String.init)
    return "REGISTERS=\(cpus.isEmpty ? "absent" : cpus.joined(separator: ","))"
  }

  /// The notes that other programs read: registers, in the order of the CPUs, then VMCOREINFO.
  ///
  /// - Returns: their bytes, and where the text of VMCOREINFO lies in them.
  func coreNotes() -> (bytes: [UInt8], coreInfo: Range<Int>) {
    var notes = ByteWriter()
    for (_, status) in kernel?.registers.sorted(by: { $0.key < $1.key }) ?? [] {
      // NT_PRSTATUS
      notes.note("CORE", type: 1, status)
    }
    guard let text = kernel?.coreInfo, !text.isEmpty else { return (notes.bytes, 0..<0) }
    // Behind the note's header and its name.
    let start = notes.bytes.count + 24
    notes.note("VMCOREINFO", type: 0, text)
    return (notes.bytes, start..<start + text.count)
  }

  /// How many bytes of memory it holds.
  ///
  /// Cost: one pass over the runs.
  public var byteCount: UInt64 { runs.reduce(0) { $0 + $1.count } }
}
