import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// The paragraphs of /proc/cpuinfo.
///
/// Source: arch/x86/kernel/cpu/proc.c, `show_cpuinfo`. `cpu MHz` is what the driver that sets it asked for, or the frequency of
/// the time stamp counter: a live kernel measures it anew for each reader.
enum CPUInfoFile {
  private struct CPU: KernelShape {
    static let type = "cpuinfo_x86"
    let number = Field<Int>("cpu_index"), vendor = Field<[UInt8]>("x86_vendor_id"), family = Field<Int>("x86")
    let model = Field<Int>("x86_model"), stepping = Field<Int>("x86_stepping"), name = Field<[UInt8]>("x86_model_id")
    let microcode = Field<UInt64>("microcode"), cache = Field<UInt64>("x86_cache_size")
    let package = Field<UInt64>("topo.pkg_id", before: "6.7", "phys_proc_id")
    let core = Field<UInt64>("topo.core_id", before: "6.7", "cpu_core_id"), cores = Field<UInt64>("booted_cores")
    let apic = Field<UInt64>("topo.apicid", before: "6.7", "apicid")
    let initialAPIC = Field<UInt64>("topo.initial_apicid", before: "6.7", "initial_apicid")
    let level = Field<Int32>("cpuid_level"), loops = Field<UInt64>("loops_per_jiffy")
    let translations = Field<Int32>(optional: "x86_tlbsize"), flush = Field<UInt64>("x86_clflush_size")
    let alignment = Field<Int32>("x86_cache_alignment"), physicalBits = Field<UInt64>("x86_phys_bits")
    let virtualBits = Field<UInt64>("x86_virt_bits"), power = Field<UInt32>("x86_power")
    let vmx = Field<RawBytes>(optional: "vmx_capability")
  }

  private struct Policy: KernelShape {
    static let type = "cpufreq_policy"
    let frequency = Field<UInt64>("cur")
  }

  static func bytes(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let named = try CPUInfoView.read(kernel, &faults)
    if let fault = faults.first { throw fault }
    let cpus = try kernel.read(CPU.self, at: kernel.perCPU("cpu_info"))
    guard named.count == cpus.count else { throw ShadowError.unreadable("the CPUs changed meanwhile") }
    let power = try kernel.texts(in: "x86_power_flags", count: min(kernel.size(of: "x86_power_flags") / 8, 32))
    let frequencies = try frequencies(kernel, count: cpus.count)
    let packages = try cpus.map { try $0.package }
    let ticks = try kernel.ticksPerSecond()
    var text = ProcText()
    for (index, cpu) in cpus.enumerated() {
      let flags = named[index].flags
      func line(_ name: String, _ value: some Any) { text.line("\(name): \(value)") }
      func known(_ name: [UInt8]) -> String { name.isEmpty ? "unknown" : String(decoding: name, as: UTF8.self) }
      line("processor\t", try cpu.number)
      line("vendor_id\t", known(try cpu.vendor))
      line("cpu family\t", try cpu.family)
      line("model\t\t", try cpu.model)
      line("model name\t", known(try cpu.name))
      let (stepping, level) = (try cpu.stepping, try cpu.level)
      line("stepping\t", stepping != 0 || level >= 0 ? "\(stepping)" : "unknown")
      if try cpu.microcode != 0 { line("microcode\t", "0x" + String(try cpu.microcode, radix: 16)) }
      if flags.contains("tsc") {
        let kilohertz = frequencies[index]
        line("cpu MHz\t\t", "\(kilohertz / 1000).\(ProcText.padded("\(kilohertz % 1000)", 3, "0"))")
      }
      if try cpu.cache != 0 { line("cache size\t", "\(try cpu.cache) KB") }
      line("physical id\t", packages[index])
      line("siblings\t", packages.filter { $0 == packages[index] }.count)
      line("core id\t\t", try cpu.core)
      line("cpu cores\t", try cpu.cores)
      line("apicid\t\t", try cpu.apic)
      line("initial apicid\t", try cpu.initialAPIC)
      text.line("fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: \(level)\nwp\t\t: yes")
      text.line("flags\t\t:" + flags.map { " " + $0 }.joined())
      if flags.contains("vmx"), case let bits = try cpu.vmx, bits.bytes.prefix(4).contains(where: { $0 != 0 }) {
        let names = try kernel.texts(in: "x86_vmx_flags", count: bits.bytes.count * 8)
        text.line("vmx flags\t:" + bits.names(names[...]).map { " " + $0 }.joined())
      }
      text.line("bugs\t\t:" + named[index].bugs.map { " " + $0 }.joined())
      let loops = try cpu.loops
      line(
        "bogomips\t", "\(loops / (500_000 / ticks)).\(ProcText.padded("\(loops / (5000 / ticks) % 100)", 2, "0"))")
      if try cpu.translations > 0 { line("TLB size\t", "\(try cpu.translations) 4K pages") }
      line("clflush size\t", try cpu.flush)
      line("cache_alignment\t", try cpu.alignment)
      line("address sizes\t", "\(try cpu.physicalBits) bits physical, \(try cpu.virtualBits) bits virtual")
      let bits = try cpu.power
      let names = (0..<32).filter { bits >> UInt32($0) & 1 != 0 }.map { bit in
        power[safe: bit].flatMap { $0 }.map { $0.isEmpty ? "" : " " + $0 } ?? " [\(bit)]"
      }
      text.line("power management:\(names.joined())\n")
    }
    return text.bytes
  }

  /// In kHz, of each online CPU.
  private static func frequencies(_ kernel: Kernel, count: Int) throws -> [UInt64] {
    let base = UInt64(try kernel.number("cpu_khz"))
    guard kernel.symbols.address(of: "cpufreq_cpu_data") != nil, let shape = try? kernel.bound(Policy.self) else {
      return Array(repeating: base, count: count)
    }
    let policies = kernel.addressSpace.pointers(at: try kernel.perCPU("cpufreq_cpu_data"))
    return try kernel.addressSpace.read(shape, at: policies).map { policy in
      guard policy.address.rawValue != 0 else { return base }
      let frequency = try policy.frequency
      return frequency == 0 ? base : frequency
    }
  }
}
