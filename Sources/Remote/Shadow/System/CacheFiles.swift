import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The files of /sys/devices/system/cpu/cpuN/cache.
///
/// Source: drivers/base/cacheinfo.c.
enum CacheFiles {
  private struct Caches: KernelShape {
    static let type = "cpu_cacheinfo"
    let list = Field<VirtualAddress>("info_list"), count = Field<UInt32>("num_leaves")
  }

  private struct Cache: KernelShape {
    static let type = "cacheinfo"
    let number = Field<UInt32>("id"), kind = Field<UInt32>("type"), level = Field<UInt32>("level")
    let line = Field<UInt32>("coherency_line_size"), sets = Field<UInt32>("number_of_sets")
    let ways = Field<UInt32>("ways_of_associativity"), partitions = Field<UInt32>("physical_line_partition")
    let size = Field<UInt32>("size"), shared = Field<RawBytes>("shared_cpu_map")
    let attributes = Field<UInt32>("attributes")
  }

  /// More than any processor has.
  private static let most: UInt32 = 16

  static func entries(of cpu: PerCPU.CPU, _ kernel: Kernel) throws -> [ShadowNode.Entry] {
    guard let variable = kernel.symbols.address(of: "ci_cpu_cacheinfo") else { return [] }
    let own = try kernel.read(Caches.self, at: [cpu.address(of: variable)])[0]
    let (list, shape) = (try own.list, try kernel.bound(Cache.self))
    guard list.rawValue != 0 else { return [] }
    let places = (0..<Int(min(try own.count, most))).map { list + $0 * shape.size }
    let cpus = min(8192, Int(try kernel.number("nr_cpu_ids")))
    return try kernel.addressSpace.read(shape, at: places).map { cache in
      func file(_ name: String, _ text: String) -> ShadowNode.Entry {
        .init(name: name, node: .file { Array((text + "\n").utf8) })
      }
      // CACHE_TYPE_*: instructions, data, both.
      let kinds: [UInt32: String] = [1: "Instruction", 2: "Data", 4: "Unified"]
      var files = [
        file("level", "\(try cache.level)"),
        file("shared_cpu_map", ProcText.bitmap(try cache.shared.bytes.words, count: cpus)),
        file("shared_cpu_list", ProcText.list(try cache.shared.bytes.words, count: cpus)),
      ]
      // CACHE_ID.
      if try cache.attributes & 0x10 != 0 { files.append(file("id", "\(try cache.number)")) }
      if let kind = kinds[try cache.kind] { files.append(file("type", kind)) }
      let numbers: [(String, UInt32)] = [
        ("coherency_line_size", try cache.line), ("number_of_sets", try cache.sets),
        ("ways_of_associativity", try cache.ways), ("physical_line_partition", try cache.partitions),
      ]
      for (name, value) in numbers where value != 0 { files.append(file(name, "\(value)")) }
      if try cache.size != 0 { files.append(file("size", "\(try cache.size >> 10)K")) }
      return .init(name: "index\(cache.index)", node: .directory(files))
    }
  }
}
