import ArgumentParser
import Glibc
import LinkBench

struct BenchSoak: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak", abstract: "Very many heartbeats and requests: none may be lost, and memory may not grow.",
    discussion: """
      The monitor's own count of what it served must agree, so nobody else may ask it meanwhile. Memory counts as flat \
      where it grows by less than 2 MiB after the first tenth. Exits with 0 if all is well, 1 where counts or memory \
      are not, 2 if a request was not answered.
      """)

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Option(help: "How many heartbeats.")
  var heartbeats = 1_000_000

  @Option(help: "How many requests, half of them with results, of 8 bytes to 16 KiB.")
  var requests = 100_000

  @Option(help: "The process id of grassd, where it runs on this machine, to watch its memory too.")
  var daemon: Int32?

  @Option(help: "Seconds to wait for an answer.")
  var timeout: Double = 10

  private static let growthLimit = 2048

  func validate() throws {
    if heartbeats < 0 || requests < 0 || heartbeats + requests < 1 {
      throw ValidationError("--heartbeats and --requests take numbers from 0 on, not both 0.")
    }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func run() throws {
    let soak = Soak(
      heartbeats: heartbeats, requests: requests, processes: [getpid()] + (daemon.map { [$0] } ?? []))
    let outcome = try reporting {
      try soak.run(HostOptions.connect(host, timeout: timeout)) { writeNote($0) }
    }
    writeOutput(
      "\(host): \(heartbeats) heartbeats and \(requests) requests in \(Heartbeat.tenths(outcome.seconds)) s, \(outcome.answered) answered, \(outcome.served) served\n"
    )
    var isFlat = true
    for (index, name) in ["grassctl", "grassd"].prefix(soak.processes.count).enumerated() {
      guard let before = outcome.residentBefore[index], let after = outcome.residentAfter[index] else {
        writeNote("the memory of \(name) cannot be read")
        isFlat = false
        continue
      }
      writeOutput("\(name): \(before) KiB resident after the first tenth, \(after) KiB at the end\n")
      if after - before >= Self.growthLimit { isFlat = false }
    }
    if outcome.answered != heartbeats + requests || outcome.served != outcome.answered || !isFlat {
      throw ExitStatus.partial
    }
  }
}
