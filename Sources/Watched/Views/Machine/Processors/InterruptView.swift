public import LinuxKernel
public import Views

/// The interrupts, as /proc/interrupts shows them.
public struct InterruptView: KernelView {
  /// A line, and the CPUs that its counts belong to.
  public struct Row: Sendable {
    public let line: InterruptLine
    public let cpus: [Int]
  }

  public static let name = "interrupts"
  public static let group = ViewGroup.memory
  public static let summary = "Shows how often each interrupt came, by CPU, and who handles it."
  public static let discussion =
    "As /proc/interrupts. In JSON, handlers are addresses of functions (`grassctl sym ADDRESS`)."

  public static func columns(_ options: NoOptions) -> [ViewColumn<Row>] {
    [
      ViewColumn("IRQ", "irq") { $0.line.name }.rightAligned.identity,
      ViewColumn("COUNTS", "counts") { $0.line.counts }, ViewColumn(json: "cpus") { $0.cpus },
      ViewColumn("CHIP", "chip") { $0.line.chip }.identity,
      ViewColumn("HWIRQ", "hwirq") { $0.line.hardwareNumber }.shown(trigger),
      ViewColumn(json: "flow") { $0.line.flow },
      ViewColumn("HANDLERS", "actions") { $0.line.actions }.identity,
      ViewColumn(json: "handlers", in: .address) { $0.line.handlers },
    ]
  }

  private static func trigger(_ row: Row) -> String {
    let number = row.line.hardwareNumber.map { "\($0)" } ?? ""
    return row.line.flow.isEmpty ? number : "\(number)-\(row.line.flow.printable)"
  }

  /// A column for each CPU, as the kernel has it.
  public static func text(_ rows: [Row], _ options: NoOptions) -> String? {
    let cpus = rows.first?.cpus ?? []
    var table = Table(
      [("", .right)] + cpus.map { ("CPU\($0)", .right) } + [("CHIP", .left), ("HWIRQ", .left), ("HANDLERS", .left)])
    for row in rows {
      let counts = row.line.counts.map { "\($0)" }
      table.add(
        ["\(row.line.name):"] + counts + Array(repeating: "", count: max(0, cpus.count - counts.count))
          + [row.line.chip.printable, trigger(row), row.line.actions.map(\.printable).joined(separator: ", ")])
    }
    return table.text()
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Row> {
    let table = try kernel.interrupts()
    return ViewRows(table.lines.map { Row(line: $0, cpus: table.cpus) }, faults: table.faults)
  }
}
