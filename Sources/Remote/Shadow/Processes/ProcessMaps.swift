import Memory
import ProcessViews

/// The lines of /proc/PID/maps.
///
/// Source: fs/proc/task_mmu.c, `show_map_vma`.
enum ProcessMaps {
  static func bytes(_ mappings: [MemoryMapping], vsyscall: String?) -> [UInt8] {
    var text = ProcText()
    for mapping in mappings {
      let (first, last) = (mapping.range.lowerBound.rawValue, mapping.range.upperBound.rawValue)
      var line =
        "\(ProcText.hex(first, 8))-\(ProcText.hex(last, 8)) \(mapping.permissions) \(ProcText.hex(mapping.offset, 8)) "
      line += "\(ProcText.hex(mapping.major, 2)):\(ProcText.hex(mapping.minor, 2)) \(mapping.inode) "
      guard !mapping.name.isEmpty else {
        text.line(line)
        continue
      }
      text.add(ProcText.filled(line, 72) + " ")
      text.add(ProcText.escaped(mapping.name, "\n"))
      text.line("")
    }
    if let vsyscall {
      text.line(
        ProcText.filled("ffffffffff600000-ffffffffff601000 \(vsyscall) 00000000 00:00 0 ", 72) + " [vsyscall]")
    }
    return text.bytes
  }
}
