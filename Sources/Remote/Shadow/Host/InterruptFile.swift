import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// The lines of /proc/interrupts and /proc/softirqs.
///
/// Source: kernel/irq/proc.c, `show_interrupts`; arch/x86/kernel/irq.c, `arch_show_interrupts`; fs/proc/softirqs.c.
enum InterruptFile {
  /// What CPUs count for themselves and the view leaves out, in the kernel's order.
  private struct Own: KernelShape {
    static let type = "irq_cpustat_t"
    let hypervisor = Field<UInt64>(optional: "irq_hv_callback_count")
    let reenlightenment = Field<UInt64>(optional: "irq_hv_reenlightenment_count")
    let timer = Field<UInt64>(optional: "hyperv_stimer0_count")
    let posted = Field<UInt64>(optional: "kvm_posted_intr_ipis")
    let nested = Field<UInt64>(optional: "kvm_posted_intr_nested_ipis")
    let wakeup = Field<UInt64>(optional: "kvm_posted_intr_wakeup_ipis")
    let message = Field<UInt64>(optional: "posted_msi_notification_count")
  }

  static func interrupts(_ kernel: Kernel) throws -> [UInt8] {
    let table = try kernel.interrupts().whole()
    let room = try kernel.number(InterruptCounts.variable(kernel))
    // As wide as the largest number.
    var (width, next) = (3, UInt64(1000))
    while width < 10, next <= room { (width, next) = (width + 1, next * 10) }
    var text = ProcText()
    text.line(String(repeating: " ", count: width + 8) + table.cpus.map { ProcText.filled("CPU\($0)", 11) }.joined())
    func start(_ name: String, _ counts: [UInt64]) -> String {
      "\(ProcText.padded(name, width)): "
        + counts.map { ProcText.padded("\($0 & 0xffff_ffff)", 10) + " " }.joined().dropLast()
    }
    for line in table.lines {
      text.add(start(line.name, line.counts))
      guard Int(line.name) != nil else {
        text.add("   ")
        text.line(line.actions.map { String(decoding: $0, as: UTF8.self) }.joined())
        continue
      }
      let chip = String(decoding: line.chip, as: UTF8.self)
      text.add("  \(ProcText.padded(chip.isEmpty ? "-" : chip, 8)) ")
      text.add(ProcText.padded(line.hardwareNumber.map { "\($0)" } ?? "", width))
      if !line.flow.isEmpty { text.add("-" + ProcText.filled(String(decoding: line.flow, as: UTF8.self), 8)) }
      for (index, action) in line.actions.enumerated() {
        text.add(index == 0 ? "  " : ", ")
        text.add(action)
      }
      text.line("")
    }
    try addOwn(kernel, &text, start)
    return text.bytes
  }

  private static func addOwn(
    _ kernel: Kernel, _ text: inout ProcText, _ start: (String, [UInt64]) -> String
  ) throws {
    let cpus = try kernel.cpus().filter(\.isOnline)
    for (name, variable, what) in [
      ("MCE", "mce_exception_count", "Machine check exceptions"), ("MCP", "mce_poll_count", "Machine check polls"),
    ] {
      guard let variable = kernel.symbols.address(of: variable) else { continue }
      var batch = ReadBatch<VirtualAddress>()
      for cpu in cpus { batch.add(cpu.address(of: variable), count: 4) }
      kernel.addressSpace.read(&batch)
      text.line(start(name, try cpus.indices.map { UInt64(try batch.reader($0).u32(0)) }) + "   \(what)")
    }
    let own = try kernel.read(Own.self, at: kernel.perCPU("irq_stat"))
    let shape = try kernel.bound(Own.self)
    func add(_ name: String, _ field: Field<UInt64>, _ what: String) throws {
      guard field.isPresent else { return }
      text.line(start(name, try own.map { try $0.load(field) }) + "   \(what)")
    }
    // Which vectors are taken, a bit each; the vectors are those of arch/x86/include/asm/irq_vectors.h.
    let vectors = kernel.symbols.address(of: "system_vectors") == nil ? [] : try kernel.words("system_vectors", 4)
    func isTaken(_ vector: Int) -> Bool { (vectors[safe: vector / 64] ?? 0) >> UInt64(vector % 64) & 1 != 0 }
    if isTaken(0xf3) { try add("HYP", shape.hypervisor, "Hypervisor callback interrupts") }
    if isTaken(0xee) { try add("HRE", shape.reenlightenment, "Hyper-V reenlightenment interrupts") }
    if isTaken(0xed) { try add("HVS", shape.timer, "Hyper-V stimer0 interrupts") }
    for (name, variable) in [("ERR", "irq_err_count"), ("MIS", "irq_mis_count")]
    where kernel.symbols.address(of: variable) != nil {
      text.line(start(name, [UInt64(try kernel.number(variable))]))
    }
    try add("PIN", shape.posted, "Posted-interrupt notification event")
    try add("NPI", shape.nested, "Nested posted-interrupt event")
    try add("PIW", shape.wakeup, "Posted-interrupt wakeup event")
    try add("PMN", shape.message, "Posted MSI notification event")
  }

  static func softInterrupts(_ kernel: Kernel) throws -> [UInt8] {
    let times = try kernel.reader(ProcessorTimesReader.self).read(kernel)
    let names = try kernel.texts(in: "softirq_to_name", count: times.cpus.first?.softInterrupts.count ?? 0)
    var text = ProcText()
    text.line(String(repeating: " ", count: 20) + times.cpus.map { ProcText.filled("CPU\($0.number)", 11) }.joined())
    for (kind, name) in names.enumerated() {
      guard let name else { throw ShadowError.unreadable("the name of a kind of softirqs cannot be read") }
      let counts = times.cpus.map { " " + ProcText.padded("\($0.softInterrupts[safe: kind] ?? 0)", 10) }
      text.line("\(ProcText.padded(name, 12)):\(counts.joined())")
    }
    return text.bytes
  }
}
