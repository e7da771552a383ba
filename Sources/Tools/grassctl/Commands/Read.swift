import ArgumentParser
import KernelInfo
import KernelViews
import Memory
import Output
import Paging

struct Read: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "read", abstract: "Reads memory: as a dump of bytes, or as a value of one of the kernel's types.",
    discussion: """
      grassctl read ADDRESS [--count N]         N bytes as hexdump -C prints them
      grassctl read TYPE ADDRESS [PATH]         a value: read task_struct init_task .comm

      An address is a symbol (init_task), a symbol with an offset (init_task+0x10), or a number (0xffff888000001000). A \
      path is written as in C and starts with a dot (.files->fdt->fd[2]); pointers on the way are followed. Bytes that cannot be read are shown \
      as ??, and the exit status is then 1.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Argument(help: ArgumentHelp("[TYPE] ADDRESS [PATH].", valueName: "what"))
  var words: [String]

  @Option(name: [.customShort("n"), .long], help: "How many bytes to dump.")
  var count = 256

  @Flag(help: "The address is a physical one.")
  var physical = false

  @Flag(help: "Write the bytes themselves, not a dump; bytes that cannot be read become zeros.")
  var raw = false

  func validate() throws {
    if !(1...1 << 28).contains(count) { throw ValidationError("--count takes 1 to 268435456 bytes.") }
    if words.count > 3 { throw ValidationError("Give ADDRESS, or TYPE ADDRESS [PATH].") }
    if words.count > 1, physical { throw ValidationError("--physical dumps bytes: give only an address.") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    let map = try reporting { try kernel.symbolMap() }
    func address(_ text: String) throws -> VirtualAddress {
      guard let address = map.address(text) else {
        throw ValidationError("'\(text)' is no symbol of this kernel and no address.")
      }
      return address
    }
    if words.count == 1 {
      try dump(kernel, try address(words[0]))
      return
    }
    let start = try address(words[1])
    let value = try reporting {
      try kernel.value(of: words[0], at: start, path: words.count > 2 ? words[2] : "")
    }
    if output.json {
      writeOutput(
        JSON.lines([
          .object([
            ("address", .string("\(value.address)")), ("type", .string(value.type.declaration())),
            ("value", Self.json(value.value)),
          ])
        ]))
    } else {
      var text = ""
      write(value.value, map, indent: "", to: &text)
      writeOutput(text + "\n")
    }
  }

  // MARK: Bytes

  private func dump(_ kernel: Kernel, _ start: VirtualAddress) throws {
    // Page by page, so that one that is missing loses no other.
    var pieces: [(address: UInt64, count: Int)] = []
    var done = 0
    while done < count {
      let address = start.rawValue &+ UInt64(done)
      let size = min(count - done, 4096 - Int(address & 4095))
      pieces.append((address, size))
      done += size
    }
    var bytes: [UInt8?] = []
    var faults: [MemoryFault] = []
    // In windows, as a large dump is not to lie here as a whole three times.
    for window in stride(from: 0, to: pieces.count, by: 1024).map({ pieces[$0..<min($0 + 1024, pieces.count)] }) {
      for result in read(window, kernel) {
        switch result {
        case .success(let part): bytes += part.map { $0 }
        case .failure(let failure):
          bytes += [UInt8?](repeating: nil, count: failure.size)
          faults.append(failure.fault)
        }
      }
    }
    if raw {
      writeOutput(bytes.map { $0 ?? 0 })
    } else if output.json {
      let text = bytes.map { $0.map(TextPiece.hex) ?? "??" }.joined()
      writeOutput(
        JSON.lines([
          .object([("address", .string("\(start)")), ("count", .integer(count)), ("bytes", .string(text))])
        ]))
    } else {
      writeOutput(Self.hexdump(bytes, from: start.rawValue))
    }
    for fault in faults.prefix(4) { writeNote("\(fault)") }
    if faults.count > 4 { writeNote("and \(faults.count - 4) more pages cannot be read") }
    if !faults.isEmpty { throw ExitStatus.partial }
  }

  private struct Failure: Error {
    let fault: MemoryFault
    let size: Int
  }

  private func read(
    _ pieces: ArraySlice<(address: UInt64, count: Int)>, _ kernel: Kernel
  ) -> [Result<[UInt8], Failure>] {
    func collect<Address>(_ batch: borrowing ReadBatch<Address>) -> [Result<[UInt8], Failure>] {
      pieces.enumerated().map { index, piece in
        do throws(MemoryFault) {
          return .success(try batch.reader(index).copy())
        } catch {
          return .failure(Failure(fault: error, size: piece.count))
        }
      }
    }
    if physical {
      var batch = ReadBatch<PhysicalAddress>()
      for piece in pieces { batch.add(PhysicalAddress(piece.address), count: piece.count) }
      kernel.memory.read(&batch)
      return collect(batch)
    }
    var batch = ReadBatch<VirtualAddress>()
    for piece in pieces { batch.add(VirtualAddress(piece.address), count: piece.count) }
    kernel.addressSpace.read(&batch)
    return collect(batch)
  }

  /// Sixteen bytes a line: address, bytes in two groups of eight, and what of them is text.
  static func hexdump(_ bytes: [UInt8?], from start: UInt64) -> [UInt8] {
    var text: [UInt8] = []
    for line in stride(from: 0, to: bytes.count, by: 16) {
      let row = bytes[line..<min(line + 16, bytes.count)]
      let digits = String(start &+ UInt64(line), radix: 16)
      var hex = String(repeating: "0", count: 16 - digits.count) + digits + " "
      for place in 0..<16 {
        hex += place % 8 == 0 ? " " : ""
        hex += place < row.count ? (row[line + place].map(TextPiece.hex) ?? "??") + " " : "   "
      }
      text += Array((hex + " |").utf8)
      text += row.map { $0.map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: ".") } ?? UInt8(ascii: "?") }
      text += Array("|\n".utf8)
    }
    return text
  }

  // MARK: Values

  private func write(_ value: TypedValue, _ map: SymbolMap, indent: String, to text: inout String) {
    switch value {
    case .signed(let number): text += "\(number)"
    case .unsigned(let number): text += number > 1 << 32 ? "0x\(String(number, radix: 16))" : "\(number)"
    case .boolean(let value): text += "\(value)"
    case .enumerator(let name, let number): text += name.map { Array($0.utf8).printable } ?? "\(number)"
    case .pointer(let address):
      text += "\(address)"
      if let place = map.place(of: address) { text += " <\(Array(place.description.utf8).printable)>" }
    case .text(let bytes): text += "\"\(bytes.printable)\""
    case .bytes(let bytes): text += bytes.isEmpty ? "…" : bytes.map(TextPiece.hex).joined(separator: " ")
    case .array(let elements):
      if elements.allSatisfy(\.isNumber) {
        text += "{"
        for (index, element) in elements.enumerated() {
          if index > 0 { text += ", " }
          write(element, map, indent: indent, to: &text)
        }
        text += "}"
      } else {
        text += "{\n"
        for (index, element) in elements.enumerated() {
          text += "\(indent)\t[\(index)] = "
          write(element, map, indent: indent + "\t", to: &text)
          text += ",\n"
        }
        text += "\(indent)}"
      }
    case .structure(let fields):
      text += "{\n"
      for field in fields {
        text += "\(indent)\t" + (field.name.isEmpty ? "" : ".\(Array(field.name.utf8).printable) = ")
        write(field.value, map, indent: indent + "\t", to: &text)
        text += ",\n"
      }
      text += "\(indent)}"
    }
  }

  private static func json(_ value: TypedValue) -> JSON {
    switch value {
    case .signed(let number): .signed(number)
    case .unsigned(let number): .unsigned(number)
    case .boolean(let value): .bool(value)
    case .enumerator(let name, let number): name.map { .string($0) } ?? .signed(number)
    case .pointer(let address): .string("\(address)")
    case .text(let bytes): .bytes(bytes)
    case .bytes(let bytes): .string(bytes.map(TextPiece.hex).joined())
    case .array(let elements): .array(elements.map(json))
    case .structure(let fields):
      .object(
        fields.flatMap { field -> [(String, JSON)] in
          // The fields of an anonymous struct belong to the one around it, as in C.
          if field.name.isEmpty, case .object(let inner) = json(field.value) { return inner }
          return [(field.name, json(field.value))]
        })
    }
  }
}

extension TypedValue {
  fileprivate var isNumber: Bool {
    switch self {
    case .signed, .unsigned, .boolean, .enumerator: true
    default: false
    }
  }
}
