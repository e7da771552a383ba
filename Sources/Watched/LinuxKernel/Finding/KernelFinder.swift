import KernelInfo
package import Memory
import Paging

/// Finds the Linux kernel in physical memory, with nothing given but the memory: the one way that all go, whenever they need
/// a kernel.
///
/// The kernel keeps a note named VMCOREINFO, which starts a page and leads to the image, its symbols and types. Where no note
/// leads to a kernel, the symbols are looked for by the form of their tables, and everything else by the symbols.
///
/// Pages that look the same may be copies, leftovers of an earlier boot, or made to deceive. So a kernel is taken only where
/// all that is claimed of it holds (``KernelProof``). One file may be laid out in physical memory in several ways, as a raw
/// image of more than 2.75 GiB does not say whether QEMU split it around the PCI hole; then the kernel decides, which knows
/// where its memory ends.
package struct KernelFinder {
  private let layouts: [any PhysicalMemory]
  private let known: BuildFolder?

  private static let pageSize: UInt64 = 4096
  /// How much is looked at in one batch.
  private static let windowSize: UInt64 = 16 << 20
  /// How many bytes refused claims may cost in all, in one layout, before the search ends: hundreds of whole kernels.
  private static let patience = 4 << 30

  /// - Parameters:
  ///   - layouts: The ways in which the memory may be laid out, the most likely first.
  ///   - known: Builds that were proven before. Their symbols and types are used where they are the memory's own, and where the
  ///     memory's own do not serve and ``BuildFolder/mayServe(_:boot:)`` says so. What is proven is kept there.
  package init(layouts: [any PhysicalMemory], known: BuildFolder? = nil) {
    self.layouts = layouts
    self.known = known
  }

  /// Finds the kernel.
  ///
  /// Cost: a 24-byte read for each page until the note is found, thousands in a batch; then about ten batches, of about 8 MB
  /// in all. Where there is no note, all of the memory is read once more.
  ///
  /// - Parameters:
  ///   - hint: Where one was found before (``FoundKernel/coreInfoAddress``). It is tried first, and believed only if it holds.
  ///   - thoroughly: Whether all ways are gone. Otherwise only notes are followed, which is so cheap that it may be done again
  ///     and again.
  ///   - besides: Kernels that are known and not meant.
  /// - Returns: the first kernel that was proven.
  /// - Throws: ``KernelError`` with what looked like a kernel and why it was refused.
  package func find(
    hint: PhysicalAddress? = nil, thoroughly: Bool = true, besides: [FoundKernel] = []
  ) throws(KernelError) -> ProvenKernel {
    var kernel = try search(hint: hint, thoroughly ? Phase.allCases : [.hint, .notes], besides)
    if let known { kernel.notes += known.notes(on: kernel) }
    return kernel
  }

  private func search(hint: PhysicalAddress?, _ phases: [Phase], _ besides: [FoundKernel]) throws(KernelError)
    -> ProvenKernel
  {
    let searches = layouts.map { Search($0, known, besides) }
    for phase in phases {
      for search in searches where search.proven == nil {
        guard let kernel = search.run(phase, hint: hint) else { continue }
        if layouts.count == 1 || kernel.endsWithItsMemory { return kernel }
        search.proven = kernel
      }
      // Where a note leads to no kernel in one layout and does in another, the first is the wrong one. A hint is of only one.
      if phase != .hint, let kernel = searches.lazy.compactMap(\.proven).first { return kernel }
    }
    throw KernelError("this memory", .notFound(KernelSearchReport(searches.map(\.report))))
  }

  private enum Phase: CaseIterable {
    case hint, notes, tables, boots, approved
  }

  /// The search in one layout.
  private final class Search {
    private let memory: any PhysicalMemory
    private let known: BuildFolder?
    private let besides: [FoundKernel]
    private var tried: Set<PhysicalAddress> = []
    private(set) var report: KernelSearchReport.Layout
    /// What was proven, in a layout that does not end where the kernel's memory does.
    var proven: ProvenKernel?
    /// The bytes read for what was refused.
    private var cost = 0

    init(_ memory: any PhysicalMemory, _ known: BuildFolder?, _ besides: [FoundKernel]) {
      self.memory = memory
      self.known = known
      self.besides = besides
      report = .init(name: (memory as? FileMemory)?.format)
    }

    func run(_ phase: Phase, hint: PhysicalAddress?) -> ProvenKernel? {
      switch phase {
      case .hint: hint.flatMap { attemptNote($0) ?? attemptTables($0) }
      case .notes:
        scan { window in
          report.scanned += window.count
          return NoteReader.places(in: window, of: memory)
        } attempt: {
          attemptNote($0)
        }
      case .tables:
        scan {
          TableSearch.places(in: $0, of: memory)
        } attempt: {
          attemptTables($0)
        }
      case .boots: attemptBoots()
      case .approved: attemptApproved()
      }
    }

    /// Looks for `places` in window after window and tries each.
    private func scan(
      places: (MemorySegment) -> [PhysicalAddress], attempt: (PhysicalAddress) -> ProvenKernel?
    ) -> ProvenKernel? {
      let windows = ScanOrder(memory.segments, windowSize: KernelFinder.windowSize, pageSize: KernelFinder.pageSize)
      for window in windows where cost < KernelFinder.patience {
        for range in memory.dataRanges(in: window) {
          memory.prepareCache(of: range)
          let found = places(range)
          memory.releaseCache(of: range)
          for place in found {
            if let kernel = attempt(place) { return kernel }
          }
        }
      }
      return nil
    }

    /// Tries a note, and where it is a copy the original after it.
    private func attemptNote(_ note: PhysicalAddress) -> ProvenKernel? {
      var original: PhysicalAddress?
      let kernel = attempt(note, original: &original) { memory in try prove(noteAt: note, memory) }
      // An original that calls itself a copy again leads no further.
      guard kernel == nil, let next = original else { return kernel }
      return attempt(next, original: &original) { memory in try prove(noteAt: next, memory) }
    }

    private func prove(noteAt place: PhysicalAddress, _ memory: SearchedMemory) throws -> ProvenKernel {
      let (reader, proof) = (NoteReader(memory), KernelProof(memory))
      let note = try reader.note(at: place)
      // Files of many megabytes: read where they are of use.
      func builds() -> [KnownBuild] { known?.builds(release: note.release, buildID: note.buildID) ?? [] }
      func prove(_ build: KnownBuild, _ source: TableSource) throws -> ProvenKernel {
        let boot = try reader.boot(note, at: place)
        let claims = try build.claims(boot, claimant: .note(note), source: source)
        try NoteReader.compare(note, claims.symbols, boot.physicalBase)
        return try proof.kernel(claims)
      }
      for build in self.memory.isNear ? [] : builds() {
        guard let boot = try? reader.boot(note, at: place),
          let tables = build.segments(slide: boot.slide, physicalBase: boot.physicalBase),
          (try? self.memory.digests(of: tables)) == build.tableDigests,
          let kernel = try? prove(build, .digest(build.digest))
        else { continue }
        return kernel
      }
      do {
        return try proof.kernel(try reader.claims(note, at: place))
      } catch {
        if let error = error as? KernelInfoError, !error.isOfTables { throw error }
        guard let known else { throw error }
        var isOfOthers = false
        for build in builds() {
          guard let kernel = try? prove(build, .kept(instead: "\(error)")) else { continue }
          if known.mayServe(build, boot: BootIdentity(of: kernel).mark) { return kernel }
          isOfOthers = true
        }
        guard isOfOthers else { throw error }
        throw KernelError(
          "this memory",
          .inconsistent(
            "\(error). Symbols and types of this build are kept, but of another boot or host; to let them serve, vouch for "
              + "them with `grassctl builds approve`"))
      }
    }

    private func attemptTables(_ place: PhysicalAddress) -> ProvenKernel? {
      attempt(place) { memory in
        var refusal: any Error = KernelInfoError(.inconsistent("nothing is claimed there"))
        for claims in try TableSearch(memory).claims(at: place) {
          do {
            return try KernelProof(memory).kernel(claims)
          } catch {
            refusal = error
          }
        }
        throw refusal
      }
    }

    /// Tries where kernels were proven before: those whose banner is still there.
    private func attemptBoots() -> ProvenKernel? {
      guard let known else { return nil }
      let boots = known.knownBoots()
      var batch = ReadBatch<PhysicalAddress>()
      let banners = boots.map { Array("Linux version \($0.release) ".utf8) }
      for (boot, banner) in zip(boots, banners) { batch.add(boot.banner, count: banner.count) }
      memory.read(&batch)
      for (index, boot) in boots.enumerated() {
        guard (try? batch.reader(index).copy()) == banners[index], let build = known.build(boot.build) else { continue }
        let why = report.refused.first?.reason ?? "nothing leads to them"
        let claims = try? build.claims(boot.boot, claimant: .form, source: .kept(instead: why))
        if let claims, let kernel = try? KernelProof(SearchedMemory(memory)).kernel(claims),
          BootIdentity(of: kernel).mark == boot.mark
        {
          return kernel
        }
      }
      return nil
    }

    /// Tries where an image of a build lies that an operator vouched for, whatever became of its note and its tables: its
    /// banner tells, at the build's own offset from where images may start.
    private func attemptApproved() -> ProvenKernel? {
      for build in known?.approvedBuilds() ?? [] {
        guard let traces = try? build.traces() else { continue }
        let banner = Array("Linux version \(build.release) ".utf8)
        let kernel = scan { window in
          // From one place where an image may start to the next, its banner may lie in one place.
          let first = (traces.banner &- window.start.rawValue) % FoundKernel.imageAlignment
          let places = stride(from: first, to: window.count, by: UInt64.Stride(FoundKernel.imageAlignment)).map {
            PhysicalAddress(window.start.rawValue &+ $0)
          }
          var batch = ReadBatch<PhysicalAddress>()
          for place in places { batch.add(place, count: banner.count) }
          memory.read(&batch)
          return places.indices.filter { (try? batch.reader($0).copy()) == banner }.map { places[$0] }
        } attempt: { place in
          attempt(place) { memory in
            try prove(build, traces, imageAt: PhysicalAddress(place.rawValue &- traces.banner), memory)
          }
        }
        if let kernel { return kernel }
      }
      return nil
    }

    private func prove(
      _ build: KnownBuild, _ traces: KnownBuild.Traces, imageAt start: PhysicalAddress, _ memory: SearchedMemory
    ) throws -> ProvenKernel {
      let pointer = try memory.read(PhysicalAddress(start.rawValue &+ traces.rootPointer), count: 8)
      let levels = try memory.read(PhysicalAddress(start.rawValue &+ traces.fiveLevels), count: 4)
      let slide = try ByteReader(pointer.span.bytes).u64(0) &- traces.root.rawValue
      let isFive = try ByteReader(levels.span.bytes).u32(0) != 0
      let why = report.refused.first?.reason ?? "nothing leads to them"
      var refusal: any Error = KernelInfoError(.inconsistent("its own page tables are not named by its memory map"))
      // What it says of its levels may be a lie, too.
      for levels in isFive ? [5, 4] : [4, 5] where slide % FoundKernel.imageAlignment == 0 {
        do {
          return try KernelProof(memory).kernel(
            try build.claims(
              traces.boot(imageAt: start, slide: slide, levels: levels), claimant: .form, source: .kept(instead: why)))
        } catch {
          refusal = error
        }
      }
      throw refusal
    }

    private func attempt(
      _ place: PhysicalAddress, _ prove: (SearchedMemory) throws -> ProvenKernel
    ) -> ProvenKernel? {
      var original: PhysicalAddress?
      return attempt(place, original: &original, prove)
    }

    /// Looks at a place that was not tried yet, and says why no kernel is taken from it.
    private func attempt(
      _ place: PhysicalAddress, original: inout PhysicalAddress?, _ prove: (SearchedMemory) throws -> ProvenKernel
    ) -> ProvenKernel? {
      guard cost < KernelFinder.patience, tried.insert(place).inserted else { return nil }
      report.tried += 1
      let searched = SearchedMemory(memory)
      defer { cost += searched.cost }
      do {
        let kernel = try prove(searched)
        guard !besides.contains(where: { $0.isSameBoot(as: kernel.found) }) else {
          throw KernelError("this memory", .inconsistent("this kernel is not the one that is looked for"))
        }
        return kernel
      } catch {
        if let error = error as? KernelInfoError, case .copiedCoreInfo(let place) = error.code { original = place }
        report.refuse(place, "\(error)")
        return nil
      }
    }
  }
}

