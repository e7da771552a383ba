import Crypto
import Glibc
import Host
import Memory

/// Where objects lie: a file of names in ascending order, which never changes.
///
/// ```
/// 0     "GRASSIDX", u32 version = 1, u32 number of packs, u64 number of objects
/// 24    the packs' numbers, u32 each
///       objects: 32 bytes name, u32 pack, u32 offset in it
///       samples: of each 100th object the first eight bytes of its name, most significant first
///       32 bytes SHA-256 of objects, samples, and all that comes before the objects
/// ```
/// An index is made of its packs, and can be made anew: nothing is believed because an index says it. An object is found by
/// its place among the samples, which are kept in memory (0.8 bytes an object), and one read of 4000 bytes.
final class PackIndex: Sendable {
  struct Entry: Equatable, Sendable {
    var name: ObjectName
    var pack: UInt32
    var offset: UInt32

    static let size = 40
  }

  let number: UInt32
  let path: String
  let packs: [UInt32]
  let count: UInt64
  private let descriptor: CInt
  private let samples: [UInt64]

  static let suffix = ".index"
  private static let magic = Array("GRASSIDX".utf8)
  private static let headSize = 24, stride = 100

  /// - Throws: ``StoreError`` where it cannot be read or is none.
  init(_ folder: String, _ number: UInt32) throws(StoreError) {
    self.number = number
    let path = "\(folder)/\(StoreFiles.name(number, Self.suffix))"
    self.path = path
    let descriptor = try StoreFiles.open(path, O_RDONLY)
    self.descriptor = descriptor
    do throws(StoreError) {
      let size = try StoreFiles.size(descriptor, path)
      let head = try StoreFiles.read(descriptor, 0, count: Self.headSize, path)
      let reader = ByteReader(head.span.bytes)
      guard head.starts(with: Self.magic), (try? reader.u32(8)) == 1, let packCount = try? reader.u32(12),
        let count = try? reader.u64(16), count <= size / UInt64(Entry.size), UInt64(packCount) <= size / 4
      else { throw StoreError(path, .damaged("it is no index")) }
      let sampleCount = (count + UInt64(Self.stride) - 1) / UInt64(Self.stride)
      let start = UInt64(Self.headSize) + UInt64(packCount) * 4
      let samplesAt = start + count * UInt64(Entry.size)
      guard samplesAt + sampleCount * 8 + 32 == size else {
        throw StoreError(path, .damaged("it has \(size) bytes, and not what its head says"))
      }
      packs = Self.numbers(
        try StoreFiles.read(descriptor, UInt64(Self.headSize), count: Int(packCount) * 4, path), 4
      ).map { UInt32(truncatingIfNeeded: $0) }
      samples = Self.numbers(try StoreFiles.read(descriptor, samplesAt, count: Int(sampleCount) * 8, path), 8)
        .map(\.byteSwapped)
      self.count = count
    } catch {
      close(descriptor)
      throw error
    }
  }

  deinit { close(descriptor) }

  private static func numbers(_ bytes: [UInt8], _ size: Int) -> [UInt64] {
    let reader = ByteReader(bytes.span.bytes)
    return Swift.stride(from: 0, to: bytes.count, by: size).compactMap { offset in
      size == 4 ? (try? reader.u32(offset)).map(UInt64.init) : try? reader.u64(offset)
    }
  }

  /// Objects from number `first` on, `count` of them at most.
  func entries(from first: UInt64, count wanted: Int) -> [Entry] {
    guard first < count else { return [] }
    let most = Int(min(UInt64(wanted), count - first))
    let offset = UInt64(Self.headSize + packs.count * 4) + first * UInt64(Entry.size)
    guard let bytes = try? StoreFiles.read(descriptor, offset, count: most * Entry.size, path) else { return [] }
    let reader = ByteReader(bytes.span.bytes)
    return Swift.stride(from: 0, to: bytes.count, by: Entry.size).compactMap { offset in
      guard let name = try? ObjectName(reader, offset), let pack = try? reader.u32(offset + 32),
        let place = try? reader.u32(offset + 36)
      else { return nil }
      return Entry(name: name, pack: pack, offset: place)
    }
  }

  /// The entry of a name, and its number.
  ///
  /// Cost: a binary search, and one read of 4000 bytes.
  func find(_ name: ObjectName) -> (entry: Entry, ordinal: UInt64)? {
    // The last block that begins before it, and those that begin with the same eight bytes.
    var (low, high) = (0, samples.count)
    while low < high {
      let middle = (low + high) / 2
      if samples[middle] < name.words[0] { low = middle + 1 } else { high = middle }
    }
    var block = max(low - 1, 0)
    while block < samples.count, block < low || samples[block] == name.words[0] {
      let first = UInt64(block * Self.stride)
      let entries = entries(from: first, count: Self.stride)
      var (low, high) = (0, entries.count)
      while low < high {
        let middle = (low + high) / 2
        if entries[middle].name < name { low = middle + 1 } else { high = middle }
      }
      if low < entries.count, entries[low].name == name { return (entries[low], first + UInt64(low)) }
      block += 1
    }
    return nil
  }

