package import Binding
package import LinuxKernel
package import Memory
package import Views

/// What the kernel knows of its CPUs, as /proc/cpuinfo has it.
///
/// Source: arch/x86/kernel/cpu/proc.c, `show_cpuinfo`.
package struct CPUInfoView: DeclaredView {
  package typealias Row = (cpu: Reading<CPU>, flags: [String], bugs: [String])
  package static let name = "cpuinfo", group = ViewGroup.host
  package static let summary = "Shows each online CPU's model, microcode, features and known bugs."

  package struct CPU: KernelShape {
    package static let type = "cpuinfo_x86"
    let number = Field<Int>("cpu_index"), vendor = Field<[UInt8]>("x86_vendor_id"), family = Field<Int>("x86")
    let model = Field<Int>("x86_model"), stepping = Field<Int>("x86_stepping"), name = Field<[UInt8]>("x86_model_id")
    let microcode = Field<UInt64>("microcode"), bits = Field<RawBytes>("x86_capability")
    package init() {}
  }

  package static let columns: [ViewColumn<Row>] = [
    ViewColumn("CPU", "cpu", of: \.cpu, \.number).identity, ViewColumn("VENDOR", "vendor", of: \.cpu, \.vendor),
    ViewColumn("FAMILY", "family", of: \.cpu, \.family), ViewColumn("MODEL", "model", of: \.cpu, \.model),
    ViewColumn("STEPPING", "stepping", of: \.cpu, \.stepping), ViewColumn("NAME", "name", of: \.cpu, \.name),
    ViewColumn("MICROCODE", "microcode", of: \.cpu, \.microcode) { "0x" + String($0, radix: 16) },
    ViewColumn("FLAGS", "flags", \.flags).shown { "\($0.flags.count)" }, ViewColumn("BUGS", "bugs", \.bugs),
  ]

  package static func read(_ kernel: Kernel, _ faults: inout [MemoryFault]) throws -> [Row] {
    // Bugs have the bits behind those of all features.
    let all = min(try kernel.bound(CPU.self).bits.place.size, 256) * 8
    let bugs = min(all, kernel.size(of: "x86_bug_flags") / 8), first = all - bugs
    let names = try kernel.texts(in: "x86_cap_flags", count: first) + kernel.texts(in: "x86_bug_flags", count: bugs)
    return try kernel.read(CPU.self, at: kernel.perCPU("cpu_info")).whole(&faults).map { cpu in
      (cpu, try cpu.bits.names(names[..<first]), try cpu.bits.names(names[first...]))
    }
  }
}
