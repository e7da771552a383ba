import Binding
public import KernelViews
import LinuxKernel
import Memory

/// Code of a process that came from no file.
public struct InjectedCode: Detector {
  public static let name = "injected-code"
  public static let kind = Finding.Kind.attack
  public static let summary = "A process has code that somebody wrote while it ran."
  public static let rule = """
    An area is writable and executable; a stack or a heap is executable; an executable page of a file is a copy of the \
    process's own, which it became when it was written to, and differs from the file's. Executable memory without a file that is not writable any more is \
    a notice.
    """
  public static let looksLike = """
    Just-in-time compilers: those that say so by the names of their files and libraries are a notice. Debuggers and probes of \
    the kernel's write breakpoints: of a process that is traced or probed, copies are a notice; what they leave behind is as it was in the \
    file. A copy whose page of the file is not in memory any more cannot be compared: a notice. Programs whose own file asks \
    for an executable stack have all of it so.
    """
  public static let remedy = """
    See what the area holds and who wrote it: grassctl maps PID, and on a live host /proc/PID/mem; keep the memory before the \
    process ends.
    """
  public static let techniques = ["T1055"]
  public static let baseline = Finding.Baseline.threshold

  /// Parts of the names of files that compilers at run time have mapped.
  private static let compilers = [
    "jit", "doublemapper", "libjvm.so", "libcoreclr.so", "libmozjs", "libjavascriptcore", "libv8", "libnode.so",
    "libxul.so",
    "libpypy", "libmono", "/node", "/chrome", "/chromium", "/electron", "/java", "/qemu-system-", "/beam.smp", "libffi",
  ]

  private struct Reader: KernelReader {
    static let subject = "the pages of processes"

    struct Page: KernelShape {
      static let type = "page"
      let mapping = Field<UInt64>("mapping")
      let compound = Field<UInt64>("compound_head", before: "7.1", "compound_info")
    }

    let page: Bound<Page>
    let map: PageMap

    init(kernel: Kernel) throws {
      page = try Bound(kernel.types)
      map = try kernel.reader(PageMap.self)
    }

    /// Pages of one area that are looked at, 64 MiB of code; and of all together, 1 GiB.
    static let limit = 1 << 14
    static let most = 1 << 18

    /// A page of a process, and where it is.
    typealias Copy = (virtual: UInt64, physical: PhysicalAddress)

    /// Those of the area's pages that are the process's own copies.
    func copies(
      in area: ProcessArea, of process: ProcessMemory, _ space: AddressSpace
    ) throws(MemoryFault) -> [Copy] {
      guard case .physical(let root) = space.location(of: process.root, count: 4096) else {
        throw MemoryFault(.virtual(process.root), .inconsistent("a root page table outside the kernel's direct map"))
      }
      let start = try map.start(in: space)
      let count = min(Int(clamping: (area.range.upperBound - area.range.lowerBound) / 4096), Self.limit)
      let addresses = (0..<count).map { area.range.lowerBound + UInt64($0) * 4096 }
      var present: [(copy: Copy, page: VirtualAddress)] = []
      for (address, found) in zip(addresses, space.walker.translate(addresses.map { (VirtualAddress($0), root) })) {
        // What is not there is in the file.
        guard case .success(let mapping) = found else { continue }
        present.append(
          ((address, mapping.physical), start + Int(clamping: mapping.physical.rawValue >> 12) * map.pageSize))
      }
      let pages = space.read(page, at: present.map(\.page))
      let heads = pages.map { PageMap.head(of: $0.address, compound: (try? $0.compound) ?? 0) }
      var copies: [Copy] = []
      for (item, head) in zip(present, space.read(page, at: heads)) {
        // PAGE_MAPPING_ANON (include/linux/page-flags.h).
        if let mapping = try? head.mapping, mapping & 1 != 0 { copies.append(item.copy) }
      }
      return copies
    }

