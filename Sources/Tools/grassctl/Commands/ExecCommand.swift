import ArgumentParser
import Glibc
import KernelViews
import Output
import Shadow
import ShadowExec

/// Runs a program of this machine that sees the watched host in the place of its own.
struct ExecCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec", abstract: "Runs a program of this machine as if it ran on the host.",
    discussion: """
      ps, top, lsof, ss, df: whatever looks at its host through /proc, /sys and system calls sees the watched host instead, \
      and needs no change. It runs in namespaces of its own, and nothing that it does reaches the host. What it asks and nobody \
      can answer fails, and standard error says so; what it does to the host's processes, a signal to one among that, is \
      refused. Files on disk are this machine's. The exit status is the program's; 126 or 127 where it could not be run.
      """)

  @OptionGroup var source: SourceOptions

  @Argument(parsing: .postTerminator, help: "The program, and what it is told, after --.")
  var command: [String]

  func validate() throws {
    if command.isEmpty { throw ValidationError("Say what to run: grassctl exec … -- ps aux") }
  }

  func run() throws {
    // What the terminal sends is for the program: this one ends after it.
    for number in [SIGINT, SIGQUIT, SIGPIPE] { signal(number, SIG_IGN) }
    let kernel = try source.openKernel()
    let program = ShadowProgram(command: command, hiddenModules: kernel.hiddenForShadow) { text in
      writeNote("exec: \(text)")
    }
    let status: Int32
    do {
      status = try program.run(on: kernel, source: source.host ?? source.memory ?? "grass")
    } catch let error as SandboxError {
      writeNote("\(error)")
      throw ExitCode(error.code == ENOENT ? 127 : 126)
    } catch {
      return try reporting { throw error }
    }
    // As shells say it: 128 and the number of the signal that ended it.
    let code = status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
    if code != 0 { throw ExitCode(code) }
  }
}
