import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the pressure stall information of the whole system.
///
/// Of each state, `psi_group` has three averages of a percentage with 11 bits after the point, and nanoseconds in total;
/// of the two rows of totals the first belongs to the averages. Source: kernel/sched/psi.c, `psi_show`.
struct PressureReader: KernelReader {
  static let subject = "the pressure information"

  private struct Group: KernelShape {
    static let type = "psi_group"
    let totals = Field<[UInt64]>("total")
    let averages = Field<[UInt64]>("avg")
  }

  private struct Key: KernelShape {
    static let type = "static_key"
    let enabled = Field<Int32>("enabled")
  }

  private let groupAddress: VirtualAddress
  private let group: Bound<Group>
  private let disabled: (address: VirtualAddress, key: Bound<Key>)?
  private let states: [(resource: Pressure.Resource, some: Int?, full: Int?)]

  init(kernel: Kernel) throws {
    let types = kernel.types
    groupAddress = try kernel.symbol("psi_system", for: Self.self)
    group = try Bound(types)
    disabled = try kernel.symbols.address(of: "psi_disabled").map { ($0, try Bound(types)) }
    let count = min(group.totals.place.size / 8, group.averages.place.size / 24)
    func state(_ name: String) -> Int? {
      types.enumerator(name).flatMap { (0..<Int64(count)).contains($0) ? Int($0) : nil }
    }
    states = [
      (.cpu, state("PSI_CPU_SOME"), state("PSI_CPU_FULL")), (.memory, state("PSI_MEM_SOME"), state("PSI_MEM_FULL")),
      (.io, state("PSI_IO_SOME"), state("PSI_IO_FULL")), (.irq, nil, state("PSI_IRQ_FULL")),
    ]
  }

  func read(in space: AddressSpace) throws -> [Pressure] {
    var batch = ReadBatch<VirtualAddress>()
    let groups = batch.add(group, at: [groupAddress])
    let keys = disabled.map { batch.add($0.key, at: [$0.address]) }
    space.read(&batch)
    if let key = keys?.structs(in: batch).first, try key.enabled > 0 {
      throw KernelError(Self.subject, .inconsistent("this kernel was booted without it (psi=0)"))
    }
    let group = groups.structs(in: batch)[0]
    let (totals, averages) = (try group.totals, try group.averages)
    func stall(_ state: Int?) -> Pressure.Stall? {
      state.map { state in
        Pressure.Stall(
          averages: averages[state * 3..<state * 3 + 3].map { Double($0) / 2048 }, total: totals[state] / 1000)
      }
    }
    return states.compactMap { resource, some, full in
      some == nil && full == nil ? nil : Pressure(resource: resource, some: stall(some), full: stall(full))
    }
  }
}
