import ArgumentParser
import KernelViews
import Output

/// Prints hooks of some kinds: shared by the commands that look at them.
private func printHooks(
  _ kinds: Set<Hook.Kind>, _ source: SourceOptions, _ output: OutputOptions, isWanted: (Hook) -> Bool = { _ in true }
) throws {
  let kernel = try source.openKernel()
  let table = try reporting { try kernel.hooks(kinds) }
  let hooks = table.hooks.filter(isWanted)
  if output.json {
    writeOutput(
      JSON.lines(
        hooks.map { hook in
          .object([
            ("kind", .string(hook.kind.rawValue)), ("name", .string(hook.name)),
            ("netns", hook.namespace.map { .unsigned($0) } ?? .null),
            ("function", .string("\(hook.code.address)")),
            ("symbol", hook.code.symbol.map { .string($0) } ?? .null), ("owner", .string(hook.code.ownerName)),
            ("target", hook.target.map { .string("\($0.address)") } ?? .null),
            ("target_symbol", hook.target?.symbol.map { .string($0) } ?? .null),
          ])
        }))
  } else {
    var text = Table([
      ("KIND", .left), ("NAME", .left), ("NETNS", .right), ("FUNCTION", .left), ("OWNER", .left), ("SYMBOL", .left),
      ("TARGET", .left),
    ])
    for hook in hooks {
      text.add([
        hook.kind.rawValue, Array(hook.name.utf8).printable, hook.namespace.map { "\($0)" } ?? "",
        "\(hook.code.address)", hook.code.ownerName, hook.code.symbol ?? "",
        hook.target.map { $0.symbol ?? "\($0.address)" } ?? "",
      ])
    }
    writeOutput(text.text())
  }
  try reportFaults(table.faults)
}

extension CodePlace {
  /// `kernel`, the module's name in brackets, or `?` for code that belongs to neither.
  var ownerName: String {
    switch owner {
    case .kernel: "kernel"
    case .module(let name): "[\(name.printable)]"
    case .unknown: "?"
    }
  }
}

struct Hooks: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks what system calls and interrupts lead to: lists entries outside the kernel's own text.",
    discussion: """
      OWNER is kernel, a module in brackets, or ? for code that belongs to neither. Recent kernels dispatch system calls \
      by code and keep the table for tracing.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(help: "List every entry, also those that lead where they should.")
  var all = false

  func run() throws {
    try printHooks([.systemCall, .interrupt], source, output) { all || $0.code.owner != .kernel }
  }
}

struct Netfilter: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the functions that netfilter calls for packets, in every network namespace.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try printHooks([.netfilter], source, output) }
}

struct FTrace: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ftrace", abstract: "Lists the functions that ftrace calls when traced functions start.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try printHooks([.ftrace], source, output) }
}

struct KProbes: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kprobes", abstract: "Lists the kernel's probes: where they lie and what they call.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try printHooks([.kprobe], source, output) }
}

struct Tracepoints: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the tracepoints that are in use, and what they call.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try printHooks([.tracepoint], source, output) }
}
