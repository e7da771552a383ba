package import KernelInfo
package import Memory

/// Writes kallsyms tables as `scripts/kallsyms.c` does, with a token for each character and a few for longer pieces.
package struct KallsymsWriter {
  package var symbols: [(type: Character, name: String, address: UInt64)]
  package var encoding: KallsymsDecoder.AddressEncoding
  package var relativeBase: UInt64
  package var offsetsAddress: VirtualAddress

  package init(
    symbols: [(type: Character, name: String, address: UInt64)],
    encoding: KallsymsDecoder.AddressEncoding = .absolutePerCPU, relativeBase: UInt64 = 0xffff_ffff_9e20_0000,
    offsetsAddress: VirtualAddress = VirtualAddress(0xffff_ffff_9e30_0000)
  ) {
    self.symbols = symbols
    self.encoding = encoding
    self.relativeBase = relativeBase
    self.offsetsAddress = offsetsAddress
  }

  /// Token numbers below 32 stand for pieces, the others for the ASCII character of that number.
  package static let pieces = ["", "init_", "__start_", "T_", "kallsyms_token_"]

  package var tokenTable: [UInt8] {
    var table = Bytes()
    for token in 0..<256 {
      table.append(Self.text(token))
      table.append(UInt8(0))
    }
    return table.all
  }

  package var tokenIndex: [UInt8] {
    var index = Bytes()
    var place = 0
    for token in 0..<256 {
      index.append(UInt16(place))
      place += Self.text(token).utf8.count + 1
    }
    return index.all
  }

  private static func text(_ token: Int) -> String {
    if token < pieces.count { return pieces[token] }
    return token >= 32 && token < 127 ? String(Character(Unicode.Scalar(UInt8(token)))) : ""
  }

  package var names: [UInt8] {
    var names = Bytes()
    for symbol in symbols {
      var tokens: [UInt8] = []
      var rest = Substring("\(symbol.type)\(symbol.name)")
      while let first = rest.utf8.first {
        if let piece = Self.pieces.indices.dropFirst().first(where: { rest.hasPrefix(Self.pieces[$0]) }) {
          tokens.append(UInt8(piece))
          rest = rest.dropFirst(Self.pieces[piece].count)
        } else {
          tokens.append(first)
          rest = rest.dropFirst()
        }
      }
      if tokens.count >= 0x80 {
        names.append(UInt8(tokens.count & 0x7f | 0x80))
        names.append(UInt8(tokens.count >> 7))
      } else {
        names.append(UInt8(tokens.count))
      }
      names.all += tokens
    }
    return names.all
  }

  package var offsets: [UInt8] {
    var offsets = Bytes()
    for (index, symbol) in symbols.enumerated() {
      let number: UInt64 =
        switch encoding {
        case .absolutePerCPU:
          symbol.address < 1 << 31 ? symbol.address : relativeBase &- 1 &- symbol.address
        case .unsigned: symbol.address &- relativeBase
        case .selfRelative: symbol.address &- offsetsAddress.rawValue &- UInt64(4 * index)
        }
      offsets.append(UInt32(truncatingIfNeeded: number))
    }
    return offsets.all
  }

  /// Decodes the tables, each changed as a test wants.
  package func decode(
    names: [UInt8]? = nil, tokenTable: [UInt8]? = nil, tokenIndex: [UInt8]? = nil, offsets: [UInt8]? = nil,
    count: Int? = nil, anchor: String = "_stext", at address: UInt64? = nil
  ) throws(KernelInfoError) -> SymbolTable {
    let names = names ?? self.names
    let tokenTable = tokenTable ?? self.tokenTable
    let tokenIndex = tokenIndex ?? self.tokenIndex
    let offsets = offsets ?? self.offsets
    let decoder = KallsymsDecoder(
      names: ByteReader(names.span.bytes), tokenTable: ByteReader(tokenTable.span.bytes),
      tokenIndex: ByteReader(tokenIndex.span.bytes), offsets: ByteReader(offsets.span.bytes),
      offsetsAddress: offsetsAddress, relativeBase: encoding == .selfRelative ? nil : relativeBase,
      count: count ?? symbols.count)
    let known = symbols.first { $0.name == anchor }?.address ?? 0
    return try decoder.decode(anchor: anchor, at: VirtualAddress(address ?? known))
  }
}
