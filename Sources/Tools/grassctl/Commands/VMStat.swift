import ArgumentParser
import KernelViews
import Output

struct VMStat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vmstat",
    abstract: "Shows the counters of memory management, or its zones.",
    discussion: """
      Names and numbers are those of /proc/vmstat; with --zones those of /proc/zoneinfo, in pages of 4 KiB. Counters that \
      the kernel works out only when asked (nr_dirty_threshold and the like) are left out.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(help: "Show the zones of each NUMA node.")
  var zones = false

  func run() throws {
    let kernel = try source.openKernel()
    let statistics = try reporting { try kernel.vmStatistics() }
    switch (zones, output.json) {
    case (false, false):
      writeOutput(statistics.counters.map { "\(Array($0.name.utf8).printable) \($0.value)\n" }.joined())
    case (false, true):
      writeOutput(JSON.lines([.object(statistics.counters.map { ($0.name, .unsigned($0.value)) })]))
    case (true, false): writeOutput(text(of: statistics.zones))
    case (true, true): writeOutput(JSON.lines(statistics.zones.map { json(of: $0) }))
    }
    try reportFaults(statistics.faults)
  }

  private func text(of zones: [MemoryZone]) -> String {
    let numbers = ["FREE", "MIN", "LOW", "HIGH", "SPANNED", "PRESENT", "MANAGED", "START-PFN"]
    var table = Table([("NODE", .right), ("ZONE", .left)] + numbers.map { ($0, .right) })
    for zone in zones {
      table.add(
        ["\(zone.node)", zone.name.printable]
          + [
            zone.free, zone.minimum, zone.low, zone.high, zone.spanned, zone.present, zone.managed, zone.start,
          ].map { "\($0)" })
    }
    return table.text()
  }

  private func json(of zone: MemoryZone) -> JSON {
    .object([
      ("node", .integer(zone.node)), ("zone", .bytes(zone.name)), ("free", .unsigned(zone.free)),
      ("min", .unsigned(zone.minimum)), ("low", .unsigned(zone.low)), ("high", .unsigned(zone.high)),
      ("spanned", .unsigned(zone.spanned)), ("present", .unsigned(zone.present)),
      ("managed", .unsigned(zone.managed)), ("start_pfn", .unsigned(zone.start)),
      ("counters", .object(zone.counters.map { ($0.name, .unsigned($0.value)) })),
    ])
  }
}
