import ArgumentParser
import KernelViews
import Memory
import Output

struct Sym: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sym", abstract: "Shows symbols: their addresses by name, or what lies at an address.",
    discussion: """
      A name prints its address, type and size; an address (0xffffffff81000010) prints the symbol that it belongs to and \
      the offset in it, as the kernel writes it: symbol+offset/size, and the module in brackets. Without arguments all \
      symbols are printed, as /proc/kallsyms has them.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Argument(help: ArgumentHelp("Symbols, symbols with an offset (schedule+0x10), or addresses.", valueName: "symbol"))
  var queries: [String] = []

  func run() throws {
    let kernel = try source.openKernel()
    let map = try reporting { try kernel.symbolMap() }
    if queries.isEmpty {
      try printAll(map)
      return
    }
    var places: [SymbolPlace] = []
    var missing = false
    for query in queries {
      let named = map.places(named: query)
      if !named.isEmpty {
        places += named
      } else if let address = map.address(query), let place = map.place(of: address) {
        places.append(place)
      } else {
        writeNote("\(Array(query.utf8).printable) is no symbol of this kernel, and no address that one belongs to")
        missing = true
      }
    }
    if output.json {
      writeOutput(JSON.lines(places.map(Self.json)))
    } else {
      for place in places {
        writeOutput(
          "\(Self.hex(place.address + Int(truncatingIfNeeded: place.offset))) \(place.type) "
            + "\(Array(place.description.utf8).printable)\n")
      }
    }
    if missing { throw ExitStatus.partial }
    try reportFaults(map.faults)
  }

  private func printAll(_ map: SymbolMap) throws {
    if output.json {
      writeOutput(JSON.lines(map.all.map(Self.json)))
      try reportFaults(map.faults)
      return
    }
    var text: [UInt8] = []
    for place in map.all {
      let module = place.module.map { "\t[\(Array($0.utf8).printable)]" } ?? ""
      text += Array("\(Self.hex(place.address)) \(place.type) \(Array(place.name.utf8).printable)\(module)\n".utf8)
    }
    writeOutput(text)
    try reportFaults(map.faults)
  }

  private static func hex(_ address: VirtualAddress) -> String {
    let digits = String(address.rawValue, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  private static func json(_ place: SymbolPlace) -> JSON {
    .object([
      ("name", .string(place.name)), ("type", .string(String(place.type))), ("address", .string("\(place.address)")),
      ("size", place.size.map { .unsigned($0) } ?? .null), ("offset", .unsigned(place.offset)),
      ("module", place.module.map { .string($0) } ?? .null),
    ])
  }
}
