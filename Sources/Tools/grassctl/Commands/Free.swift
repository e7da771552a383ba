import ArgumentParser
import KernelViews
import Output

struct Free: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows how much memory is free, used, and used for caches.",
    discussion: """
      In KiB, as free(1): used is what is not available; buff/cache is Buffers, Cached and SReclaimable of \
      /proc/meminfo. `grassctl info` has the single lines.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let (memory, fault) = try reporting { try kernel.memoryInfo() }
    func kilobytes(_ name: String) -> UInt64 { (memory[name] ?? 0) / 1024 }
    let total = kilobytes("MemTotal")
    let available = kilobytes("MemAvailable")
    let cache = kilobytes("Buffers") &+ kilobytes("Cached") &+ kilobytes("SReclaimable")
    let (swap, swapFree) = (kilobytes("SwapTotal"), kilobytes("SwapFree"))
    let values: [(String, UInt64)] = [
      ("total", total), ("used", total - min(total, available)), ("free", kilobytes("MemFree")),
      ("shared", kilobytes("Shmem")), ("buff/cache", cache), ("available", available),
    ]
    let swapUsed = swap - min(swap, swapFree)
    if output.json {
      writeOutput(
        JSON.lines([
          .object([
            ("mem", .object(values.map { ($0.0, .unsigned($0.1)) })),
            (
              "swap",
              .object([("total", .unsigned(swap)), ("used", .unsigned(swapUsed)), ("free", .unsigned(swapFree))])
            ),
          ])
        ]))
    } else {
      var table = Table([("", .left)] + values.map { (Self.padded($0.0), .right) })
      table.add(["Mem:"] + values.map { "\($0.1)" })
      table.add(["Swap:", "\(swap)", "\(swapUsed)", "\(swapFree)", "", "", ""])
      writeOutput(table.text())
    }
    if let fault {
      writeNote("\(fault)")
      throw ExitStatus.partial
    }
  }

  private static func padded(_ name: String) -> String { String(repeating: " ", count: max(0, 11 - name.count)) + name }
}
