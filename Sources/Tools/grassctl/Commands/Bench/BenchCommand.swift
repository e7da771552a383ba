import ArgumentParser

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Takes the time of what goes over a link.",
    discussion: """
      Each figure is taken in GRASS's own sequence (one write carries request and flag, one read fetches flag and result, \
      nothing is cleared) and in that of Kanamoto and Kourai's paper (request, flag, polling of the other flag, result, \
      clearing; a heartbeat: flag, polling, clearing), over connections of the same kind to the same monitor, in turn. Give several \
      monitors with --host to compare links, or regions in different memory.
      """,
    subcommands: [BenchHeartbeat.self, BenchRequest.self, BenchResult.self, BenchCompare.self, BenchSoak.self])
}
