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

  private static let pageSize: UInt64 = 4096
  /// How much is looked at in one batch.
  private static let windowSize: UInt64 = 16 << 20
  /// How many bytes refused claims may cost in all, in one layout, before the search ends: hundreds of whole kernels.
  private static let patience = 4 << 30

  /// - Parameter layouts: the ways in which the memory may be laid out, the most likely first.
  package init(layouts: [any PhysicalMemory]) { self.layouts = layouts }

  /// Finds the kernel.
  ///
  /// Cost: a 24-byte read for each page until the note is found, thousands in a batch; then about ten batches, of about 8 MB
  /// in all. Where there is no note, all of the memory is read once more.
  ///
  /// - Parameter hint: where one was found before (``FoundKernel/coreInfoAddress``). It is tried first, and believed only if
  ///   it holds.
  /// - Returns: the first kernel that was proven.
  /// - Throws: ``KernelError`` with what looked like a kernel and why it was refused.
  package func find(hint: PhysicalAddress? = nil) throws(KernelError) -> ProvenKernel {
    let searches = layouts.map { Search($0) }
    for phase in Phase.allCases {
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
    case hint, notes, tables
  }

  /// The search in one layout.
  private final class Search {
    private let memory: any PhysicalMemory
    private var tried: Set<PhysicalAddress> = []
    private(set) var report: KernelSearchReport.Layout
    /// What was proven, in a layout that does not end where the kernel's memory does.
    var proven: ProvenKernel?
    /// The bytes read for what was refused.
    private var cost = 0

    init(_ memory: any PhysicalMemory) {
      self.memory = memory
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
      let kernel = attempt(note, original: &original) { memory in [try NoteReader(memory).claims(at: note)] }
      // An original that calls itself a copy again leads no further.
      guard kernel == nil, let next = original else { return kernel }
      return attempt(next, original: &original) { memory in [try NoteReader(memory).claims(at: next)] }
    }

    private func attemptTables(_ place: PhysicalAddress) -> ProvenKernel? {
      var original: PhysicalAddress?
      return attempt(place, original: &original) { memory in try TableSearch(memory).claims(at: place) }
    }

    /// Proves what is claimed at a place that was not tried yet, or says why it does not hold.
    private func attempt(
      _ place: PhysicalAddress, original: inout PhysicalAddress?, _ claims: (SearchedMemory) throws -> [KernelClaims]
    ) -> ProvenKernel? {
      guard cost < KernelFinder.patience, tried.insert(place).inserted else { return nil }
      report.tried += 1
      let searched = SearchedMemory(memory)
      defer { cost += searched.cost }
      var refusal: any Error
      do {
        let all = try claims(searched)
        refusal = KernelError("this memory", .inconsistent("nothing is claimed there"))
        for claims in all {
          do {
            return try KernelProof(searched).kernel(claims)
          } catch {
            refusal = error
          }
        }
      } catch {
        refusal = error
      }
      if let error = refusal as? KernelInfoError, case .copiedCoreInfo(let place) = error.code { original = place }
      report.refuse(place, "\(refusal)")
      return nil
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
