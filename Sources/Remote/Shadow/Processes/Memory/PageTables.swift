import LinuxKernel
import Memory
import Paging

/// What a process's page tables hold, level by level, of the ranges that it has mapped.
///
/// Entries are handed on as they lie, also those that are not present: these say where a page was swapped to. They are x86-64's.
/// Source: arch/x86/include/asm/pgtable_types.h; Intel SDM, volume 3, "4-Level Paging and 5-Level Paging".
struct PageTables {
  struct Entry {
    /// The first address that it maps, and how many bytes.
    var start: UInt64
    var size: UInt64
    var value: UInt64
  }

  /// No process has more tables that are worth reading: as many as map 128 GiB of pages of 4 KiB.
  private static let mostTables = 1 << 16
  /// How many tables are read in one batch: 512 KiB.
  private static let tablesPerBatch = 128

  private let memory: any PhysicalMemory
  private let levels: Int

  init(_ kernel: Kernel) {
    memory = kernel.memory
    levels = kernel.found.pagingLevels
  }

  /// Calls `body` with the entries below the table at `root` that map something of `ranges`, which ascend, and that are not zero; in
  /// parts, which ascend.
  ///
  /// - Throws: ``ShadowError/unreadable(_:)`` where a table cannot be read, or there are more than any process has.
  func forEachPart(
    root: PhysicalAddress, ranges: [Range<UInt64>], _ body: ([Entry]) throws -> Void
  ) throws {
    var tables = [(place: root, start: 0 as UInt64)]
    var spent = 0
    for level in stride(from: levels, through: 1, by: -1) {
      // Each entry of a table of this level maps so many bytes.
      let coverage = 1 << UInt64(12 + 9 * (level - 1)) as UInt64
      var below: [(place: PhysicalAddress, start: UInt64)] = []
      for first in stride(from: 0, to: tables.count, by: Self.tablesPerBatch) {
        let part = tables[first..<min(first + Self.tablesPerBatch, tables.count)]
        var batch = ReadBatch<PhysicalAddress>()
        for table in part { batch.add(table.place, count: 4096) }
        memory.read(&batch)
        var leaves: [Entry] = []
        for (position, table) in part.enumerated() {
          let reader = try batch.reader(position)
          let end = table.start + coverage * 512
          for range in Self.overlapping(ranges, table.start, end) {
            let from = max(range.lowerBound, table.start), to = min(range.upperBound, end)
            for index in Int((from - table.start) / coverage)...Int((to - 1 - table.start) / coverage) {
              let value = try reader.u64(index * 8)
              guard value != 0 else { continue }
              let start = table.start + UInt64(index) * coverage
              // Two neighbours may lie in one entry of an upper level.
              if let last = leaves.last, last.start == start { continue }
              if let last = below.last, last.start == start { continue }
              // _PAGE_PSE: a large page. One that is not present, or only seems not to be, leads to no table either.
              if level == 1 || value & 0x80 != 0 || value & 1 == 0 {
                leaves.append(Entry(start: start, size: coverage, value: value))
              } else {
                below.append((PhysicalAddress(value & 0x000f_ffff_ffff_f000), start))
              }
            }
          }
        }
        if !leaves.isEmpty { try body(leaves) }
        guard below.count + spent <= Self.mostTables else {
          throw ShadowError.unreadable("the process has more than \(Self.mostTables) page tables")
        }
      }
      spent += below.count
      tables = below
    }
  }

  /// Those of `ranges` that have something in common with the addresses from `start` to `end`.
  private static func overlapping(_ ranges: [Range<UInt64>], _ start: UInt64, _ end: UInt64) -> ArraySlice<
    Range<UInt64>
  > {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound <= start { low = middle + 1 } else { high = middle }
    }
    var last = low
    while last < ranges.count, ranges[last].lowerBound < end { last += 1 }
    return ranges[low..<last]
  }
}
