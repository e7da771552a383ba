import Binding
import KernelInfo
public import KernelViews
import LinuxKernel
import Memory
import Paging

/// A range of the kernel's half of the address space from which a CPU may take instructions.
public struct ExecutableRange: Hashable, Sendable {
  public var range: Range<UInt64>
  /// Whether the same mapping lets the kernel write there.
  public var isWritable: Bool
}

/// What of the kernel's memory can be executed.
public struct ExecutableMemory: Faulted {
  /// In ascending order, without overlap; neighbours of one kind are joined.
  public internal(set) var ranges: [ExecutableRange] = []
  public internal(set) var faults: [MemoryFault] = []
}

/// Walks the kernel's half of the page tables.
///
/// A page can be executed where no level forbids it, and written where each level allows it: bit 63 and bit 1 of entries.
/// Source: arch/x86/mm/dump_pagetables.c, `ptdump_walk_pgd_level_checkwx`.
private struct ExecutableMemoryReader: SettledReader {
  static let subject = "the kernel's page tables"

  /// More tables than a kernel has that maps some TiB in large pages; tables that lead to themselves end there.
  private static let mostTables = 1 << 15
  /// More pages that can be executed than any kernel has; it is walked no further then.
  private static let mostRanges = 1 << 18

  init(kernel: Kernel) throws {
    guard [PageTableFormat.x86_64FourLevel, .x86_64FiveLevel].contains(kernel.addressSpace.format) else {
      throw KernelError(Self.subject, .inconsistent("they are none of x86-64"))
    }
  }

  private struct Table {
    var place: PhysicalAddress
    /// The first virtual address that it maps.
    var start: UInt64
    var isWritable: Bool
  }

  func read(_ kernel: Kernel) -> ExecutableMemory {
    let space = kernel.addressSpace
    let format = space.format
    var memory = ExecutableMemory()
    var tables = [Table(place: space.upperRoot, start: 0, isWritable: true)]
    var left = Self.mostTables
    for level in stride(from: format.levels, through: 1, by: -1) where !tables.isEmpty {
      if tables.count > left {
        memory.faults.append(
          MemoryFault(.physical(tables[left].place), .inconsistent("more than \(Self.mostTables) page tables")))
        tables.removeLast(tables.count - left)
      }
      left -= tables.count
      var batch = ReadBatch<PhysicalAddress>()
      for table in tables { batch.add(table.place, count: 4096) }
      space.memory.read(&batch)
      var next: [Table] = []
      let size = format.coverage(level: level)
      for (index, table) in tables.enumerated() {
        memory.faults.keep { () throws(MemoryFault) in
          let reader = try batch.reader(index)
          for entry in (level == format.levels ? 256 : 0)..<512 {
            let value = try reader.u64(entry * 8)
            // Not present, or not to be executed: so is all below.
            guard value & 1 != 0, value >> 63 == 0 else { continue }
            var start = table.start &+ UInt64(entry) &* size
            if level == format.levels { start |= ~UInt64(0) << UInt64(format.virtualBits) }
            let isWritable = table.isWritable && value & 2 != 0
            switch format.entry(value, level: level) {
            case .table(let place): next.append(Table(place: place, start: start, isWritable: isWritable))
            case .page:
              guard memory.ranges.count < Self.mostRanges else {
                throw MemoryFault(
                  .virtual(VirtualAddress(start)), .inconsistent("more than \(Self.mostRanges) executable pages"))
              }
              let end = start &+ (size - 1)
              memory.ranges.append(ExecutableRange(range: start..<max(start, end), isWritable: isWritable))
            case .notPresent, .impossible: continue
            }
          }
        }
      }
      tables = next
    }
    memory.ranges.sort { $0.range.lowerBound < $1.range.lowerBound }
    var joined: [ExecutableRange] = []
    for var item in memory.ranges {
      // A range's last byte was told, lest one that ends with the address space have no end.
      item.range = item.range.lowerBound..<(item.range.upperBound == .max ? .max : item.range.upperBound + 1)
      if let last = joined.last, last.isWritable == item.isWritable, last.range.upperBound >= item.range.lowerBound {
        joined[joined.count - 1].range =
          last.range.lowerBound..<max(last.range.upperBound, item.range.upperBound)
      } else {
        joined.append(item)
      }
    }
    memory.ranges = joined
    return memory
  }
}

extension Look {
  /// What of the kernel's memory can be executed, by its page tables.
  ///
  /// Cost: a batch for each level.
  public func executableMemory() throws(KernelError) -> ExecutableMemory {
    try once("executable memory") { kernel throws(KernelError) in try kernel.read(ExecutableMemoryReader.self) }
  }

  /// What of it has an owner in none of the kernel's tables: a thousand ranges at most.
  public func ownerlessCode() throws(KernelError) -> [Range<UInt64>] {
    let owners = try codeOwners()
    let executable = try executableMemory()
    return try once("ownerless code") { _ in
      Array(executable.ranges.lazy.flatMap { owners.remainder(of: $0.range) }.prefix(1024))
    }
  }
}
