import ArgumentParser
import Daemon

/// Compiles monitors, by another program: this one has no LLVM in it.
struct Compile: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compile monitors for the kernel of a host, and run one there or keep their code.", helpNames: [])

  @Argument(parsing: .captureForPassthrough, help: "Its arguments; `grassd compile --help` lists them.")
  var arguments: [String] = []

  func run() throws { try Compiler.become(arguments) }
}
