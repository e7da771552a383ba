import ArgumentParser
import Hosts
import Keys

/// Makes keys, and says whose are trusted.
struct KeyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "key", abstract: "Makes keys, shows them, and says whose are trusted.",
    discussion: """
      Your keys, and what you know of hosts, lie in ~/.config/grass ($GRASS_CONFIG, or grass in $XDG_CONFIG_HOME): id and id.pub, \
      known_hosts, and config, which names hosts, so that --host grass://NAME is one.
      """,
    subcommands: [
      New.self, Show.self, Trust.self, Certify.self, List.self, Add.self, Remove.self,
    ])

  /// A key on the command line, for help.
  static let keyHelp = "`grass-x25519 BASE64`, or a file that has it."

  /// What `known_hosts` has, and on standard error what of it does not count.
  static func knownHosts(_ folder: UserFolder) throws -> KnownHosts {
    let known = try KnownHosts(contentsOf: folder.knownHosts)
    for problem in known.problems { writeNote("\(problem)") }
    return known
  }
}