  /// Whether it is as it was written.
  ///
  /// Cost: a read of all of it.
  var isWhole: Bool {
    guard let size = try? StoreFiles.size(descriptor, path) else { return false }
    let start = UInt64(Self.headSize + packs.count * 4)
    var digest = SHA256()
    for range in [start..<size - 32, 0..<start] {
      var place = range.lowerBound
      while place < range.upperBound {
        let count = Int(min(1 << 20, range.upperBound - place))
        guard let bytes = try? StoreFiles.read(descriptor, place, count: count, path), bytes.count == count else {
          return false
        }
        digest.update(data: bytes)
        place += UInt64(count)
      }
    }
    return (try? StoreFiles.read(descriptor, size - 32, count: 32, path)).map { digest.finalize() == $0 } ?? false
  }

  // MARK: Making one

  /// Writes an index of `packs`, whose entries `next` gives in ascending order until it gives none.
  ///
  /// It is there whole and on the disk, or not at all.
  static func write(
    _ folder: String, _ number: UInt32, packs: [UInt32], _ next: () -> Entry?
  ) throws(StoreError) -> PackIndex {
    let path = "\(folder)/\(StoreFiles.name(number, suffix))"
    let new = path + ".new"
    unlink(new)
    let descriptor = try StoreFiles.open(new, O_WRONLY | O_CREAT | O_EXCL)
    defer { close(descriptor) }
    func head(_ count: UInt64) -> [UInt8] {
      var head = magic
      for word in [1, UInt32(packs.count)] { withUnsafeBytes(of: word.littleEndian) { head += $0 } }
      withUnsafeBytes(of: count.littleEndian) { head += $0 }
      for pack in packs { withUnsafeBytes(of: pack.littleEndian) { head += $0 } }
      return head
    }
    var digest = SHA256()
    var (count, samples, buffer): (UInt64, [UInt8], [UInt8]) = (0, [], [])
    try StoreFiles.write(head(0), to: descriptor, new)
    while let entry = next() {
      if count % UInt64(stride) == 0 { withUnsafeBytes(of: entry.name.words[0].bigEndian) { samples += $0 } }
      entry.name.append(to: &buffer)
      for word in [entry.pack, entry.offset] { withUnsafeBytes(of: word.littleEndian) { buffer += $0 } }
      count += 1
      guard buffer.count >= 1 << 20 else { continue }
      digest.update(data: buffer)
      try StoreFiles.write(buffer, to: descriptor, new)
      buffer.removeAll(keepingCapacity: true)
    }
    buffer += samples
    digest.update(data: buffer)
    digest.update(data: head(count))
    try StoreFiles.write(buffer + Array(digest.finalize()), to: descriptor, new)
    let whole = head(count)
    guard pwrite(descriptor, whole, whole.count, 0) == whole.count else { throw .system(new, "pwrite", errno) }
    guard SystemCall.retrying({ fsync(descriptor) }) == 0 else { throw .system(new, "fsync", errno) }
    guard rename(new, path) == 0 else { throw .system(path, "rename", errno) }
    try StoreFiles.synchronizeFolder(folder)
    return try PackIndex(folder, number)
  }

  /// Writes one index in place of several, the oldest first; of a name that several have, what the newest says.
  ///
  /// Cost: one pass over them.
  static func merge(
    _ folder: String, _ number: UInt32, _ indexes: [PackIndex], keeping isKept: (UInt32) -> Bool = { _ in true }
  ) throws(StoreError) -> PackIndex {
    var readers = indexes.map { IndexReader($0) }
    var last: ObjectName?
    return try write(folder, number, packs: Set(indexes.flatMap(\.packs)).filter(isKept).sorted()) {
      while true {
        var least: Int?
        for index in readers.indices {
          guard let name = readers[index].current?.name else { continue }
          if least.flatMap({ readers[$0].current?.name }).map({ name <= $0 }) ?? true { least = index }
        }
        guard let least, let entry = readers[least].current else { return nil }
        readers[least].advance()
        // A damaged index may have names in another order: they are left out, and found again in the packs.
        if isKept(entry.pack), last.map({ $0 < entry.name }) ?? true {
          last = entry.name
          return entry
        }
      }
    }
  }
}

/// Goes through an index in its order.
struct IndexReader {
  private let index: PackIndex
  private var entries: [PackIndex.Entry]
  private var (next, place) = (UInt64(0), 0)

  init(_ index: PackIndex) {
    self.index = index
    entries = index.entries(from: 0, count: Self.most)
    next = UInt64(entries.count)
  }

  private static let most = 16384

  var current: PackIndex.Entry? { place < entries.count ? entries[place] : nil }

  mutating func advance() {
    place += 1
    guard place >= entries.count else { return }
    entries = index.entries(from: next, count: Self.most)
    (next, place) = (next + UInt64(entries.count), 0)
  }
}
