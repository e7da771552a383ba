import ArgumentParser
import KernelViews
import Output

struct LsOf: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lsof", abstract: "Lists open files: paths, pipes, sockets, and what else has a descriptor.",
    discussion: "SIZE and the position (in JSON) are in bytes. A file without a name left is marked (deleted).")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Option(name: .shortAndLong, help: "Only this process.")
  var pid: Int32?

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.openFiles(ofProcess: pid) }
    if output.json {
      writeOutput(JSON.lines(table.files.map(Self.json)))
    } else {
      var text = Table([
        ("COMMAND", .left), ("PID", .right), ("FD", .right), ("MODE", .left), ("TYPE", .left), ("DEVICE", .left),
        ("SIZE", .right), ("NODE", .right), ("NAME", .left),
      ])
      for file in table.files {
        text.add([
          file.comm.printable, "\(file.pid)", "\(file.descriptor)", Self.access(file.flags), Self.kind(file.mode),
          "\(file.major):\(file.minor)", "\(file.size)", "\(file.inode)", file.name.display.printable,
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  /// `O_ACCMODE`: reading, writing, or both.
  private static func access(_ flags: UInt64) -> String { ["r", "w", "u", "-"][Int(flags & 3)] }

  /// The kind of file in `st_mode` (inode(7)); what is no file at all has none.
  private static func kind(_ mode: UInt64) -> String {
    let kinds: [UInt64: String] = [
      0o14: "sock", 0o12: "LINK", 0o10: "REG", 0o06: "BLK", 0o04: "DIR", 0o02: "CHR", 0o01: "FIFO",
    ]
    return kinds[mode >> 12 & 0o17] ?? "anon"
  }

  private static func json(_ file: OpenFile) -> JSON {
    .object([
      ("pid", .integer(file.pid)), ("comm", .bytes(file.comm)), ("fd", .integer(file.descriptor)),
      ("type", .string(kind(file.mode))), ("name", .bytes(file.name.display)), ("deleted", .bool(file.name.isDeleted)),
      ("device", .string("\(file.major):\(file.minor)")), ("inode", .unsigned(file.inode)),
      ("size", .signed(file.size)), ("links", .unsigned(file.links)), ("position", .signed(file.position)),
      ("flags", .unsigned(file.flags)),
    ])
  }
}
