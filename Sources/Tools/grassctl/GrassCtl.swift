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
    Heartbeat.self, Ps.self, Dmesg.self, Info.self, Beacon.self, Cpu.self, MemoryCommand.self,
    PanicCommand.self, Run.self, BenchCommand.self,
    Sym.self, Types.self, Read.self,
    Free.self, VMStat.self, SlabTop.self, PSI.self, Top.self, Interrupts.self, SS.self, IP.self,
    Mount.self, Maps.self, LsOf.self, Files.self, Timers.self, WorkQueues.self, Locks.self,
    Stack.self, LsNs.self, CGroups.self,
    Hooks.self, Netfilter.self, FTrace.self, KProbes.self, Tracepoints.self, BPF.self, SearchCommand.self,
    Strings.self,
  ]
}
