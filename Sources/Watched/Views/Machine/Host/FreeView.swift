public import LinuxKernel
public import Views

/// Memory in use, as free(1) shows it.
public struct FreeView: KernelView {
  public static let name = "free"
  public static let group = ViewGroup.memory
  public static let summary = "Shows how much memory is free, used, and used for caches."
  public static let discussion = """
    In KiB, as free(1): used is what is not available; buff/cache is Buffers, Cached and SReclaimable of \
    /proc/meminfo. `grassctl info` has the single lines.
    """

  /// Memory or swap space, in KiB.
  public struct Row: Sendable {
    public var memory: [(name: String, kibibytes: UInt64)]
    public var swap: [(name: String, kibibytes: UInt64)]

    init(_ info: MemoryInfo) {
      func kibibytes(_ name: String) -> UInt64 { (info[name] ?? 0) / 1024 }
      let (total, available) = (kibibytes("MemTotal"), kibibytes("MemAvailable"))
      let (swap, swapFree) = (kibibytes("SwapTotal"), kibibytes("SwapFree"))
      memory = [
        ("total", total), ("used", total - min(total, available)), ("free", kibibytes("MemFree")),
        ("shared", kibibytes("Shmem")),
        ("buff/cache", kibibytes("Buffers") &+ kibibytes("Cached") &+ kibibytes("SReclaimable")),
        ("available", available),
      ]
      self.swap = [("total", swap), ("used", swap - min(swap, swapFree)), ("free", swapFree)]
    }
  }

  public static func columns(_ options: NoOptions) -> [ViewColumn<Row>] {
    [
      ViewColumn(json: "mem", in: .kibibytes) { ViewValue.object($0.memory.map { .init($0.name, $0.kibibytes) }) }
        .with("total", "used", "free", "shared", "buff/cache", "available", in: .kibibytes),
      ViewColumn(json: "swap", in: .kibibytes) { ViewValue.object($0.swap.map { .init($0.name, $0.kibibytes) }) }
        .with("total", "used", "free", in: .kibibytes),
    ]
  }

  public static func text(_ rows: [Row], _ options: NoOptions) -> String? {
    guard let row = rows.first else { return "" }
    // As wide as free(1) makes them.
    func padded(_ name: String) -> String { String(repeating: " ", count: max(0, 11 - name.count)) + name }
    var table = Table([("", .left)] + row.memory.map { (padded($0.name), .right) })
    table.add(["Mem:"] + row.memory.map { "\($0.kibibytes)" })
    table.add(["Swap:"] + row.swap.map { "\($0.kibibytes)" } + ["", "", ""])
    return table.text()
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Row> {
    let (info, fault) = try kernel.memoryInfo()
    return ViewRows([Row(info)], shortcomings: fault.map { ["\($0)"] } ?? [])
  }
}
