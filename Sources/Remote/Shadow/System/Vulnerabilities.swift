import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// The directory /sys/devices/system/cpu/vulnerabilities: which faults the processors have, and what the kernel does about them.
///
/// Of faults that the processors have, what the kernel says is read where it is a text of a table; where it puts one together there
/// is an error.
///
/// Source: drivers/base/cpu.c; arch/x86/kernel/cpu/bugs.c, `cpu_show_common`.
enum Vulnerabilities {
  /// Files, the kernel's names of the faults as /proc/cpuinfo has them, and the tables of texts with the variables that choose.
  private static let known: [String: (bug: String, texts: (table: String, choice: String)?)] = [
    "gather_data_sampling": ("gds", ("gds_strings", "gds_mitigation")), "ghostwrite": ("ghostwrite", nil),
    "indirect_target_selection": ("its", ("its_strings", "its_mitigation")), "itlb_multihit": ("itlb_multihit", nil),
    "l1tf": ("l1tf", nil), "mds": ("mds", nil), "meltdown": ("cpu_meltdown", nil),
    "mmio_stale_data": ("mmio_stale_data", nil), "old_microcode": ("old_microcode", nil),
    "reg_file_data_sampling": ("rfds", ("rfds_strings", "rfds_mitigation")), "retbleed": ("retbleed", nil),
    "spec_rstack_overflow": ("srso", nil), "spec_store_bypass": ("spec_store_bypass", ("ssb_strings", "ssb_mode")),
    "spectre_v1": ("spectre_v1", ("spectre_v1_strings", "spectre_v1_mitigation")), "spectre_v2": ("spectre_v2", nil),
    "srbds": ("srbds", ("srbds_strings", "srbds_mitigation")), "tsa": ("tsa", ("tsa_strings", "tsa_mitigation")),
    "tsx_async_abort": ("taa", nil), "vmscape": ("vmscape", ("vmscape_strings", "vmscape_mitigation")),
  ]

  /// No kernel knows of more.
  private static let most = 256

  /// Nil where the kernel was built without.
  static func directory(_ kernel: Kernel) -> ShadowNode? {
    guard kernel.symbols.address(of: "cpu_root_vulnerabilities_attrs") != nil else { return nil }
    return .listing { try entries(kernel) }
  }

  private static func entries(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let count = min(most, kernel.size(of: "cpu_root_vulnerabilities_attrs") / 8)
    let attributes = try kernel.pointers(in: "cpu_root_vulnerabilities_attrs", count: count).prefix { $0.rawValue != 0 }
    let names = try kernel.pointers("name", of: "attribute", at: Array(attributes))
    return try kernel.addressSpace.strings(at: names).map { name in
      let name = String(decoding: try name.get(), as: UTF8.self)
      return .init(name: name, node: .file { Array((try text(name, kernel) + "\n").utf8) })
    }
  }

  private static func text(_ name: String, _ kernel: Kernel) throws -> String {
    guard let known = known[name] else { throw ShadowError.unreadable("what the fault \(name) is is not known") }
    var faults: [MemoryFault] = []
    let cpus = try CPUInfoView.read(kernel, &faults)
    if let fault = faults.first { throw fault }
    guard let first = cpus.first else { throw ShadowError.unreadable("a host without processors") }
    guard first.bugs.contains(known.bug) else { return "Not affected" }
    if name == "meltdown", first.flags.contains("pti") { return "Mitigation: PTI" }
    guard let (table, choice) = known.texts, kernel.symbols.address(of: table) != nil else {
      throw ShadowError.unreadable("what the kernel does about \(name) is not known")
    }
    let texts = try kernel.texts(in: table, count: min(most, kernel.size(of: table) / 8))
    guard let text = texts[safe: Int(try kernel.number(choice))] ?? nil else {
      throw ShadowError.unreadable("what the kernel does about \(name)")
    }
    return text
  }
}
