import Glibc

/// What Linux says of this machine's own memory.
enum SystemMemory {
  /// Where this machine's RAM lies, in whole pages, in ascending order.
  ///
  /// Empty where /proc/iomem hides the addresses, which it does from all but root.
  static func ranges() -> [Range<Int>] { ranges(in: contents("/proc/iomem")) }

  /// The lines of /proc/iomem that are not part of another one and say `System RAM`.
  static func ranges(in iomem: String) -> [Range<Int>] {
    let page = 4096
    var ranges: [Range<Int>] = []
    for line in iomem.split(separator: "\n") where line.hasSuffix(" : System RAM") && line.first != " " {
      let bounds = line.prefix { $0 != " " }.split(separator: "-").compactMap { Int($0, radix: 16) }
      guard bounds.count == 2, bounds[0] < bounds[1], bounds[1] < .max - page else { continue }
      let (start, end) = ((bounds[0] + page - 1) / page * page, (bounds[1] + 1) / page * page)
      if start < end, start >= ranges.last?.upperBound ?? 0 { ranges.append(start..<end) }
    }
    return ranges
  }

  /// Bytes of a device-dax, memory that is mapped past the page cache; nil for any other character device.
  static func daxSize(of device: dev_t) -> Int? {
    // As <sys/sysmacros.h> takes a number apart.
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
    let size = contents("/sys/dev/char/\(major):\(minor)/size")
    return Int(size.filter { $0 != "\n" }).flatMap { $0 > 0 ? $0 : nil }
  }

  private static func contents(_ path: String) -> String {
    guard let file = fopen(path, "re") else { return "" }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      if count == 0 { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
