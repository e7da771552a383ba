import ArgumentParser
import Glibc
import KernelViews
import Output

/// Writes a kernel's types and symbols for other programs.
struct SymbolsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "symbols", abstract: "Writes the kernel's types and symbols for Volatility.",
    discussion: """
      A symbol table in Volatility's intermediate symbol format (ISF), made of the types (BTF) and symbols (kallsyms) that the kernel itself has in \
      memory: no debug package is needed, and any build serves. Put it as NAME.json into a folder linux/ below one that Volatility is told of \
      (vol -s FOLDER). One file serves all boots of a build. BTF has no types of most variables: those that Volatility asks for are declared as the \
      kernel declares them.
      """)

  @OptionGroup var source: SourceOptions

  @Option(
    name: .shortAndLong, help: ArgumentHelp("Where to write it, which must not be there yet.", valueName: "file"))
  var output: String?

  func run() throws {
    let kernel = try source.openKernel()
    var symbols = IntermediateSymbols(of: kernel)
    let bytes = try reporting { try symbols.bytes() }
    guard let output else { return writeOutput(bytes) }
    try write(bytes, to: output)
  }
}
