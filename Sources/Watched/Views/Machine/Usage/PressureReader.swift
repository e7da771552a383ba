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

  private let group: VirtualAddress
  private let disabled: VirtualAddress?
  private let keyEnabled: FieldLayout?
  private let total: FieldLayout
  private let averages: FieldLayout
  private let states: [(resource: Pressure.Resource, some: Int?, full: Int?)]

  init(kernel: Kernel) throws {
    group = try kernel.symbol("psi_system", for: Self.self)
    disabled = kernel.symbols.address(of: "psi_disabled")
    keyEnabled = try disabled.map { _ in try kernel.types.structure("static_key").field("enabled") }
    let structure = try kernel.types.structure("psi_group")
    let total = try structure.field("total")
    self.total = total
    averages = try structure.field("avg")
    func state(_ name: String) -> Int? {
      kernel.types.enumerator(name).flatMap { (0..<Int64(total.size / 8)).contains($0) ? Int($0) : nil }
    }
    states = [
      (.cpu, state("PSI_CPU_SOME"), state("PSI_CPU_FULL")), (.memory, state("PSI_MEM_SOME"), state("PSI_MEM_FULL")),
      (.io, state("PSI_IO_SOME"), state("PSI_IO_FULL")), (.irq, nil, state("PSI_IRQ_FULL")),
    ]
  }

  func read(in space: AddressSpace) throws -> [Pressure] {
    var batch = ReadBatch<VirtualAddress>()
    let totals = batch.add(group + total.offset, count: total.size)
    let averages = batch.add(group + self.averages.offset, count: self.averages.size)
    let key = disabled.flatMap { disabled in keyEnabled.map { batch.add(disabled + $0.offset, count: 4) } }
    space.read(&batch)
    if let key, try batch.reader(key).load(0, as: Int32.self) > 0 {
      throw KernelError(Self.subject, .inconsistent("this kernel was booted without it (psi=0)"))
    }
    func stall(_ state: Int?) throws(MemoryFault) -> Pressure.Stall? {
      guard let state else { return nil }
      var percent: [Double] = []
      for window in 0..<3 { percent.append(Double(try batch.reader(averages).u64((state * 3 + window) * 8)) / 2048) }
      return Pressure.Stall(averages: percent, total: try batch.reader(totals).u64(state * 8) / 1000)
    }
    return try states.compactMap { resource, some, full throws(MemoryFault) in
      some == nil && full == nil ? nil : Pressure(resource: resource, some: try stall(some), full: try stall(full))
    }
  }
}
