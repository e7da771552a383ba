import ArgumentParser
import Host
import KernelViews

@main
struct GrassCtl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grassctl",
    abstract: "Looks into a Linux host from outside, alive or dead.",
    discussion: """
      Each command takes a live host (--host URL, as printed by grassd) or a memory image (--memory FILE: a guest's \
      shared RAM, a raw image, an ELF core or LiME).

      \(ExitStatus.help)
      """,
    version: "grassctl \(Version.current)",
    groupedSubcommands: [
      CommandGroup(
        name: "Finding",
        subcommands: [CheckCommand.self, WatchCommand.self, LastWordsCommand.self, DetectorsCommand.self]),
      CommandGroup(name: "Tools", subcommands: [ExecCommand.self]),
      CommandGroup(name: "Device", subcommands: device),
      CommandGroup(name: "Keys", subcommands: [KeyCommand.self]),
    ]
      + ViewGroup.allCases.map { group in
        CommandGroup(
          name: group.rawValue,
          subcommands: KernelViews.all.filter { $0.group == group }.map { $0.command } + (others[group] ?? []))
      })

  static func main() {
    do {
      var command = try parseAsRoot()
      defer { OpenedImages.sayWhatMoved() }
      try command.run()
    } catch {
      exit(withError: error)
    }
  }

  /// What a device is asked, and how fast it answers.
  ///
  /// Each command says its name: for one that leaves that to its type, every start of grassctl pays a million instructions.
  private static let device: [any ParsableCommand.Type] = [
    Heartbeat.self, BeaconCommand.self, Life.self, Cpu.self, MemoryCommand.self, PanicCommand.self, Run.self,
    BenchCommand.self, RelayCommand.self,
  ]

  /// The commands about a kernel that are no view.
  private static let others: [ViewGroup: [any ParsableCommand.Type]] = [
    .expert: [
      Read.self, Strings.self, DumpCommand.self, StoreCommand.self, SymbolsCommand.self, BuildsCommand.self,
      Reference.self,
    ]
  ]
}
