import ArgumentParser
import Daemon
import ToolOptions

/// Looks at the host for a grassd that serves it, which says when: detectors that go astray end this process, and not that one.
struct Look: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Ask all detectors about a host, for another grassd.", shouldDisplay: false)

  @Option var memory: String
  @OptionGroup var known: KnownOptions
  @Option var allow: String?
  @Option var baseline: String?

  func run() throws {
    try Looker(memory: memory, known: known.folder, rules: allow, baseline: baseline).run()
  }
}
