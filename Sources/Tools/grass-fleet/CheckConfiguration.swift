import ArgumentParser
import Fleet

/// Says what is wrong with a configuration.
struct CheckConfiguration: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Says of each mistake in a configuration its file, line and key, and what to do.",
    discussion: "Exits with 0 where there is none, and with 1 where there are some. Connects to nobody.")

  @Argument(help: "The configuration, in YAML.")
  var file: String

  func run() throws {
    let (configuration, problems) = ConfigurationReader.read(contentsOf: file)
    for problem in problems { writeLine("\(problem)") }
    guard let configuration else { throw ExitCode(1) }
    let users =
      configuration.isOpen ? "no users, so only this machine is listened to" : "\(configuration.users.count) users"
    writeLine("\(file): \(configuration.hosts.count) hosts, \(users)")
  }
}
