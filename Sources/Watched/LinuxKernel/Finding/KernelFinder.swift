import Binding
public import KernelInfo
public import Memory

/// Finds the Linux kernel in physical memory, with nothing given but the memory.
///
/// The kernel keeps a note named VMCOREINFO, which starts a page. It gives the place of the kernel image and, from 6.0
/// on, the addresses of the kallsyms tables; those give all symbols, and two of them enclose the type information:
///
/// Where no note leads to a kernel, the symbols are looked for by the form of their tables, and everything else by the symbols.
///
/// Pages that look the same may be copies, leftovers of an earlier boot, or made to deceive. So a candidate is taken only
/// when everything it leads to fits together and the kernel's own pointer to the note leads back to it.
public struct KernelFinder: Sendable {
  private let memory: any PhysicalMemory

  private static let pageSize = 4096
  /// How many pages are looked at in one batch: 24 bytes each.
  private static let pagesPerWindow = 4096
  /// How many refusals the error describes; further ones are counted.
  private static let refusalsKept = 16
  /// How many bytes refused candidates may cost in all before the search ends: hundreds of whole kernels.
  private static let patience = 4 << 30

  public init(memory: any PhysicalMemory) {
    self.memory = memory
  }

  /// Finds the kernel.
  ///
  /// - Parameters:
  ///   - hint: Where the note was found before. It is tried first.
  ///   - accepting: Called with a kernel that fits together; returning false goes on with the search.
  /// - Throws: ``KernelInfoError`` listing what looked like a kernel and why it was refused.
  ///
  /// Cost: a 24-byte read for each page until the note is found, thousands in a batch; then five batches, of about
  /// 8 MB in all. Where there is no note, all of the memory is read once more.
  public func find(
    hint: PhysicalAddress? = nil, accepting: (FoundKernel) -> Bool = { _ in true }
  ) throws(KernelInfoError) -> FoundKernel {
    var search = Search()
    if let hint, let kernel = attempt(hint, &search, accepting) { return kernel }
    var scanned: UInt64 = 0
    let windows = ScanOrder(
      memory.segments, windowSize: UInt64(Self.pagesPerWindow * Self.pageSize), pageSize: UInt64(Self.pageSize))
    for window in windows where search.cost < Self.patience {
      memory.prepareCache(of: window)
      let notes = notes(in: window)
      memory.releaseCache(of: window)
      scanned += window.count
      for note in notes {
        if let kernel = attempt(note, &search, accepting) { return kernel }
      }
    }
    if let kernel = searchForSymbols(&search, accepting) { return kernel }
    throw KernelInfoError(
      .kernelNotFound(candidates: search.tried.count, refused: search.refused, scanned: scanned))
  }

  /// Looks for the symbols themselves: a host may have wiped its note, or have none.
  private func searchForSymbols(_ search: inout Search, _ accepting: (FoundKernel) -> Bool) -> FoundKernel? {
    let windows = ScanOrder(
      memory.segments, windowSize: UInt64(Self.pagesPerWindow * Self.pageSize), pageSize: UInt64(Self.pageSize))
    for window in windows where search.cost < Self.patience {
      memory.prepareCache(of: window)
      defer { memory.releaseCache(of: window) }
      for place in KallsymsSearch(memory: memory).places(in: window) {
        guard search.cost < Self.patience, search.tried.insert(place).inserted else { continue }
        var tables = KallsymsSearch(memory: memory)
        var candidate = KernelCandidate(memory: memory, address: place)
        defer { search.cost += tables.cost + candidate.cost }
        do throws(KernelInfoError) {
          let kernels = try candidate.open(try tables.tables(at: place))
          if let kernel = kernels.first(where: accepting) { return kernel }
          throw KernelInfoError(.notAccepted, release: kernels.first?.release)
        } catch {
          search.refuse(place, error)
        }
      }
    }
    return nil
  }

  /// What was tried so far.
  private struct Search {
    var tried: Set<PhysicalAddress> = []
    var refused: [KernelInfoError.Refusal] = []
    /// The bytes read for candidates.
    var cost = 0

    mutating func refuse(_ address: PhysicalAddress, _ error: KernelInfoError) {
      guard refused.count < KernelFinder.refusalsKept else { return }
      refused.append(.init(address: address, reason: error.description))
    }
  }

  /// The pages of `window` that start with a note's header.
  private func notes(in window: MemorySegment) -> [PhysicalAddress] {
    let count = Int(window.count) / Self.pageSize
    var batch = ReadBatch<PhysicalAddress>()
    batch.reserveCapacity(count)
    for page in 0..<count { batch.add(window.start + page * Self.pageSize, count: CoreInfoNote.headerSize) }
    memory.read(&batch)
    let reader = ByteReader(batch.bytes.span.bytes)
    var found: [PhysicalAddress] = []
    for page in 0..<count where CoreInfoNote.textLength(reader, page * CoreInfoNote.headerSize) != nil {
      found.append(window.start + page * Self.pageSize)
    }
    return found
  }

  /// Tries one candidate, and where it is a copy the original after it.
  private func attempt(
    _ note: PhysicalAddress, _ search: inout Search, _ accepting: (FoundKernel) -> Bool
  ) -> FoundKernel? {
    var next: PhysicalAddress? = note
    // A copy leads to the original; an original that calls itself a copy again leads no further.
    for _ in 0..<2 {
      guard let address = next, search.cost < Self.patience, search.tried.insert(address).inserted else { return nil }
      next = nil
      var candidate = KernelCandidate(memory: memory, address: address)
      defer { search.cost += candidate.cost }
      do throws(KernelInfoError) {
        let kernel = try candidate.open()
        if accepting(kernel) { return kernel }
        throw KernelInfoError(.notAccepted, release: kernel.release)
      } catch {
        if case .copiedCoreInfo(let original) = error.code { next = original }
        search.refuse(address, error)
      }
    }
    return nil
  }
}
