import ArgumentParser
import KernelViews

struct LsMod: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lsmod", abstract: "Lists the kernel's loaded modules, the newest first.",
    discussion: "SIZE is in bytes, as in /proc/modules.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.modules() }
    if output.json {
      writeOutput(JSON.lines(table.modules.map(Self.json)))
    } else {
      var text = Table([("MODULE", .left), ("SIZE", .right), ("USED", .right), ("BY", .left)])
      for module in table.modules {
        text.add([
          module.name.printable, "\(module.size)", "\(module.references)",
          module.usedBy.map(\.printable).joined(separator: ","),
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  private static func json(_ module: KernelModule) -> JSON {
    .object([
      ("name", .bytes(module.name)), ("size", .unsigned(module.size)), ("refcount", .integer(module.references)),
      ("used_by", .array(module.usedBy.map { .bytes($0) })),
      ("state", module.state.map { .string($0.rawValue) } ?? .null), ("text", .string("\(module.text)")),
      ("text_size", .unsigned(module.textSize)), ("taints", .unsigned(module.taints)),
      ("module", .string("\(module.address)")),
    ])
  }
}
