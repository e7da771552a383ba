import ArgumentParser
import Glibc
import Output
import Records
import Remote

struct Life: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "life",
    abstract: "Tells whether the watched kernel lives, by two looks at its clock and its schedulers.",
    discussion: """
      Runs the monitor life, which grassd must have (its --monitors), twice, --interval apart. The kernel is alive \
      where its ticks or its schedulers moved; a CPU is stuck where it has a task and had neither a tick nor a switch. \
      Where nothing moved at all, it looks on for --patience: an idle kernel may do without ticks for some seconds. A \
      panic is told at once. Exits with 0 if the kernel is alive, 4 if it or some of its CPUs are dead, 2 if the monitor \
      did not answer.
      """)

  @OptionGroup var monitor: MonitorOptions

  @Option(name: .shortAndLong, help: "Seconds between the two looks.")
  var interval: Double = 1

  @Option(name: .shortAndLong, help: "Seconds without any sign of life after which the kernel counts as dead.")
  var patience: Double = 10

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if !(interval > 0 && interval < 3600) { throw ValidationError("--interval takes seconds, more than 0.") }
    if !(patience >= 0 && patience < 86400) { throw ValidationError("--patience takes seconds, from 0 on.") }
  }

  func run() throws {
    let session = try monitor.connect()
    let start = ContinuousClock.now
    let first = try look(session)
    var last = first
    var verdict = first.verdict(since: first)
    while verdict == .still {
      usleep(UInt32(interval * 1e6))
      last = try look(session)
      verdict = last.verdict(since: first)
      if ContinuousClock.now - start >= .seconds(patience) { break }
    }
    let seconds = Double(Heartbeat.microseconds(ContinuousClock.now - start)) / 1e6
    if output.json {
      writeOutput(
        JSON.lines([
          .object(
            [("verdict", .string(Self.name(of: verdict))), ("seconds", .number(seconds))]
              + (Self.stuck(verdict).map { [("stuck", .array($0.map { .integer($0) }))] } ?? [])
              + [("before", .object(first.members)), ("now", .object(last.members))])
        ]))
    } else {
      writeOutput(Self.text(of: verdict, from: first, to: last, seconds: seconds))
    }
    if verdict != .alive { throw ExitStatus.dead }
  }

  private func look(_ session: Session) throws -> LifeSigns {
    let (signs, isPartial) = try session.look(as: LifeSigns.self)
    // Of half the CPUs nothing can be said.
    if isPartial { throw ExitStatus.unreadable }
    return signs
  }

  private static func stuck(_ verdict: LifeSigns.Verdict) -> [Int]? {
    if case .stuck(let cpus) = verdict { cpus } else { nil }
  }

  private static func name(of verdict: LifeSigns.Verdict) -> String {
    switch verdict {
    case .alive: "alive"
    case .stuck: "stuck"
    case .still: "still"
    case .panicked: "panic"
    }
  }

  private static func text(
    of verdict: LifeSigns.Verdict, from first: LifeSigns, to last: LifeSigns, seconds: Double
  ) -> String {
    let time = Heartbeat.tenths(seconds)
    let moved = "\(last.jiffies &- first.jiffies) ticks in \(time) s"
    return switch verdict {
    case .alive: "alive: \(moved)\n"
    case .stuck(let cpus):
      "STUCK: \(moved), but none and no switch on CPU \(cpus.map { "\($0)" }.joined(separator: ", ")), which has a task\n"
    case .still: "STILL: no tick and no switch on any CPU in \(time) s\n"
    case .panicked(let cpu): "PANIC on CPU \(cpu)\n"
    }
  }
}
