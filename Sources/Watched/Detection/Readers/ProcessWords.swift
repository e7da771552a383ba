import KernelViews
import Memory
import Paging

/// Words that were found in a process's own memory.
struct ProcessWords: Sendable {
  var words: [(text: String, address: VirtualAddress)] = []
  var faults: [MemoryFault] = []

  /// What is looked at of one process, in pages: 64 MiB.
  static let most = 1 << 14
  static let pagesAtOnce = 256
}

extension Look {
  /// Which of `words` lie in memory of process `pid` that is its own and of no file, each where it is first; words across two pages are
  /// not found.
  ///
  /// Cost: reads up to 64 MiB, from low addresses on; a few round trips for each MiB.
  func words(_ words: [String], inMemoryOf pid: Int32) throws(KernelError) -> ProcessWords {
    var result = ProcessWords()
    guard let process = try processes().processes.first(where: { $0.task.tgid == pid }) else { return result }
    let space = kernel.addressSpace
    guard case .physical(let root) = space.location(of: process.root, count: 4096) else {
      result.faults = [
        MemoryFault(.virtual(process.root), .inconsistent("a root page table outside the kernel's direct map"))
      ]
      return result
    }
    let table = try kernel.mappings(ofProcess: pid)
    result.faults = table.faults
    var searches = words.map { (text: $0, search: LiteralSearch(Array($0.utf8))) }
    var left = ProcessWords.most
    for area in table.mappings where area.inode == 0 && area.permissions.hasPrefix("rw") && left > 0 {
      let (start, end) = (area.range.lowerBound.rawValue & ~0xfff, area.range.upperBound.rawValue)
      var pages = min(Int(clamping: (end - min(end, start)) / 4096), left)
      left -= pages
      var next = start
      while pages > 0, !searches.isEmpty {
        let count = min(pages, ProcessWords.pagesAtOnce)
        let addresses = (0..<count).map { next &+ UInt64($0) &* 4096 }
        pages -= count
        next &+= UInt64(count) &* 4096
        var batch = ReadBatch<PhysicalAddress>()
        var places: [UInt64] = []
        for (address, found) in zip(addresses, space.walker.translate(addresses.map { (VirtualAddress($0), root) })) {
          // What was never written to, or is swapped out.
          guard case .success(let mapping) = found else { continue }
          batch.add(mapping.physical, count: 4096)
          places.append(address)
        }
        kernel.memory.read(&batch)
        let bytes = batch.bytes
        searches.removeAll { item in
          for (index, place) in places.enumerated() where batch.succeeded(index) {
            guard let found = item.search.first(in: bytes, from: index * 4096, before: (index + 1) * 4096) else {
              continue
            }
            result.words.append((item.text, VirtualAddress(place &+ UInt64(found - index * 4096))))
            return true
          }
          return false
        }
      }
    }
    return result
  }
}