extension FoundKernel {
  /// Whether both lie at the same place in memory.
  fileprivate func isSameBoot(as other: FoundKernel) -> Bool {
    (release, physicalBase, rootPageTable, slide) == (
      other.release, other.physicalBase, other.rootPageTable, other.slide
    )
  }
}

extension KernelInfoError {
  /// Whether something is wrong with the tables that a note leads to, rather than with the note.
  fileprivate var isOfTables: Bool {
    switch code {
    case .notCoreInfo, .badCoreInfoLine, .copiedCoreInfo: false
    default: true
    }
  }
}

extension BuildFolder {
  /// Keeps what was proven.
  ///
  /// - Returns: what those who use the kernel ought to know.
  fileprivate func notes(on kernel: ProvenKernel) -> [String] {
    do {
      switch kernel.found.tableSource {
      case .kept(let why):
        return [
          "the symbols and types are kept ones of this build, not the memory's own, which do not serve: \(why)"
        ]
      case .digest(let build):
        try keepBoot(kernel, of: build)
        try keepUnwindTables(of: build, release: kernel.found.release) { try UnwindTables(of: kernel) }
      case .memory:
        // A kernel that lists functions alone was not proven whole.
        guard kernel.found.listsVariables, !hasBoot(BootIdentity(of: kernel).mark) else { return [] }
        let build = try KnownBuild(of: kernel)
        try keep(build)
        try keepBoot(kernel, of: build.digest)
        try keepUnwindTables(of: build.digest, release: kernel.found.release) { try UnwindTables(of: kernel) }
      }
      return []
    } catch let error as BuildFolderError {
      return ["\(error)"]
    } catch {
      return ["this build is not kept: \(error)"]
    }
  }
}

extension ProvenKernel {
  /// Whether the last page that the kernel knows of lies in the last pages of the memory.
  fileprivate var endsWithItsMemory: Bool {
    guard let last = memory.segments.last, let symbol = found.symbols.address(of: "max_pfn"),
      let bytes = try? addressSpace.read(symbol, count: 8),
      let frames = try? ByteReader(bytes.span.bytes).u64(0)
    else { return false }
    let end = last.start.rawValue &+ last.count
    // Firmware keeps the last pages for itself.
    return frames <= end >> 12 && (end >> 12) - frames < 4096
  }
}
