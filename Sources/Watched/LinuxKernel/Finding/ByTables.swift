import Glibc
package import KernelInfo
package import Memory

/// Finds kallsyms tables in physical memory by their form, where no VMCOREINFO says where they lie.
///
/// The characters that names are made of are tokens, too, and stand at their own numbers: so every token table has the ten
/// digits in a row, each ended by a zero. From there everything else follows, and is checked against each other:
///
/// ```
/// offsets, base, num_syms, names, markers, (order of names,) token table, token index     up to 6.3
/// num_syms, names, markers, token table, token index, offsets, base                      from 6.4 on
/// ```
/// The index says where each token starts; a marker where each 256th name does.
/// Source: scripts/kallsyms.c, `write_src`.
package struct TableSearch {
  private let memory: SearchedMemory

  /// `0` to `9`.
  private static let digits: [UInt8] = (0..<20).map { $0 % 2 == 0 ? 0x30 + UInt8($0 / 2) : 0 }
  private static let longestToken = 256
  private static let longestTokens = 32 << 10
  /// 256 names of the longest kind that there is.
  private static let longestPart = 64 << 10
  /// How many bytes 256 names take: each has a length and a token at least.
  private static let steps = 512...longestPart
  private static let longestNames = 8 << 20
  /// How many places one piece of memory may offer: real memory has few, deceit as many as fit.
  private static let mostPlaces = 64
  private static let pieceSize: UInt64 = 1 << 20

  package init(_ memory: SearchedMemory) { self.memory = memory }

  /// The places in `window` that look like the digits of a token table.
  package static func places(in window: MemorySegment, of memory: any PhysicalMemory) -> [PhysicalAddress] {
    var found: [PhysicalAddress] = []
    var offset: UInt64 = 0
    while offset < window.count, found.count < Self.mostPlaces {
      let start = PhysicalAddress(window.start.rawValue &+ offset)
      let whole = min(Self.pieceSize + UInt64(Self.digits.count), window.count - offset)
      // A table across the end of a window is found where it starts less than a piece before it: windows end with pages,
      // and the index that follows the digits is read by its own address.
      // The batch's own bytes: a copy of each piece costs more than the search.
      var batch = ReadBatch<PhysicalAddress>()
      batch.add(start, count: Int(whole))
      memory.read(&batch)
      if batch.succeeded(0) {
        for place in Self.places(in: batch.bytes) where found.count < Self.mostPlaces { found.append(start + place) }
      }
      offset += Self.pieceSize
    }
    return found
  }

  /// Looks for nines, which are rare, with `memchr`, which compares many bytes at a time, and compares the rest only there.
  private static func places(in bytes: [UInt8]) -> [Int] {
    var found: [Int] = []
    let nine = 18
    bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress, bytes.count >= digits.count else { return }
      var start = nine
      while found.count < mostPlaces, start < bytes.count - 1,
        let place = memchr(base + start, CInt(digits[nine]), bytes.count - 1 - start)
      {
        let offset = UnsafeRawPointer(place) - base - nine
        if memcmp(base + offset, digits, digits.count) == 0 { found.append(offset) }
        start = offset + nine + 1
      }
    }
    return found
  }

  /// The tables around the digits at `place`.
  package func tables(at place: PhysicalAddress) throws(KernelInfoError) -> SymbolTables {
    do {
      return try checkedTables(at: place)
    } catch let error as KernelInfoError {
      throw error
    } catch {
      throw KernelInfoError(.malformedSymbols("\(error)"))
    }
  }

  private func wrong(_ what: String) -> KernelInfoError { KernelInfoError(.malformedSymbols(what)) }

  private func read(_ start: PhysicalAddress, count: Int) throws -> [UInt8] {
    try memory.read(start, count: count)
  }

  /// As much of `count` bytes before `end` as the memory has, whole kilobytes.
  private func read(before end: PhysicalAddress, count: Int) throws -> [UInt8] {
    guard
      let segment = memory.memory.segments.first(where: { $0.start < end && end.distance(from: $0.start) <= $0.count })
    else { throw wrong("they start outside the memory") }
    let room = min(UInt64(count), end.distance(from: segment.start))
    return try read(end - Int(room), count: Int(room))
  }

  private func checkedTables(at place: PhysicalAddress) throws -> SymbolTables {
    // Tokens from `0` on, up to the last.
    let digit = 0x30
    guard let segment = memory.segment(at: place) else {
      throw wrong("they lie outside the memory")
    }
    let room = min(UInt64(Self.longestTokens), segment.count - place.distance(from: segment.start))
    let tail = try read(place, count: Int(room))
    let text = ByteReader(tail.span.bytes)
    var starts: [Int] = []
    var end = 0
    for _ in digit..<256 {
      starts.append(end)
      let length = try text.cString(end, limit: Self.longestToken).count
      guard length < Self.longestToken, end + length < tail.count else { throw wrong("a token does not end") }
      end += length + 1
    }
    // Each table starts at a multiple of eight.
    let index = place + (end + Int((0 &- (place.rawValue &+ UInt64(end))) & 7))
    let indexBytes = try read(index, count: 512)
    let numbers = ByteReader(indexBytes.span.bytes)
    let before = Int(try numbers.u16(2 * digit))
    guard before >= digit, try numbers.u16(0) == 0 else { throw wrong("no index follows the tokens") }
    for token in digit..<256 where Int(try numbers.u16(2 * token)) != before + starts[token - digit] {
      throw wrong("the index has token \(token) elsewhere")
    }
    let tokens = place - before
    let head = try read(tokens, count: before)
    for token in 1...digit {
      let start = Int(try numbers.u16(2 * token))
      guard start > Int(try numbers.u16(2 * token - 2)), start <= before, head[start - 1] == 0 else {
        throw wrong("the index has token \(token) elsewhere")
      }
    }

    let (markers, markersStart) = try markers(before: tokens)
    let (names, count, length) = try names(before: markersStart, markers)
    try check(names, length, count, markers, isWhole: true)
    let (offsets, base) = try offsets(count, names: names, index: index)
    return SymbolTables(
      names: names, namesLength: length, tokens: tokens, tokensLength: before + end, tokenIndex: index, count: count,
      offsets: offsets, relativeBase: base)
  }

  /// The table before the tokens: where each 256th name starts, the first at zero.
  ///
  /// From 6.1 on three bytes for each symbol may lie between, which say how names are sorted (kallsyms_seqs_of_names).
  private func markers(before tokens: PhysicalAddress) throws -> ([Int], PhysicalAddress) {
    let bytes = try read(before: tokens, count: 4 * KallsymsDecoder.mostSymbols)
    let reader = ByteReader(bytes.span.bytes)
    var place = bytes.count - 16
    while place >= 0 {
      // Zero, and then steps of the size that 256 names have.
      let words = try reader.u64(place)
      if words & 0xffff_ffff == 0, Self.steps.contains(Int(words >> 32)) {
        var markers = [0]
        var next = place + 4
        while next + 4 <= bytes.count, let last = markers.last {
          let marker = Int(try reader.u32(next))
          guard Self.steps.contains(marker - last), marker < Self.longestNames else { break }
          markers.append(marker)
          next += 4
        }
        // A kernel has ten thousands of symbols; a test has few, and nothing between its tables.
        if markers.count >= 8 || next >= bytes.count - 4 { return (markers, tokens - (bytes.count - place)) }
      }
      place -= 8
    }
    throw wrong("no table of markers lies before the tokens; this layout is not known")
  }

  /// The names end where the markers start; before them stands how many there are.
  private func names(
    before markersStart: PhysicalAddress, _ markers: [Int]
  ) throws -> (PhysicalAddress, count: Int, length: Int) {
    let last = markers[markers.count - 1]
    let bytes = try read(before: markersStart - last, count: Self.longestPart)
    let reader = ByteReader(bytes.span.bytes)
    let start = markersStart - last - bytes.count
    for place in stride(from: bytes.count - 8, through: 8, by: -1) where (start + place).rawValue % 8 == 0 {
      let count = Int(try reader.u32(place - 8))
      guard try reader.u32(place - 4) == 0, (count + 255) / 256 == markers.count else { continue }
      let names = start + place
      let length = Int(markersStart.distance(from: names))
      if (try? check(names, length, count, Array(markers.prefix(2)))) != nil { return (names, count, length) }
    }
    throw wrong("no number of symbols fits the markers")
  }

  /// Walks the names: up to the last of `markers`, or all of them up to where they end.
  private func check(
    _ names: PhysicalAddress, _ length: Int, _ count: Int, _ markers: [Int], isWhole: Bool = false
  ) throws {
    let bytes = try read(names, count: isWhole ? length : min(length, markers[markers.count - 1] + 2))
    let reader = ByteReader(bytes.span.bytes)
    var place = 0
    for (index, marker) in markers.enumerated() {
      guard place == marker else { throw wrong("name \(index * 256) starts at \(place), not at \(marker)") }
      guard isWhole || index < markers.count - 1 else { return }
      for _ in 0..<min(256, count - index * 256) {
        let low = Int(try reader.u8(place))
        place += low < 0x80 ? 1 + low : 2 + (low & 0x7f | Int(try reader.u8(place + 1)) << 7)
      }
    }
    // What follows starts at a multiple of eight.
    guard place <= length, length - place < 8 else {
      throw wrong("\(count) names end at \(place), and not before what follows at \(length)")
    }
  }

  /// The offsets of the symbols, and what they count from.
  private func offsets(
    _ count: Int, names: PhysicalAddress, index: PhysicalAddress
  ) throws -> (PhysicalAddress, base: UInt64) {
    let size = (4 * count + 7) & ~7
    for (offsets, base) in [(index + 512, index + (512 + size)), (names - (16 + size), names - 16)] {
      guard let bytes = try? read(base, count: 8) else { continue }
      let value = try ByteReader(bytes.span.bytes).u64(0)
      if VirtualAddress(value).distance(from: FoundKernel.imageMap) < FoundKernel.imageMapSize, value & 0xfff == 0 {
        return (offsets, value)
      }
    }
    throw wrong("no base of the offsets lies where kernels up to 6.14 have it")
  }
}

