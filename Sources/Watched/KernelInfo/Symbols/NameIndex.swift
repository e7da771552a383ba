package import Memory

/// A hash index from names to item numbers, where the names themselves lie elsewhere.
///
/// Items with the same hash are chained, so that building stays linear and a look-up bounded by the number of items
/// even where all names collide on purpose.
package struct NameIndex: Sendable {
  package static let none = UInt32.max
  private var heads: [UInt32]
  private var following: [UInt32]
  private let mask: Int

  /// An empty index for items 0 up to `count`.
  package init(count: Int) {
    var buckets = 16
    while buckets < count { buckets *= 2 }
    mask = buckets - 1
    heads = [UInt32](repeating: Self.none, count: buckets)
    following = [UInt32](repeating: Self.none, count: count)
  }

  /// Puts `item` before the items of the same hash that were inserted earlier.
  package mutating func insert(_ item: Int, hash: UInt32) {
    let bucket = Int(hash) & mask
    following[item] = heads[bucket]
    heads[bucket] = UInt32(truncatingIfNeeded: item)
  }

  /// The first item that may have a name of this hash, or `none`.
  package func first(hash: UInt32) -> UInt32 { heads[Int(hash) & mask] }

  /// The item to look at after `item`, or `none`.
  package func next(_ item: UInt32) -> UInt32 { following[Int(item)] }
}

/// The hash that names are indexed by: eight bytes a step, as opening a kernel hashes megabytes of names.
package enum NameHash {
  /// The hash of `count` bytes from `offset`.
  @inline(__always)
  package static func of(_ reader: borrowing ByteReader, _ offset: Int, count: Int) throws(MemoryFault) -> UInt32 {
    var hash = UInt64(truncatingIfNeeded: count)
    var place = offset
    let end = offset + count
    while place < end {
      var word: UInt64 = 0
      if end - place >= 8 {
        word = try reader.u64(place)
      } else if place + 8 <= reader.count {
        word = try reader.u64(place) & ((1 << UInt64(8 * (end - place))) - 1)
      } else {
        for byte in place..<end { word |= UInt64(try reader.u8(byte)) << UInt64(8 * (byte - place)) }
      }
      hash = (hash ^ word) &* 0x9e37_79b9_7f4a_7c15
      hash ^= hash >> 32
      place += 8
    }
    return UInt32(truncatingIfNeeded: hash)
  }

  package static func of(_ name: String) -> UInt32 {
    let bytes = [UInt8](name.utf8)
    // All the bytes are there, so that no load can fail.
    return (try? of(ByteReader(bytes.span.bytes), 0, count: bytes.count)) ?? 0
  }
}
