public import LinuxKernel
public import Views

/// The counters of memory management, as /proc/vmstat and /proc/zoneinfo show them.
public struct VMStatView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(help: "Show the zones of each NUMA node.") public var zones = false
    public init() {}
  }

  /// All counters, or a zone.
  public enum Row: Sendable {
    case counters([(name: String, value: UInt64)])
    case zone(MemoryZone)

    fileprivate var zone: MemoryZone? { if case .zone(let zone) = self { zone } else { nil } }
    fileprivate var counters: [(name: String, value: UInt64)] {
      if case .counters(let counters) = self { counters } else { [] }
    }
  }

  public static let name = "vmstat"
  public static let group = ViewGroup.memory
  public static let summary = "Shows the counters of memory management, or its zones."
  public static let discussion = """
    Names and numbers are those of /proc/vmstat; with --zones those of /proc/zoneinfo, in pages of 4 KiB. Counters that \
    the kernel works out only when asked (nr_dirty_threshold and the like) are left out.
    """

  public static func columns(_ options: Options) -> [ViewColumn<Row>] {
    guard options.zones else { return [ViewColumn(jsonMembers: { members($0.counters) })] }
    func pages(_ heading: String, _ key: String, _ value: @escaping @Sendable (MemoryZone) -> UInt64) -> ViewColumn<Row>
    {
      ViewColumn(heading, key, in: .pages) { $0.zone.map(value) }
    }
    return [
      ViewColumn("NODE", "node") { $0.zone?.node }.identity, ViewColumn("ZONE", "zone") { $0.zone?.name }.identity,
      pages("FREE", "free", \.free), pages("MIN", "min", \.minimum), pages("LOW", "low", \.low),
      pages("HIGH", "high", \.high), pages("SPANNED", "spanned", \.spanned), pages("PRESENT", "present", \.present),
      pages("MANAGED", "managed", \.managed), pages("START-PFN", "start_pfn", \.start),
      ViewColumn(json: "counters", in: .pages) { ViewValue.object(members($0.zone?.counters ?? [])) }
        .with("*", in: .pages),
    ]
  }

  private static func members(_ counters: [(name: String, value: UInt64)]) -> [ViewValue.Member] {
    counters.map { .init($0.name, $0.value) }
  }

  public static func text(_ rows: [Row], _ options: Options) -> String? {
    options.zones
      ? nil : rows.flatMap(\.counters).map { "\(Array($0.name.utf8).printable) \($0.value)\n" }.joined()
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[], [("zones", "yes")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    let statistics = try kernel.vmStatistics()
    return ViewRows(
      options.zones ? statistics.zones.map { .zone($0) } : [.counters(statistics.counters)], faults: statistics.faults)
  }
}