// MARK: What the tables lead to

extension TableSearch {
  /// What the tables around the digits at `place` claim of a kernel: everything else is found from its symbols.
  ///
  /// - Returns: several where more than one page table maps the image: which is the kernel's own, what else it maps has to tell.
  ///   All agree in everything but the page table.
  /// - Throws: ``KernelInfoError``. Cost: some 20 reads; where variables are not listed, the image and what lies around it once.
  package func claims(at place: PhysicalAddress) throws(KernelInfoError) -> [KernelClaims] {
    let tables = try tables(at: place)
    return try KernelInfoError.naming(nil) {
      // The base is the lowest address of the image.
      let symbols = try tables.decode(memory, anchor: "_text", at: VirtualAddress(tables.relativeBase ?? 0))
      return try symbols.listsVariables()
        ? [try claims(symbols, tables, place)] : try functionClaims(symbols, tables, place)
    }
  }

  /// Of a kernel whose symbols lead to everything but the place of its image.
  private func claims(_ symbols: SymbolTable, _ tables: SymbolTables, _ place: PhysicalAddress) throws -> KernelClaims {
    let image = try ImageParts(listedBy: symbols)
    let base = try physicalBase(of: image, symbols, around: tables.tokenIndex)
    let root = try FoundKernel.place(of: try symbols.required("init_top_pgt"), "init_top_pgt", physicalBase: base)
    let isDeep = try symbols.address(of: "__pgtable_l5_enabled").map { address in
      let place = try FoundKernel.place(of: address, "__pgtable_l5_enabled", physicalBase: base)
      let bytes = try memory.read(place, count: 4)
      return try ByteReader(bytes.span.bytes).u32(0) == 1
    }
    return KernelClaims(
      claimant: .form, place: place, physicalBase: base, root: root, levels: isDeep == true ? 5 : 4,
      slide: image.range.lowerBound.distance(from: KernelClaims.linkedStart), symbols: symbols, image: image.range,
      banner: image.banner, types: image.types, listsVariables: true, tables: tables)
  }

