package import KernelInfo
package import Memory
import Synchronization

/// The tables of a build that was proven whole, kept to be used again: its symbols and its types, as its image holds them.
///
/// They are the same on every boot: names and offsets count from the image, and what a boot relocates, the base of the offsets,
/// is kept as it was linked.
package struct KnownBuild: Sendable {
  /// A table: where it lies in the image, counted from the image's start, and its bytes.
  package struct Table: Sendable {
    package var offset: UInt64
    package var bytes: [UInt8]
  }

  package let release: String
  /// Empty where it is not known.
  package let buildID: String
  /// Of each table, in the order of ``Part``.
  package let tableDigests: [MemoryDigest]
  /// Of the tables' digests: it names the build.
  package let digest: MemoryDigest
  /// Where the image is linked to start.
  private let text: VirtualAddress
  private let symbolCount: Int
  /// As it was linked; nil where offsets count from their own places.
  private let relativeBase: UInt64?
  private let tables: [Table]
  /// Shared by all copies of this value, and so by all hosts of the build.
  private let decoded = Decoded()

  /// What was decoded of the tables.
  private final class Decoded: Sendable {
    let symbols = Mutex<(slide: UInt64, table: SymbolTable)?>(nil)
    let types = Mutex<TypeTable?>(nil)
  }

  private enum Part: Int, CaseIterable {
    case names, tokens, tokenIndex, offsets, types
  }

  /// Reads the tables of a kernel that was proven from them, and makes sure that those read now lead to the same again.
  ///
  /// - Throws: ``KernelInfoError`` or ``MemoryFault``. Cost: the tables are read and decoded once more.
  package init(of kernel: ProvenKernel) throws {
    let found = kernel.found
    guard let places = kernel.tables, found.listsVariables,
      let start = found.physicalAddress(ofImage: found.imageRange.lowerBound)
    else { throw KernelInfoError(.inconsistent("it was not found by tables of its own"), release: found.release) }
    let types = try found.symbols.range("__start_BTF", "__stop_BTF", limit: FoundKernel.longestTypes)
    let typesPlace = try FoundKernel.place(
      of: types.lowerBound, "__start_BTF", physicalBase: found.physicalBase)
    let ranges = [
      (places.names, places.namesLength), (places.tokens, places.tokensLength), (places.tokenIndex, 512),
      (places.offsets, 4 * places.count), (typesPlace, Int(types.upperBound.distance(from: types.lowerBound))),
    ]
    var batch = ReadBatch<PhysicalAddress>()
    for (place, count) in ranges { batch.add(place, count: count) }
    kernel.memory.read(&batch)
    var tables: [Table] = []
    for (index, (place, _)) in ranges.enumerated() {
      tables.append(Table(offset: place.distance(from: start), bytes: try batch.reader(index).copy()))
    }
    self.init(
      release: found.release, buildID: found.buildID ?? "",
      text: found.imageRange.lowerBound - Int(truncatingIfNeeded: found.slide),
      symbolCount: places.count, relativeBase: places.relativeBase.map { $0 &- found.slide }, tables: tables)
    // What was proven was read before; who changed it meanwhile is not to have his tables kept.
    let symbols = try symbols(slide: found.slide)
    guard symbols.text == found.symbols.text, symbols.addresses == found.symbols.addresses,
      tables[Part.types.rawValue].bytes == found.types.bytes
    else { throw KernelInfoError(.inconsistent("its tables changed while they were read"), release: found.release) }
  }

  private init(
    release: String, buildID: String, text: VirtualAddress, symbolCount: Int, relativeBase: UInt64?, tables: [Table]
  ) {
    self.release = release
    self.buildID = buildID
    self.text = text
    self.symbolCount = symbolCount
    self.relativeBase = relativeBase
    self.tables = tables
    tableDigests = tables.map { $0.bytes.withUnsafeBytes { MemoryDigest($0) } }
    digest = MemoryDigest(of: tableDigests.flatMap { [$0.low, $0.high] })
  }

  /// Where the tables lie in a boot's memory, for their digests.
  package func segments(slide: UInt64, physicalBase: Int64) -> [MemorySegment]? {
    guard let start = FoundKernel.physicalAddress(text + Int(truncatingIfNeeded: slide), physicalBase: physicalBase)
    else {
      return nil
    }
    return tables.map {
      MemorySegment(start: PhysicalAddress(start.rawValue &+ $0.offset), count: UInt64($0.bytes.count))
    }
  }

  /// The symbols in a boot that moved the image by `slide`.
  ///
  /// Cost: they are decoded the first time; then addresses are added to, and names are shared.
  package func symbols(slide: UInt64) throws(KernelInfoError) -> SymbolTable {
    if let known = decoded.symbols.withLock({ $0 }) {
      return known.slide == slide ? known.table : known.table.moved(by: slide &- known.slide)
    }
    let symbols = try decodeSymbols(slide: slide)
    decoded.symbols.withLock { $0 = (slide, symbols) }
    return symbols
  }

  /// The types, which are the same in each boot.
  private func types() throws(KernelInfoError) -> TypeTable {
    if let known = decoded.types.withLock({ $0 }) { return known }
    let types = try TypeTable(tables[Part.types.rawValue].bytes, release: release)
    decoded.types.withLock { $0 = types }
    return types
  }

  private func decodeSymbols(slide: UInt64) throws(KernelInfoError) -> SymbolTable {
    let start = text + Int(truncatingIfNeeded: slide)
    func bytes(_ part: Part) -> [UInt8] { tables[part.rawValue].bytes }
    let (names, tokens, index, offsets) = (bytes(.names), bytes(.tokens), bytes(.tokenIndex), bytes(.offsets))
    let decoder = KallsymsDecoder(
      names: ByteReader(names.span.bytes), tokenTable: ByteReader(tokens.span.bytes),
      tokenIndex: ByteReader(index.span.bytes), offsets: ByteReader(offsets.span.bytes),
      offsetsAddress: start + Int(truncatingIfNeeded: tables[Part.offsets.rawValue].offset),
      relativeBase: relativeBase.map { $0 &+ slide }, count: symbolCount)
    return try decoder.decode(anchor: "_text", at: start)
  }

  /// What of a boot's image tells where it lies, each as an offset from the image's start.
  package struct Traces: Sendable {
    package let banner: UInt64
    /// Where the kernel keeps the address of its own page tables: it moves with the image.
    package let rootPointer: UInt64
    /// Whether page tables have five levels.
    package let fiveLevels: UInt64
    /// What that address is where the image was not moved.
    package let root: VirtualAddress
    fileprivate let text: VirtualAddress

    /// What is to be proven of an image at `start` that was moved by `slide`.
    package func boot(imageAt start: PhysicalAddress, slide: UInt64, levels: Int) -> Boot {
      let place = PhysicalAddress(start.rawValue &+ root.rawValue &- text.rawValue)
      let offset = text.rawValue &+ slide &- FoundKernel.imageMap.rawValue
      return Boot(
        place: PhysicalAddress(start.rawValue &+ banner), physicalBase: Int64(bitPattern: start.rawValue &- offset),
        root: place, levels: levels, slide: slide)
    }
  }

  /// What tells where an image of this build lies.
  ///
  /// - Throws: ``KernelInfoError`` where the build lacks a symbol of it. Cost: all symbols and types are decoded.
  package func traces() throws(KernelInfoError) -> Traces {
    let symbols = try symbols(slide: 0)
    let types = try self.types()
    func offset(_ name: String) throws(KernelInfoError) -> UInt64 {
      guard let address = symbols.address(of: name), address >= text else {
        throw KernelInfoError(.missingSymbol(name))
      }
      return address.distance(from: text)
    }
    guard let root = symbols.address(of: "init_top_pgt") else { throw KernelInfoError(.missingSymbol("init_top_pgt")) }
    let pointer = try types.structure("mm_struct").field("pgd").offset
    return Traces(
      banner: try offset("linux_banner"), rootPointer: try offset("init_mm") &+ UInt64(clamping: pointer),
      fiveLevels: try offset("__pgtable_l5_enabled"), root: root, text: text)
  }

  /// What is claimed of a boot of this build.
  ///
  /// - Throws: ``KernelInfoError`` where the tables are none.
  package func claims(
    _ boot: Boot, claimant: KernelClaims.Claimant, source: TableSource
  ) throws(KernelInfoError) -> KernelClaims {
    let symbols = try symbols(slide: boot.slide)
    let image = try ImageParts(listedBy: symbols)
    guard case .bytes(let range) = image.types else { throw KernelInfoError(.missingSymbol("__start_BTF")) }
    let types = try self.types()
    return KernelClaims(
      claimant: claimant, place: boot.place, release: release, buildID: buildID.isEmpty ? nil : buildID,
      physicalBase: boot.physicalBase, root: boot.root, levels: boot.levels, slide: boot.slide, symbols: symbols,
      image: image.range, banner: image.banner, types: .parsed(types, at: range), listsVariables: true, source: source)
  }

  /// What one boot of a build decides.
  package struct Boot: Hashable, Sendable {
    package var place: PhysicalAddress
    package var physicalBase: Int64
    package var root: PhysicalAddress
    package var levels: Int
    package var slide: UInt64
  }
}

