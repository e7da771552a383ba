import ArgumentParser
import Fleet
import Host

/// The service that watches a fleet of hosts.
@main struct GrassFleet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grass-fleet", abstract: "Watches a fleet of hosts by their devices, and tells people and programs.",
    version: "grass-fleet \(Version.current)",
    subcommands: [RunCommand.self, CheckConfiguration.self, PasswordCommand.self])
}
