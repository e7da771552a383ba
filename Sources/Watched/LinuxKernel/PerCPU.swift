import Binding
import KernelInfo
package import Memory
package import Paging

/// Where each CPU keeps its own copy of the kernel's per-CPU variables.
///
/// A per-CPU variable of CPU n lies at its symbol plus `__per_cpu_offset[n]`; one made at run time at its pointer plus
/// the same. Source: include/asm-generic/percpu.h.
package struct PerCPU: KernelReader {
  package static let subject = "the per-CPU variables"

  private let offsets: VirtualAddress
  private let online: VirtualAddress
  private let possible: VirtualAddress
  private let maskSize: Int

  package init(kernel: Kernel) throws {
    offsets = try kernel.symbol("__per_cpu_offset", for: Self.self)
    online = try kernel.symbol("__cpu_online_mask", for: Self.self)
    possible = try kernel.symbol("__cpu_possible_mask", for: Self.self)
    // CONFIG_NR_CPUS is 8192 at most on x86-64.
    maskSize = min(max((try? kernel.types.structure("cpumask").size) ?? 8, 8), 1024)
  }

  /// A CPU and how far its variables lie from where the symbols say.
  package struct CPU: Sendable {
    package var number: Int
    package var offset: UInt64
    package var isOnline: Bool

    package func address(of variable: VirtualAddress) -> VirtualAddress {
      VirtualAddress(variable.rawValue &+ offset)
    }
  }

  /// The CPUs that there may be, in ascending order.
  ///
  /// Cost: two round trips.
  package func cpus(in space: AddressSpace) throws(MemoryFault) -> [CPU] {
    var masks = ReadBatch<VirtualAddress>()
    masks.add(online, count: maskSize)
    masks.add(possible, count: maskSize)
    space.read(&masks)
    let (online, possible) = (try masks.reader(0).copy(), try masks.reader(1).copy())
    func isSet(_ number: Int, _ mask: [UInt8]) -> Bool { mask[number / 8] >> UInt8(number % 8) & 1 != 0 }
    var cpus: [CPU] = []
    for number in 0..<maskSize * 8 where isSet(number, online) || isSet(number, possible) {
      cpus.append(CPU(number: number, offset: 0, isOnline: isSet(number, online)))
    }
    guard let last = cpus.last else {
      throw MemoryFault(.virtual(self.possible), .inconsistent("a mask of possible CPUs without any"))
    }
    let table = try space.read(offsets, count: (last.number + 1) * 8)
    let reader = ByteReader(table.span.bytes)
    for index in cpus.indices { cpus[index].offset = try reader.u64(cpus[index].number * 8) }
    return cpus
  }
}

extension Kernel {
  /// The CPUs that there may be, and where their variables lie.
  package func cpus() throws(KernelError) -> [PerCPU.CPU] {
    let reader = try reader(PerCPU.self)
    return try KernelError.reading(subject(of: PerCPU.self)) { try reader.cpus(in: addressSpace) }
  }
}
