import ArgumentParser
import KernelViews
import Output

struct BPF: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bpf", abstract: "Lists the BPF programs and maps that are loaded.",
    discussion: "TYPE is the number of enum bpf_prog_type or bpf_map_type (`grassctl types bpf_prog`).")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let bpf = try reporting { try kernel.bpf() }
    if output.json {
      writeOutput(
        JSON.lines(
          bpf.programs.map { program in
            .object([
              ("kind", .string("prog")), ("id", .integer(program.id)), ("type", .integer(program.type)),
              ("name", .bytes(program.name)), ("tag", .string(Self.hex(program.tag))),
              ("instructions", .integer(program.instructions)), ("load_time_ns", .unsigned(program.loadTime)),
              ("function", .string("\(program.function)")), ("bpf_prog", .string("\(program.address)")),
            ])
          }
            + bpf.maps.map { map in
              .object([
                ("kind", .string("map")), ("id", .integer(map.id)), ("type", .integer(map.type)),
                ("name", .bytes(map.name)), ("key_size", .integer(map.keySize)),
                ("value_size", .integer(map.valueSize)), ("max_entries", .integer(map.mostEntries)),
                ("bpf_map", .string("\(map.address)")),
              ])
            }))
    } else {
      var table = Table([
        ("KIND", .left), ("ID", .right), ("TYPE", .right), ("NAME", .left), ("TAG", .left), ("SIZE", .left),
      ])
      for program in bpf.programs {
        table.add([
          "prog", "\(program.id)", "\(program.type)", program.name.printable, Self.hex(program.tag),
          "\(program.instructions) instructions",
        ])
      }
      for map in bpf.maps {
        table.add([
          "map", "\(map.id)", "\(map.type)", map.name.printable, "",
          "\(map.mostEntries) of \(map.keySize)+\(map.valueSize) bytes",
        ])
      }
      writeOutput(table.text())
    }
    try reportFaults(bpf.faults)
  }

  private static func hex(_ bytes: [UInt8]) -> String { bytes.map { TextPiece.hex($0) }.joined() }
}
