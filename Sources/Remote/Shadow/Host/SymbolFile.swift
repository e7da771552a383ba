import CodeViews
import LinuxKernel
import Memory

/// The lines of /proc/kallsyms.
///
/// Source: kernel/kallsyms.c, `s_show`.
enum SymbolFile {
  static func bytes(_ kernel: Kernel) throws -> [UInt8] {
    let map = try kernel.symbolMap()
    if let fault = map.faults.first { throw ShadowError.unreadable("\(fault)") }
    var text: [UInt8] = []
    for place in map.all {
      text += ProcText.hex(place.address.rawValue, 16).utf8
      text += " \(place.type) \(place.name)".utf8
      if let module = place.module { text += "\t[\(module)]".utf8 }
      text.append(10)
    }
    return text
  }
}