  /// Of a kernel that lists no variables: its image is found by the page tables that map it.
  private func functionClaims(
    _ symbols: SymbolTable, _ tables: SymbolTables, _ place: PhysicalAddress
  ) throws -> [KernelClaims] {
    let text = try symbols.required("_text")
    let search = ImageSearch(memory)
    for (image, roots) in search.roots(mapping: text, around: tables.tokenIndex) where !roots.isEmpty {
      let base = Int64(bitPattern: image.rawValue &- text.distance(from: FoundKernel.imageMap))
      let parts = try search.parts(symbols, release: nil, physicalBase: base)
      return roots.map { root in
        let table = text + Int(truncatingIfNeeded: root.place.distance(from: image))
        return KernelClaims(
          claimant: .form, place: place, physicalBase: base, root: root.place, levels: root.levels,
          slide: text.distance(from: KernelClaims.linkedStart),
          symbols: symbols.adding(parts.variables).adding(["init_top_pgt": table]), image: parts.range,
          banner: parts.banner, types: parts.types, listsVariables: false, tables: tables)
      }
    }
    throw KernelInfoError(.noDataSymbols(functions: symbols.count, missing: "no page table that maps it"))
  }

  /// Looks for the image in physical memory, where it lies in one piece around its tables, aligned as it is in its mapping.
  ///
  /// - Returns: the physical base, which the kernel keeps as a variable as well.
  private func physicalBase(
    of image: ImageParts, _ symbols: SymbolTable, around tables: PhysicalAddress
  ) throws -> Int64 {
    // CONFIG_PHYSICAL_ALIGN: address randomisation moves images by whole large pages.
    let step: UInt64 = 2 << 20
    let start = image.range.lowerBound
    let size = image.range.upperBound.distance(from: start)
    let skew = start.rawValue % step
    let banner = image.banner.distance(from: start)
    let base = try symbols.required("phys_base").distance(from: start)
    var places: [PhysicalAddress] = []
    var next = tables.rawValue / step * step &+ skew
    while next &+ size > tables.rawValue, places.count <= Int(size / step) + 1 {
      if next <= tables.rawValue { places.append(PhysicalAddress(next)) }
      guard next >= step else { break }
      next -= step
    }
    var batch = ReadBatch<PhysicalAddress>()
    for place in places {
      batch.add(place + Int(clamping: banner), count: 14)
      batch.add(place + Int(clamping: base), count: 8)
    }
    memory.read(&batch)
    let distance = start.distance(from: FoundKernel.imageMap)
    for (index, place) in places.enumerated() {
      let expected = Int64(bitPattern: place.rawValue &- distance)
      if let text = try? batch.reader(index * 2).copy(), text == Array("Linux version ".utf8),
        let value = try? batch.reader(index * 2 + 1).load(0, as: Int64.self), value == expected
      {
        return expected
      }
    }
    throw KernelInfoError(
      .inconsistent("its symbols do not lead to the kernel's banner and phys_base anywhere around its tables"))
  }
}
