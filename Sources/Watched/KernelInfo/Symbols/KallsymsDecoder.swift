package import Memory

/// Decodes the kernel's compressed symbol table.
///
/// `kallsyms_names` holds one entry a symbol: a length, then that many token numbers. A length of 128 or more takes
/// two bytes, the low seven bits first. Token `t` stands for the zero-terminated string at `kallsyms_token_table +
/// kallsyms_token_index[t]`; the strings of an entry, joined, are the type letter and the name. The addresses
/// come from `kallsyms_offsets`, one signed 32-bit number a symbol, in one of the ``AddressEncoding``s.
///
/// Mirrors `kernel/kallsyms.c` and `scripts/kallsyms.c`.
package struct KallsymsDecoder: ~Escapable {
  /// How a number in `kallsyms_offsets` tells the address.
  package enum AddressEncoding: CaseIterable {
    /// Up to 6.14 on x86-64: what is not negative is the address itself (a per-CPU offset), the rest counts from
    /// `kallsyms_relative_base` downwards.
    case absolutePerCPU
    /// From 6.15 on: unsigned, from `kallsyms_relative_base`.
    case unsigned
    /// From 7.0 on: signed, from where the number itself lies. There is no base then.
    case selfRelative
  }

  /// The longest name that the kernel itself can hold, its type letter included (`KSYM_NAME_LEN`).
  package static let longestName = 512
  /// More symbols than any kernel has, and still little memory.
  package static let mostSymbols = 1_000_000
  package static let mostText = 32 << 20

  package let names: ByteReader
  package let tokenTable: ByteReader
  /// 256 16-bit numbers.
  package let tokenIndex: ByteReader
  package let offsets: ByteReader
  package let offsetsAddress: VirtualAddress
  package let relativeBase: UInt64?
  package let count: Int

  @_lifetime(copy names, copy tokenTable, copy tokenIndex, copy offsets)
  package init(
    names: ByteReader, tokenTable: ByteReader, tokenIndex: ByteReader, offsets: ByteReader,
    offsetsAddress: VirtualAddress, relativeBase: UInt64?, count: Int
  ) {
    self.names = names
    self.tokenTable = tokenTable
    self.tokenIndex = tokenIndex
    self.offsets = offsets
    self.offsetsAddress = offsetsAddress
    self.relativeBase = relativeBase
    self.count = count
  }

  /// Decodes all symbols, in the encoding that gives the symbol `name` the address `expected`.
  ///
  /// Cost: linear in the text of all names, about 2 MB.
  package func decode(anchor name: String, at expected: VirtualAddress) throws(KernelInfoError) -> SymbolTable {
    guard count > 0, count <= Self.mostSymbols else {
      throw KernelInfoError(.malformedSymbols("kallsyms_num_syms is \(count)"))
    }
    do {
      let tokens = try tokens()
      let starts = try measure(tokens)
      let (text, index) = try expand(tokens, starts)
      let unplaced = SymbolTable(
        text: text, starts: starts, addresses: (0..<UInt64(count)).map { $0 }, index: index)
      let positions = unplaced.addresses(of: name).map { Int($0.rawValue) }
      guard !positions.isEmpty else { throw KernelInfoError(.malformedSymbols("there is no symbol '\(name)'")) }
      for encoding in AddressEncoding.allCases {
        for position in positions where try address(position, encoding) == expected.rawValue {
          return SymbolTable(text: text, starts: starts, addresses: try addresses(encoding), index: index)
        }
      }
      throw KernelInfoError(.malformedSymbols("no known encoding gives '\(name)' the address \(expected)"))
    } catch let fault as MemoryFault {
      throw KernelInfoError(.malformedSymbols("a table ends early: \(fault)"))
    } catch let error as KernelInfoError {
      throw error
    } catch {
      throw KernelInfoError(.malformedSymbols("\(error)"))
    }
  }

  /// The bytes of all tokens, and of each where it starts and its length.
  private struct Tokens {
    var text: [UInt8] = []
    var starts: [Int] = []
    var lengths: [Int] = []
  }

  private func tokens() throws -> Tokens {
    var tokens = Tokens()
    for token in 0..<256 {
      let bytes = try tokenTable.cString(Int(try tokenIndex.u16(2 * token)), limit: Self.longestName)
      guard bytes.count < Self.longestName else {
        throw KernelInfoError(.malformedSymbols("token \(token) does not end"))
      }
      tokens.starts.append(tokens.text.count)
      tokens.lengths.append(bytes.count)
      tokens.text += bytes
    }
    return tokens
  }

  /// The place and length in tokens of the entry that starts at `position`.
  @inline(__always)
  private func entry(_ position: Int) throws(MemoryFault) -> (start: Int, count: Int) {
    let low = Int(try names.u8(position))
    if low < 0x80 { return (position + 1, low) }
    return (position + 2, low & 0x7f | Int(try names.u8(position + 1)) << 7)
  }

  /// Where each symbol's text will start, and at last where the text ends.
  private func measure(_ tokens: Tokens) throws -> [UInt32] {
    var starts: [UInt32] = []
    starts.reserveCapacity(count + 1)
    var position = 0
    var total = 0
    let lengths = tokens.lengths
    for symbol in 0..<count {
      starts.append(UInt32(total))
      let (start, length) = try entry(position)
      var symbolLength = 0
      for place in start..<start + length { symbolLength += lengths[Int(try names.u8(place))] }
      guard symbolLength > 0, symbolLength <= Self.longestName else {
        throw KernelInfoError(.malformedSymbols("symbol \(symbol) is \(symbolLength) bytes long"))
      }
      total += symbolLength
      guard total <= Self.mostText else {
        throw KernelInfoError(.malformedSymbols("the names are longer than \(Self.mostText) bytes"))
      }
      position = start + length
    }
    starts.append(UInt32(total))
    return starts
  }

  /// Writes the text of all symbols, whose place and length ``measure(_:)`` found, and indexes the names.
  private func expand(_ tokens: Tokens, _ starts: [UInt32]) throws -> (text: [UInt8], index: NameIndex) {
    // Most tokens are short: each is written as one word, whose surplus bytes the next one overwrites.
    let words = (0..<256).map { token in
      var word: UInt64 = 0
      for byte in 0..<min(8, tokens.lengths[token]) {
        word |= UInt64(tokens.text[tokens.starts[token] + byte]) << UInt64(8 * byte)
      }
      return word
    }
    let lengths = tokens.lengths
    var text = [UInt8](repeating: 0, count: Int(starts[count]) + 8)
    var target = text.mutableSpan
    var output = target.mutableBytes
    var place = 0
    var position = 0
    for _ in 0..<count {
      let (start, length) = try entry(position)
      for source in start..<start + length {
        let token = Int(try names.u8(source))
        output.storeBytes(of: words[token].littleEndian, toByteOffset: place, as: UInt64.self)
        let tokenLength = lengths[token]
        if tokenLength > 8 {
          for byte in 8..<tokenLength {
            output.storeBytes(
              of: tokens.text[tokens.starts[token] + byte], toByteOffset: place + byte, as: UInt8.self)
          }
        }
        place += tokenLength
      }
      position = start + length
    }
    var index = NameIndex(count: count)
    let reader = ByteReader(text.span.bytes)
    // Backwards, as the index finds first what came last, and the lowest address shall be first.
    for symbol in (0..<count).reversed() {
      let start = Int(starts[symbol]) + 1
      index.insert(symbol, hash: try NameHash.of(reader, start, count: Int(starts[symbol + 1]) - start))
    }
    return (text, index)
  }

  @inline(__always)
  private func address(_ symbol: Int, _ encoding: AddressEncoding) throws(MemoryFault) -> UInt64 {
    let number: Int32 = try offsets.load(4 * symbol)
    let base = relativeBase ?? 0
    switch encoding {
    case .absolutePerCPU:
      return number >= 0 ? UInt64(number) : base &- 1 &- UInt64(bitPattern: Int64(number))
    case .unsigned:
      return base &+ UInt64(UInt32(bitPattern: number))
    case .selfRelative:
      return offsetsAddress.rawValue &+ UInt64(4 * symbol) &+ UInt64(bitPattern: Int64(number))
    }
  }

  private func addresses(_ encoding: AddressEncoding) throws -> [UInt64] {
    var addresses: [UInt64] = []
    addresses.reserveCapacity(count)
    var previous: UInt64 = 0
    for symbol in 0..<count {
      let address = try address(symbol, encoding)
      // The kernel's own look-up by address is a binary search, so a genuine table is in order.
      guard address >= previous else {
        throw KernelInfoError(.malformedSymbols("symbol \(symbol) is out of order"))
      }
      addresses.append(address)
      previous = address
    }
    return addresses
  }
}
