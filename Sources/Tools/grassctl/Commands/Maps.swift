import ArgumentParser
import KernelViews
import Memory
import Output

struct Maps: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists what a process has mapped, as /proc/PID/maps does.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Argument(help: "The process.")
  var pid: Int32

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.mappings(ofProcess: pid) }
    if output.json {
      writeOutput(JSON.lines(table.mappings.map(Self.json)))
    } else {
      var text = Table([
        ("START", .right), ("END", .right), ("PERM", .left), ("OFFSET", .right), ("DEVICE", .left), ("INODE", .right),
        ("NAME", .left),
      ])
      for mapping in table.mappings {
        text.add([
          String(mapping.range.lowerBound.rawValue, radix: 16), String(mapping.range.upperBound.rawValue, radix: 16),
          mapping.permissions, String(mapping.offset, radix: 16), "\(mapping.major):\(mapping.minor)",
          "\(mapping.inode)", mapping.name.printable,
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  private static func json(_ mapping: MemoryMapping) -> JSON {
    .object([
      ("start", .string("\(mapping.range.lowerBound)")), ("end", .string("\(mapping.range.upperBound)")),
      ("permissions", .string(mapping.permissions)), ("offset", .unsigned(mapping.offset)),
      ("device", .string("\(mapping.major):\(mapping.minor)")), ("inode", .unsigned(mapping.inode)),
      ("name", .bytes(mapping.name)),
    ])
  }
}
