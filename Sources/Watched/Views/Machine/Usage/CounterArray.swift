import Binding
import KernelInfo
import LinuxKernel
import Memory

/// Counters of memory management beside each other, each a word.
struct CounterArray: Sendable {
  /// Nil where this kernel has none: all are zero.
  var address: VirtualAddress?
  var count: Int

  /// An array that a batch is asked for.
  struct Entry {
    fileprivate let entry: Int?
    fileprivate let count: Int

    /// The counters; they are folded in from each CPU's share, so a small one may read below zero for a moment.
    func values(in batch: borrowing ReadBatch<VirtualAddress>) throws(MemoryFault) -> [UInt64] {
      guard let entry else { return [UInt64](repeating: 0, count: count) }
      return try batch.words(entry).map { $0 >> 63 == 0 ? $0 : 0 }
    }
  }

  func add(to batch: inout ReadBatch<VirtualAddress>) -> Entry {
    Entry(entry: address.map { batch.add($0, count: count * 8) }, count: count)
  }
}

/// The NUMA nodes: a table of pointers, or one node of a kernel without NUMA.
struct MemoryNodes: Sendable {
  private let table, single: VirtualAddress?

  init(kernel: Kernel) {
    table = kernel.symbols.address(of: "node_data")
    single = kernel.symbols.address(of: "contig_page_data")
  }

  func add(to batch: inout ReadBatch<VirtualAddress>) -> Int? { table.map { batch.add($0, count: 64 * 8) } }

  /// The addresses of the nodes, each a `pglist_data`.
  func addresses(_ entry: Int?, in batch: borrowing ReadBatch<VirtualAddress>) throws(MemoryFault) -> [VirtualAddress] {
    let words = try entry.map { (entry) throws(MemoryFault) in try batch.words(entry) } ?? []
    return (single.map { [$0] } ?? []) + words.prefix { $0 >> 63 == 1 }.map { VirtualAddress($0) }
  }
}
