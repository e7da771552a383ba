import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct SymbolTableTests {
  static let long = String(repeating: "very_long_name_", count: 20)

  static func sample(_ encoding: KallsymsDecoder.AddressEncoding = .absolutePerCPU) -> KallsymsWriter {
    var symbols: [(type: Character, name: String, address: UInt64)] = [
      ("T", "_text", 0xffff_ffff_9e20_0000),
      ("T", "_stext", 0xffff_ffff_9e20_0000),
      ("t", "show", 0xffff_ffff_9e20_0010),
      ("T", "init_task", 0xffff_ffff_9e20_0020),
      ("t", "show", 0xffff_ffff_9e20_0100),
      ("r", long, 0xffff_ffff_9e28_0000),
      ("B", "_end", 0xffff_ffff_9e40_0000),
    ]
    if encoding == .absolutePerCPU { symbols.insert(("A", "runqueues", 0x31c40), at: 0) }
    return KallsymsWriter(symbols: symbols, encoding: encoding)
  }

  @Test(arguments: KallsymsDecoder.AddressEncoding.allCases)
  func decodesEveryEncoding(encoding: KallsymsDecoder.AddressEncoding) throws {
    let writer = Self.sample(encoding)
    let table = try writer.decode()
    #expect(table.map(\.name) == writer.symbols.map(\.name))
    #expect(table.map(\.type) == writer.symbols.map(\.type))
    #expect(table.map(\.address.rawValue) == writer.symbols.map(\.address))
    #expect(table.address(of: "init_task") == VirtualAddress(0xffff_ffff_9e20_0020))
    #expect(table.address(of: Self.long) == VirtualAddress(0xffff_ffff_9e28_0000))
    #expect(table.address(of: "init_tas") == nil)
    #expect(table.address(of: "") == nil)
    #expect(table.addresses(of: "show").map(\.rawValue) == [0xffff_ffff_9e20_0010, 0xffff_ffff_9e20_0100])
    #expect(table.address(of: "show") == VirtualAddress(0xffff_ffff_9e20_0010))
  }

  @Test(arguments: [
    (0xffff_ffff_9e20_0000, "_text"), (0xffff_ffff_9e20_000f, "_text"), (0xffff_ffff_9e20_0010, "show"),
    (0xffff_ffff_9e20_00ff, "init_task"), (0xffff_ffff_9e40_0000, "_end"), (0xffff_ffff_9e40_0001, nil),
    (0xffff_ffff_9e1f_ffff, nil), (0x31c40, nil), (0, nil), (UInt64.max, nil),
  ])
  func findsSymbolOfAddress(address: UInt64, name: String?) throws {
    #expect(try Self.sample().decode().symbol(containing: VirtualAddress(address))?.name == name)
  }

  // MARK: Hostile

  private func malformed(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws(KernelInfoError) -> SymbolTable
  ) {
    let error = #expect(throws: KernelInfoError.self, sourceLocation: sourceLocation) { _ = try body() }
    guard case .malformedSymbols = error?.code else {
      Issue.record("\(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
  }

  @Test func refusesEveryTruncation() {
    let writer = Self.sample()
    let (names, index, offsets) = (writer.names, writer.tokenIndex, writer.offsets)
    for count in names.indices {
      malformed { () throws(KernelInfoError) in try writer.decode(names: Array(names[..<count])) }
    }
    for count in index.indices {
      malformed { () throws(KernelInfoError) in try writer.decode(tokenIndex: Array(index[..<count])) }
    }
    for count in offsets.indices {
      malformed { () throws(KernelInfoError) in try writer.decode(offsets: Array(offsets[..<count])) }
    }
    malformed { () throws(KernelInfoError) in try writer.decode(tokenTable: []) }
  }

  @Test func survivesEveryChangedByte() {
    let writer = Self.sample()
    func flip(_ bytes: [UInt8], to values: [UInt8], _ body: ([UInt8]) throws(KernelInfoError) -> SymbolTable) {
      for place in bytes.indices {
        for value in values {
          var changed = bytes
          changed[place] = value
          guard let table = try? body(changed) else { continue }
          _ = table.address(of: "show")
          _ = table.symbol(containing: VirtualAddress(0xffff_ffff_9e20_00ff))
          for symbol in table { _ = symbol.name }
        }
      }
    }
    flip(writer.names, to: [0x00, 0x7F, 0xFF]) { bytes throws(KernelInfoError) in try writer.decode(names: bytes) }
    flip(writer.tokenTable, to: [0xFF]) { bytes throws(KernelInfoError) in try writer.decode(tokenTable: bytes) }
    flip(writer.tokenIndex, to: [0xFF]) { bytes throws(KernelInfoError) in try writer.decode(tokenIndex: bytes) }
    flip(writer.offsets, to: [0x00, 0x7F, 0x80, 0xFF]) { bytes throws(KernelInfoError) in
      try writer.decode(offsets: bytes)
    }
  }

  @Test(arguments: [0, -1, Int(UInt32.max), 1_000_001, 1_000_000, 9])
  func refusesCount(count: Int) {
    malformed { () throws(KernelInfoError) in try Self.sample().decode(count: count) }
  }

  @Test func refusesEmptyNames() {
    var names = Self.sample().names
    names[0] = 0
    malformed { () throws(KernelInfoError) in try Self.sample().decode(names: names) }
    // A million names without bytes.
    malformed { () throws(KernelInfoError) in
      try Self.sample().decode(names: [UInt8](repeating: 0, count: 1 << 20), count: 1 << 20)
    }
  }

  /// Short entries of tokens that are as long as can be would expand to gigabytes.
  @Test func refusesNamesThatExplode() {
    let token = [UInt8](repeating: UInt8(ascii: "x"), count: 511) + [0]
    malformed { () throws(KernelInfoError) in
      try Self.sample().decode(
        names: [UInt8](repeating: 1, count: 2_000_000), tokenTable: token,
        tokenIndex: [UInt8](repeating: 0, count: 512), count: 1_000_000)
    }
    malformed { () throws(KernelInfoError) in
      try Self.sample().decode(
        names: [2, 1, 1], tokenTable: token, tokenIndex: [UInt8](repeating: 0, count: 512), count: 1)
    }
  }

  @Test func refusesUnorderedAddresses() {
    var writer = Self.sample()
    writer.symbols.swapAt(5, 6)
    malformed { () throws(KernelInfoError) in try writer.decode() }
  }

  @Test func refusesWhenNoEncodingFits() {
    malformed { () throws(KernelInfoError) in try Self.sample().decode(at: 0xffff_ffff_8100_0000) }
    malformed { () throws(KernelInfoError) in try Self.sample().decode(anchor: "absent") }
  }

  /// Names that are all equal cost no more than a walk.
  @Test func manyEqualNamesStayFast() throws {
    var writer = Self.sample()
    let same = repeatElement((type: Character("t"), name: "x", address: UInt64(0xffff_ffff_9e20_0018)), count: 50_000)
    writer.symbols.insert(contentsOf: same, at: 4)
    let table = try writer.decode()
    #expect(table.address(of: "x") == VirtualAddress(0xffff_ffff_9e20_0018))
    #expect(table.addresses(of: "x").count == 50_000)
  }
}