    /// Which of an area's copies differ from the file's pages, and which of these are not in memory.
    func compare(
      _ copies: [Copy], of area: ProcessArea, _ file: ProcessFile, _ kernel: Kernel
    ) throws(KernelError) -> (changed: [Copy], unknown: [Copy]) {
      var batch = ReadBatch<PhysicalAddress>()
      for copy in copies { batch.add(PhysicalAddress(copy.physical.rawValue & ~0xfff), count: 4096) }
      kernel.memory.read(&batch)
      // By their offsets in the file.
      var left: [UInt64: Int] = [:]
      for (index, copy) in copies.enumerated() where batch.succeeded(index) {
        left[(area.firstPage &+ (copy.virtual - area.range.lowerBound) / 4096) &* 4096] = index
      }
      var changed: [Copy] = []
      _ = try kernel.contents(ofInode: file.inodeAddress, number: file.inode) { offset, bytes in
        guard let index = left.removeValue(forKey: offset) else { return !left.isEmpty }
        let start = batch.entries[index].offset
        // What lies behind the file's end is nobody's.
        if batch.bytes[start..<start + min(bytes.count, 4096)] != bytes { changed.append(copies[index]) }
        return !left.isEmpty
      }
      return (changed, left.values.sorted().map { copies[$0] })
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.processes()
    let reader = try look.kernel.reader(Reader.self)
    let traced = Set(try look.marks().marks.filter { $0.tracing != 0 }.map(\.task.tgid))
    var result = Sightings(outOf: table.processes.count, faults: table.faults)
    var budget = Reader.most
    for process in table.processes {
      var found:
        [(severity: Finding.Severity, confidence: Finding.Confidence, what: String, evidence: Finding.Evidence)] = []
      let compiles = process.areas.contains { area in
        guard let path = area.file?.path else { return false }
        return compilers.contains { path.contains($0) }
      }
      for area in process.areas where !area.isSpecial {
        let place = VirtualAddress(area.range.lowerBound)
        let size = (area.range.upperBound - area.range.lowerBound) / 1024
        func note(
          _ severity: Finding.Severity, _ confidence: Finding.Confidence, _ what: String, _ expected: String
        ) {
          found.append(
            (
              severity, confidence, what,
              .init(
                "\(size) KiB of \(area.file?.path ?? "memory without a file")", at: place,
                seen: area.isWritable ? "writable and executable" : "executable", expected: expected)
            ))
        }
        if area.range.contains(process.stack) {
          note(.warning, .strong, "an executable stack", "no code on a stack")
        } else if area.file == nil, area.range.overlaps(process.heap) {
          note(.warning, .strong, "an executable heap", "no code on a heap")
        } else if area.isWritable {
          note(
            compiles ? .notice : .warning, compiles ? .hint : .strong,
            area.file.map { "code of \($0.path) that can be written to" }
              ?? "memory that is both writable and executable",
            "one or the other")
        } else if area.file == nil {
          note(compiles ? .info : .notice, .hint, "code that came from no file", "code of a file")
        } else if area.hasCopies, area.flags & 8 == 0, budget > 0 {
          budget -= min(Int(clamping: size / 4), Reader.limit)
          let copies = result.faults.keep { () throws(MemoryFault) in
            try reader.copies(in: area, of: process, look.kernel.addressSpace)
          }
          guard let copies, !copies.isEmpty, let file = area.file else { continue }
          // What a debugger wrote and took back is as it was.
          let compared: (changed: [Reader.Copy], unknown: [Reader.Copy]) =
            (try? reader.compare(copies, of: area, file, look.kernel)) ?? (changed: [], unknown: copies)
          guard let first = compared.changed.first ?? compared.unknown.first else { continue }
          let isProbed =
            compared.changed.isEmpty || process.hasProbes || traced.contains(process.task.tgid)
          found.append(
            (
              isProbed ? .notice : .warning, isProbed ? .hint : .strong,
              "code of \(file.path) that was written over",
              .init(
                "pages of code that are its own", at: VirtualAddress(first.virtual),
                seen: "\(compared.changed.count) that differ, \(compared.unknown.count) that cannot be compared",
                expected: "the file's")
            ))
        }
      }
      guard let worst = found.max(by: { ($0.severity, $0.confidence) < ($1.severity, $1.confidence) }) else { continue }
      let more = found.count > 1 ? ", and \(found.count - 1) more areas like it" : ""
      result.sightings.append(
        Sighting(
          [.task(process.task)], worst.severity, worst.confidence, "\(process.name) has \(worst.what)\(more)",
          evidence: found.sorted { $0.severity > $1.severity }.prefix(4).map(\.evidence)))
    }
    return result
  }
}
