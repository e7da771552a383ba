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
    subcommands: own + KernelViews.all.map { $0.command })

  /// The commands that are no view.
  private static let own: [any ParsableCommand.Type] = [
    Heartbeat.self, BeaconCommand.self, Life.self, Cpu.self, MemoryCommand.self, PanicCommand.self, Run.self,
    BenchCommand.self,
    Sym.self, Types.self, Read.self, Top.self, Strings.self,
  ]
}
