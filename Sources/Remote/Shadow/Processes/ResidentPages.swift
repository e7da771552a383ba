import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The exact numbers of a process's pages, where the kernel's own files show these.
///
/// From 6.2 on each CPU counts for itself, and folds what it counted into a sum now and then. The files showed that sum alone
/// until 6.17, and kernels that distributions changed show what all CPUs have: only the code says what a kernel does.
///
/// Source: include/linux/mm.h, `get_mm_counter_sum`.
struct ResidentPages: KernelReader {
  static let subject = "the numbers of pages"

  private let first, stride: Int
  private let counters: Int?
  private let indices: [Int]
  /// Whether `status` and `statm` show the exact numbers.
  private let isInStatus, isInSizes: Bool

  init(kernel: Kernel) throws {
    let layout = try kernel.types.structure("mm_struct")
    let array = try layout.field("rss_stat")
    first = try layout.field("rss_stat.count").offset
    stride = array.elementCount == nil ? 8 : array.elementSize
    counters = layout.hasField("rss_stat.counters") ? try layout.field("rss_stat.counters").offset : nil
    indices = try ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES"].map {
      // An enumerator that no array has so many elements for is a lie of the types.
      Int(max(0, min(15, try kernel.types.requiredEnumerator($0))))
    }
    isInStatus = Self.sums(in: "task_mem", kernel)
    isInSizes = Self.sums(in: "task_statm", kernel)
  }

  /// Whether a function calls the one that adds up what all CPUs counted.
  private static func sums(in function: String, _ kernel: Kernel) -> Bool {
    let size = kernel.size(of: function)
    guard (5...8192).contains(size), let start = kernel.symbols.address(of: function),
      let sum = kernel.symbols.address(of: "__percpu_counter_sum"),
      let code = try? kernel.addressSpace.read(start, count: size)
    else { return false }
    return (0...size - 5).contains { place in
      // A call: e8, and the distance from the next instruction in four bytes.
      guard code[place] == 0xe8 else { return false }
      let distance = (0..<4).reduce(0 as UInt32) { $0 | UInt32(code[place + 1 + $1]) << UInt32($1 * 8) }
      return start.rawValue &+ UInt64(place + 5) &+ UInt64(bitPattern: Int64(Int32(bitPattern: distance)))
        == sum.rawValue
    }
  }

  /// The memory of a process as `status` shows it.
  ///
  /// Cost: a round trip where the kernel adds up what all CPUs counted, else none.
  func shownInStatus(_ memory: ProcessRecord.Memory, _ kernel: Kernel) throws -> ProcessRecord.Memory {
    isInStatus ? try exact(memory, kernel) : memory
  }

  /// The memory of a process as `statm` shows it.
  func shownInSizes(_ memory: ProcessRecord.Memory, _ kernel: Kernel) throws -> ProcessRecord.Memory {
    isInSizes ? try exact(memory, kernel) : memory
  }

  private func exact(_ memory: ProcessRecord.Memory, _ kernel: Kernel) throws -> ProcessRecord.Memory {
    guard let counters else { return memory }
    let space = kernel.addressSpace
    let cpus = try kernel.cpus().filter(\.isOnline)
    var heads = ReadBatch<VirtualAddress>()
    for index in indices {
      heads.add(memory.address + (first + index * stride), count: 8)
      heads.add(memory.address + (counters + index * stride), count: 8)
    }
    space.read(&heads)
    var batch = ReadBatch<VirtualAddress>()
    for index in indices.indices {
      let own = try heads.reader(index * 2 + 1).pointer(0)
      for cpu in cpus { batch.add(cpu.address(of: own), count: 4) }
    }
    space.read(&batch)
    let sums = try indices.indices.map { index in
      var sum = Int64(bitPattern: try heads.reader(index * 2).u64(0))
      for cpu in cpus.indices { sum &+= Int64(try batch.reader(index * cpus.count + cpu).load(0, as: Int32.self)) }
      return UInt64(max(0, sum))
    }
    var memory = memory
    (memory.filePages, memory.anonymousPages) = (sums[0], sums[1])
    (memory.swappedPages, memory.sharedPages) = (sums[2], sums[3])
    return memory
  }
}