// MARK: As a file

extension KnownBuild {
  /// "GRASSKB1", as a number.
  private static let magic: UInt64 = 0x3142_4b53_5341_5247
  /// Longer names are none of a kernel's.
  private static let longestName = 512

  /// ```
  /// u64 magic, text, has a base, base, number of symbols; of release and build ID a u64 length and the bytes;
  /// of each table u64 offset and length; the bytes of each table
  /// ```
  package var file: [UInt8] {
    var bytes: [UInt8] = []
    func add(_ number: UInt64) { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }
    for number in [Self.magic, text.rawValue, relativeBase == nil ? 0 : 1, relativeBase ?? 0, UInt64(symbolCount)] {
      add(number)
    }
    for name in [release, buildID] {
      add(UInt64(name.utf8.count))
      bytes += Array(name.utf8)
    }
    for table in tables {
      add(table.offset)
      add(UInt64(table.bytes.count))
    }
    for table in tables { bytes += table.bytes }
    return bytes
  }

  /// Parses a file of the kind.
  ///
  /// What the tables hold is checked when they are decoded.
  ///
  /// - Throws: ``MemoryFault`` or ``KernelInfoError`` where it is none.
  package init(file: [UInt8]) throws {
    let reader = ByteReader(file.span.bytes)
    func wrong() -> KernelInfoError { KernelInfoError(.malformedSymbols("no file of a known build")) }
    guard try reader.u64(0) == Self.magic else { throw wrong() }
    let count = try reader.u64(32)
    guard count > 0, count <= UInt64(KallsymsDecoder.mostSymbols) else { throw wrong() }
    var place = 40
    func name() throws -> String {
      let length = try reader.u64(place)
      guard length <= UInt64(Self.longestName) else { throw wrong() }
      let text = try reader.slice(place + 8, count: Int(length)).copy()
      place += 8 + Int(length)
      return String(decoding: text, as: UTF8.self)
    }
    let (release, buildID) = (try name(), try name())
    var ends = place + Part.allCases.count * 16
    var tables: [Table] = []
    for part in Part.allCases {
      let (offset, length) = (
        try reader.u64(place + part.rawValue * 16), try reader.u64(place + part.rawValue * 16 + 8)
      )
      guard offset < FoundKernel.imageMapSize, length < FoundKernel.imageMapSize else { throw wrong() }
      tables.append(Table(offset: offset, bytes: try reader.slice(ends, count: Int(length)).copy()))
      ends += Int(length)
    }
    self.init(
      release: release, buildID: buildID, text: VirtualAddress(try reader.u64(8)), symbolCount: Int(count),
      relativeBase: try reader.u64(16) == 0 ? nil : try reader.u64(24), tables: tables)
  }
}
