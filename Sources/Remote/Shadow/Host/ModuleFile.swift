import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory

/// The lines of /proc/modules.
///
/// Source: kernel/module/procfs.c, `m_show`.
enum ModuleFile {
  private struct Module: KernelShape {
    static let type = "module"
    let start = Field<VirtualAddress?>("init"), end = Field<VirtualAddress?>(optional: "exit")
  }

  /// The modules of the list, and behind them those whose structs lie at `hidden`.
  static func bytes(_ kernel: Kernel, hidden: [VirtualAddress]) throws -> [UInt8] {
    let modules = try (kernel.modules().whole().modules + kernel.modules(at: hidden).whole().modules)
      .filter { $0.state != .unformed }
    let functions = try kernel.read(Module.self, at: modules.map(\.address))
    var text = ProcText()
    for (index, module) in modules.enumerated() {
      text.add(module.name)
      text.add(" \(module.size) \(module.references) ")
      for user in module.usedBy { text.add(user + Array(",".utf8)) }
      let isPermanent = try functions[index].start != nil && functions[index].end == nil
      if isPermanent { text.add("[permanent],") }
      if module.usedBy.isEmpty, !isPermanent { text.add("-") }
      text.add(" \(module.state?.rawValue ?? "Live") 0x\(ProcText.hex(module.text.rawValue, 16))")
      // Without the letter that stands for no proprietary code.
      if module.taints != 0 { text.add(" (\(module.taintLetters))") }
      text.line("")
    }
    return text.bytes
  }
}
