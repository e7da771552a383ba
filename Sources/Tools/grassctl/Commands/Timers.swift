import ArgumentParser
import KernelViews
import Output

struct Timers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the timers that are armed on each CPU: what they call, when, and for whom.",
    discussion: """
      EXPIRES is in seconds from the kernel's last tick. A queue is a wheel (0: a CPU's own timers; with three, 1: those that any \
      CPU may run; the last: those that an idle CPU need not wake for) or the clock of a high-resolution timer. For a \
      delayed work, FOR is its function.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.timers() }
    if output.json {
      writeOutput(
        JSON.lines(
          table.timers.map { timer in
            .object([
              ("cpu", .integer(timer.cpu)), ("queue", .string(Self.name(timer.queue))),
              ("expires_in_ns", .signed(timer.expiresIn)), ("expires", .unsigned(timer.expires)),
              ("function", .string("\(timer.function.address)")),
              ("symbol", timer.function.symbol.map { .string($0) } ?? .null),
              ("owner", .string(timer.function.ownerName)), ("tid", timer.tid.map { .integer($0) } ?? .null),
              ("comm", timer.tid == nil ? .null : .bytes(timer.comm)),
              ("work", timer.work.map { .string($0.symbol ?? "\($0.address)") } ?? .null),
              ("address", .string("\(timer.address)")),
            ])
          }))
    } else {
      var text = Table([
        ("CPU", .right), ("QUEUE", .left), ("EXPIRES", .right), ("OWNER", .left), ("FUNCTION", .left), ("FOR", .left),
      ])
      for timer in table.timers {
        text.add([
          "\(timer.cpu)", Self.name(timer.queue), Self.seconds(timer.expiresIn), timer.function.ownerName,
          timer.function.symbol ?? "\(timer.function.address)",
          timer.work.map { $0.symbol ?? "\($0.address)" } ?? timer.tid.map { "\($0) \(timer.comm.printable)" } ?? "",
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  /// With six decimals.
  private static func seconds(_ nanoseconds: Int64) -> String {
    let all = nanoseconds.magnitude / 1000
    let digits = "\(all % 1_000_000)"
    let padding = String(repeating: "0", count: 6 - digits.count)
    return "\(nanoseconds < 0 ? "-" : "")\(all / 1_000_000).\(padding)\(digits)"
  }

  private static func name(_ queue: KernelTimer.Queue) -> String {
    switch queue {
    case .wheel(let number): "wheel-\(number)"
    case .clock(let name): name
    }
  }
}
