import ArgumentParser
import Daemon
import LinuxKernel

/// Looks at the host for a grassd that serves it, which says when: detectors that go astray end this process, and not that one.
struct Look: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Ask all detectors about a host, for another grassd.", shouldDisplay: false)

  @Option var memory: String
  @Option var known: String?
  @Flag var noKnown = false

  func run() throws {
    try Looker(memory: memory, known: noKnown ? nil : known.map { BuildFolder(path: $0) } ?? .standard()).run()
  }
}
