import ArgumentParser
import Host

/// The monitored side.
@main
struct GrassD: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grassd",
    abstract: "Watch a host's memory from outside it, and serve remote hosts.",
    version: "grassd \(Version.current)",
    subcommands: [Serve.self, Compile.self, Devices.self, Look.self],
    defaultSubcommand: Serve.self)
}
