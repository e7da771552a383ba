package import KernelInfo
package import Memory
import Paging

/// What of an image the claims of a kernel need beside its symbols.
package struct ImageParts: Sendable {
  package var range: Range<VirtualAddress>
  package var banner: VirtualAddress
  package var types: KernelClaims.Types
  /// Names and addresses of what was found, where the symbols do not list them.
  package var variables: [String: VirtualAddress] = [:]
}

extension ImageParts {
  /// What symbols say that list variables.
  package init(listedBy symbols: SymbolTable) throws(KernelInfoError) {
    range = try symbols.range("_text", "_end", limit: FoundKernel.imageMapSize)
    types = .bytes(try symbols.range("__start_BTF", "__stop_BTF", limit: FoundKernel.longestTypes))
    banner = try symbols.required("linux_banner")
  }
}

/// Finds in a kernel's image what no symbol leads to, by its form: the banner, the type information and, where no note names
/// it, the top page table.
///
/// Source: include/uapi/linux/btf.h, `struct btf_header`; arch/x86/kernel/head_64.S, `level2_kernel_pgt` and what leads there.
package struct ImageSearch {
  /// A page table that maps the image where it lies, and from which level.
  package struct Root: Hashable {
    package var place: PhysicalAddress
    package var levels: Int
  }

  private let memory: SearchedMemory

  /// More than any kernel's image has.
  private static let longestImage: UInt64 = 256 << 20
  private static let pieceSize: UInt64 = 1 << 20
  /// So many bytes more are read of each piece: what begins in it is seen whole.
  private static let overlap: UInt64 = 512
  /// How many headers of type information are followed.
  private static let mostHeaders = 16
  /// How many page tables are thought to be a kernel's.
  private static let mostRoots = 1 << 16
  /// How many places that look like one are looked at, in each piece.
  private static let mostPlaces = 256
  private static let pageSize: UInt64 = 4096

  package init(_ memory: SearchedMemory) { self.memory = memory }

  // MARK: Banner and types

  /// What of the image no symbol leads to, where the symbols are functions.
  ///
  /// The banner has to name `release`, where that is known. Cost: the image is read up to the last of banner and types.
  ///
  /// - Throws: ``KernelInfoError`` where it has no banner, or no type information that knows tasks.
  package func parts(
    _ symbols: SymbolTable, release: String?, physicalBase: Int64
  ) throws(KernelInfoError) -> ImageParts {
    let text = try symbols.required("_text")
    let start = try FoundKernel.place(of: text, "_text", physicalBase: physicalBase)
    let found = try find(from: start, release: release, functions: symbols.count)
    func address(_ place: PhysicalAddress) -> VirtualAddress {
      text + Int(truncatingIfNeeded: place.distance(from: start))
    }
    let types = address(found.types.place)
    let end = types + found.types.table.bytes.count
    let banner = address(found.banner)
    return ImageParts(
      range: text..<max(end, banner), banner: banner, types: .parsed(found.types.table, at: types..<end),
      variables: ["__start_BTF": types, "__stop_BTF": end])
  }

  /// Looks for both from the image's start on.
  private func find(
    from start: PhysicalAddress, release: String?, functions: Int
  ) throws(KernelInfoError) -> (banner: PhysicalAddress, types: (place: PhysicalAddress, table: TypeTable)) {
    let wanted = LiteralSearch(Array("Linux version \(release.map { $0 + " " } ?? "")".utf8))
    // Magic, version 1, no flags, and the length of the header.
    let header = LiteralSearch([0x9f, 0xeb, 1, 0, 24, 0, 0, 0])
    var banner: PhysicalAddress?
    var types: (PhysicalAddress, TypeTable)?
    var headers = 0
    for piece in pieces(from: start) {
      guard banner == nil || types == nil, let bytes = read(piece.start, count: piece.whole) else { break }
      if banner == nil, let place = wanted.first(in: bytes, from: 0, before: piece.count) {
        banner = piece.start + place
      }
      var next = 0
      for _ in 0..<Self.mostPlaces {
        guard types == nil, headers < Self.mostHeaders,
          let place = header.first(in: bytes, from: next, before: piece.count)
        else { break }
        next = place + 1
        guard place % 4 == 0, place + 24 <= bytes.count else { continue }
        headers += 1
        types = self.types(at: piece.start + place, header: Array(bytes[place..<place + 24]), release: release ?? "")
          .map { (piece.start + place, $0) }
      }
    }
    guard let banner else { throw missing("no banner", functions) }
    guard let types else { throw missing("no type information", functions) }
    return (banner, types)
  }

  private func missing(_ what: String, _ functions: Int) -> KernelInfoError {
    KernelInfoError(.noDataSymbols(functions: functions, missing: what))
  }

  /// The type information behind `header`, where there is some and it knows tasks.
  private func types(at place: PhysicalAddress, header: [UInt8], release: String) -> TypeTable? {
    let reader = ByteReader(header.span.bytes)
    // Types start behind the header, names behind the types.
    guard let first = try? reader.u32(8), let types = try? reader.u32(12), let names = try? reader.u32(16),
      let length = try? reader.u32(20), first == 0, names == types,
      UInt64(types) + UInt64(length) <= FoundKernel.longestTypes,
      let bytes = read(place, count: 24 + UInt64(types) + UInt64(length)),
      let table = try? TypeTable(bytes, release: release), table.hasStructure("task_struct")
    else { return nil }
    return table
  }

  private func read(_ start: PhysicalAddress, count: UInt64) -> [UInt8]? {
    try? memory.read(start, count: Int(count))
  }

  /// The memory from `start` on, as far as an image may go and its segment does.
  private func pieces(from start: PhysicalAddress) -> [(start: PhysicalAddress, count: Int, whole: UInt64)] {
    guard let segment = memory.segment(at: start) else { return [] }
    let room = min(segment.count - start.distance(from: segment.start), Self.longestImage)
    return stride(from: 0, to: room, by: UInt64.Stride(Self.pieceSize)).map { offset in
      let whole = min(Self.pieceSize + Self.overlap, room - offset)
      return (start + Int(offset), Int(min(whole, Self.pieceSize)), whole)
    }
  }

  // MARK: Page tables

  /// Places of the image around `place`, and the page tables that map `text` to it: a table of large pages that follow each
  /// other, a table that names it where the image's mapping is, and one or two above that name each other in their last entry.
  ///
  /// `text` is where the image starts.
  package func roots(
    mapping text: VirtualAddress, around place: PhysicalAddress
  ) -> [(image: PhysicalAddress, roots: [Root])] {
    let reach: UInt64 = 64 << 20
    let format = PageTableFormat.x86_64FourLevel
    let step = format.coverage(level: 2)
    let last = format.index(of: VirtualAddress(.max), level: 2)
    let entrySize = 8
    guard let segment = memory.segment(at: place) else { return [] }
    let low = max(segment.start.rawValue, place.rawValue > reach ? place.rawValue - reach : 0)
    let first = (low + Self.pageSize - 1) / Self.pageSize * Self.pageSize
    let end = min(segment.start.rawValue &+ segment.count, place.rawValue &+ reach)
    guard first < end else { return [] }
    let pages = stride(from: first, to: end - (end - first) % Self.pageSize, by: UInt64.Stride(Self.pageSize))
      .map { PhysicalAddress($0) }
    // Of each page: two neighbouring entries for the image, and those that lead further down.
    let index = format.index(of: text, level: 2)
    guard index < last, text.rawValue % step == 0 else { return [] }
    var batch = ReadBatch<PhysicalAddress>()
    for page in pages {
      batch.add(page + index * entrySize, count: 2 * entrySize)
      batch.add(page + format.index(of: text, level: 3) * entrySize, count: entrySize)
      batch.add(page + last * entrySize, count: entrySize)
    }
    memory.read(&batch)
    func entry(_ number: Int, _ offset: Int, level: Int) -> PageTableFormat.Entry? {
      (try? batch.reader(number).u64(offset)).map { format.entry($0, level: level) }
    }
    var tops: [UInt64: [PhysicalAddress]] = [:]
    var middles: [UInt64: [PhysicalAddress]] = [:]
    var images: [(image: PhysicalAddress, table: PhysicalAddress)] = []
    for (position, page) in pages.enumerated() {
      if case .page(let image) = entry(position * 3, 0, level: 2),
        case .page(let next) = entry(position * 3, entrySize, level: 2), next.rawValue == image.rawValue &+ step,
        image <= place, place.distance(from: image) < reach
      {
        images.append((image, page))
      }
      if case .table(let table) = entry(position * 3 + 1, 0, level: 3) {
        middles[table.rawValue, default: []].append(page)
      }
      if case .table(let table) = entry(position * 3 + 2, 0, level: 4) {
        tops[table.rawValue, default: []].append(page)
      }
    }
    return images.prefix(Self.mostHeaders).map { image, table in
      var roots: [Root] = []
      for third in (middles[table.rawValue] ?? []).prefix(Self.mostHeaders) {
        for fourth in tops[third.rawValue] ?? [] where roots.count < Self.mostRoots {
          roots.append(Root(place: fourth, levels: 4))
          for fifth in tops[fourth.rawValue] ?? [] where fifth != fourth { roots.append(Root(place: fifth, levels: 5)) }
        }
      }
      return (image, Array(ownFirst(roots, of: image, at: text).prefix(Self.mostHeaders)))
    }
  }

  /// The kernel's own tables before all others.
  ///
  /// Processes' have the same entries for the image, and may lie near it: even in it, where parts of it were freed. But the
  /// image names its own by where it is mapped itself (`init_mm.pgd`), and theirs are named by the direct map. What names a
  /// freed part may be left over, too: it is not followed by where the kernel's text starts and ends, as the field of `init_mm` is.
  ///
  /// Source: include/linux/mm_types.h, struct mm_struct; mm/init-mm.c, `setup_initial_init_mm`.
  private func ownFirst(_ roots: [Root], of image: PhysicalAddress, at text: VirtualAddress) -> [Root] {
    guard roots.count > 1 else { return roots }
    let offsets = Set(roots.lazy.filter { $0.place >= image }.map { $0.place.distance(from: image) })
    var named: Set<UInt64> = []
    var ofKernel: Set<UInt64> = []
    for piece in pieces(from: image) {
      guard ofKernel.isEmpty, let bytes = read(piece.start, count: piece.whole) else { break }
      bytes.withUnsafeBytes { bytes in
        /// How far behind the start of the image the address at `place` is.
        func offset(_ place: Int) -> UInt64 {
          bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self) &- text.rawValue
        }
        let end = bytes.count & ~7
        for place in stride(from: 0, to: min(piece.count, end), by: 8) {
          let table = offset(place)
          guard table < Self.longestImage, table % Self.pageSize == 0, offsets.contains(table) else { continue }
          named.insert(table)
          let rest = stride(from: place + 8, to: min(place + Int(Self.overlap), end - 8), by: 8)
          if rest.contains(where: { offset($0) == 0 && (1..<Self.longestImage).contains(offset($0 + 8)) }) {
            ofKernel.insert(table)
          }
        }
      }
    }
    func rank(_ root: Root) -> Int {
      guard root.place >= image else { return 0 }
      let offset = root.place.distance(from: image)
      return ofKernel.contains(offset) ? 2 : named.contains(offset) ? 1 : 0
    }
    return (0...2).reversed().flatMap { wanted in roots.filter { rank($0) == wanted } }
  }
}
