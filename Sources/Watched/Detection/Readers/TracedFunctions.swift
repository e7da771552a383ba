import Binding
import KernelInfo
public import KernelViews

/// The places where the kernel and its modules can be traced: the starts of nearly all functions.
public struct TracedFunctionTable: Faulted {
  /// Where each place lies, and its flags.
  public internal(set) var places: [(address: VirtualAddress, flags: UInt64)] = []
  public internal(set) var faults: [MemoryFault] = []
}

/// Reads ftrace's records.
///
/// Source: kernel/trace/ftrace.c, `ftrace_pages_start`.
private struct TracedFunctionReader: SettledReader {
  static let subject = "the functions that ftrace knows"

  struct Page: KernelShape {
    static let type = "ftrace_page"
    let next = Place("next")
    let records = Field<VirtualAddress>("records")
    let count = Field<Int32>("index")
  }

  struct Record: KernelShape {
    static let type = "dyn_ftrace"
    let place = Field<VirtualAddress>("ip")
    let flags = Field<UInt64>("flags")
  }

  let page: Bound<Page>
  let record: Bound<Record>
  let start: VirtualAddress

  private static let mostPages = 1 << 16
  /// Records of all pages: many times as many as a kernel with all its modules has functions.
  private static let mostRecords = 1 << 21

  init(kernel: Kernel) throws {
    page = try Bound(kernel.types)
    record = try Bound(kernel.types)
    start = try kernel.symbol("ftrace_pages_start", for: Self.self)
  }

  func read(_ kernel: Kernel) throws -> TracedFunctionTable {
    let space = kernel.addressSpace
    var table = TracedFunctionTable()
    let (_, pages) = space.chains(of: page, through: \.next, heads: [start], limit: Self.mostPages, &table.faults)
    var batch = ReadBatch<VirtualAddress>()
    var total = 0
    let arrays = pages.compactMap(&table.faults) { (page) throws(MemoryFault) -> Int? in
      let count = Int(try page.count)
      guard count > 0 else { return nil }
      guard count <= Self.mostRecords - total else {
        throw MemoryFault(.virtual(page.address), .inconsistent("more records of ftrace than there may be"))
      }
      total += count
      batch.add(try page.records, count: count * record.size)
      return count
    }
    space.read(&batch)
    for (index, count) in arrays.enumerated() {
      do throws(MemoryFault) {
        let reader = try batch.reader(index)
        for position in 0..<count {
          let base = position * record.size
          table.places.append(
            (try reader.pointer(base + record.place.offset), try reader.u64(base + record.flags.offset)))
        }
      } catch {
        table.faults.append(error)
      }
    }
    return table
  }
}

extension Look {
  /// The places that ftrace knows.
  public func tracedFunctions() throws(KernelError) -> TracedFunctionTable {
    try once("traced functions") { kernel throws(KernelError) in try kernel.read(TracedFunctionReader.self) }
  }
}
