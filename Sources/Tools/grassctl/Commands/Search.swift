import ArgumentParser
import KernelViews
import Memory
import Output

struct SearchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "search",
    abstract: "Finds bytes in physical memory, and says what they belong to.",
    discussion: """
      The owner is kernel-text or kernel-data with a symbol, slab with the cache's name, file with file system, inode \
      number and name, anon (memory of processes), free, reserved, or kernel for the rest.
      """)

  @Argument(help: "The text to find, or with --hex its bytes in hexadecimal.")
  var pattern: String

  @Flag(help: "The pattern is hexadecimal: 7f454c46.")
  var hex = false

  @Option(help: "Stop after this many.")
  var limit = 1000

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if bytes?.isEmpty ?? true { throw ValidationError("Give text to find, or with --hex pairs of hexadecimal digits.") }
    if limit < 1 { throw ValidationError("--limit takes a number from 1 on.") }
  }

  private var bytes: [UInt8]? {
    guard hex else { return Array(pattern.utf8) }
    let digits = Array(pattern.filter { $0 != " " })
    guard digits.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(digits[index...index + 1]), radix: 16) else { return nil }
      bytes.append(byte)
    }
    return bytes
  }

  func run() throws {
    let kernel = try source.openKernel()
    let found = try reporting { try kernel.search(bytes ?? [], limit: limit) }
    if output.json {
      writeOutput(
        JSON.lines(
          found.hits.map { hit in
            .object([("address", .string("\(hit.address)"))] + hit.owner.parts.map { ($0, .bytes($1)) })
          }))
    } else {
      var table = Table([("ADDRESS", .left), ("OWNER", .left)])
      for hit in found.hits {
        table.add(["\(hit.address)", hit.owner.parts.map { $0.1.printable }.joined(separator: " ")])
      }
      writeOutput(table.text())
    }
    if found.isCut { writeNote("there are more than \(limit): --limit shows them") }
    try reportFaults(found.faults)
  }
}

extension PageOwner {
  /// What the owner is, and what is known of it, by name.
  fileprivate var parts: [(String, [UInt8])] {
    func symbol(_ kind: String, _ name: String?) -> [(String, [UInt8])] {
      [("owner", Array(kind.utf8))] + (name.map { [("symbol", Array($0.utf8))] } ?? [])
    }
    func plain(_ kind: String) -> [(String, [UInt8])] { symbol(kind, nil) }
    switch self {
    case .kernelText(let name): return symbol("kernel-text", name)
    case .kernelData(let name): return symbol("kernel-data", name)
    case .slab(let cache): return plain("slab") + [("cache", cache)]
    case .file(let device, let inode, let name):
      return plain("file") + [("fs", device), ("inode", Array("\(inode)".utf8)), ("name", name)]
    case .anonymous: return plain("anon")
    case .free: return plain("free")
    case .reserved: return plain("reserved")
    case .kernel: return plain("kernel")
    case .unknown: return plain("unknown")
    }
  }
}

struct Strings: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the printable strings in physical memory, each with its address.")

  @Option(name: .shortAndLong, help: "The fewest characters.")
  var shortest = 8

  @Option(help: "Only strings that contain this text.")
  var containing: String?

  @OptionGroup var source: SourceOptions

  func validate() throws {
    if !(1...4096).contains(shortest) { throw ValidationError("--shortest takes 1 to 4096.") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var text: [UInt8] = []
    func write(_ address: PhysicalAddress, _ string: [UInt8]) -> Bool {
      text += Array("\(address) ".utf8) + string + [10]
      if text.count > 1 << 16 {
        writeOutput(text)
        text = []
      }
      return true
    }
    let faults =
      if let containing {
        kernel.forEachString(shortest: shortest, containing: Array(containing.utf8), write)
      } else {
        kernel.forEachString(shortest: shortest, write)
      }
    writeOutput(text)
    try reportFaults(faults)
  }
}
