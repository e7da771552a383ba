/// A hash index from names to item numbers, where the names themselves lie elsewhere.
///
/// Items with the same hash are chained, so that building stays linear and a look-up bounded by the number of items
/// even where all names collide on purpose.
struct NameIndex: Sendable {
  static let none = UInt32.max
  private var heads: [UInt32]
  private var following: [UInt32]
  private let mask: Int

  /// An empty index for items 0 up to `count`.
  init(count: Int) {
    var buckets = 16
    while buckets < count { buckets *= 2 }
    mask = buckets - 1
    heads = [UInt32](repeating: Self.none, count: buckets)
    following = [UInt32](repeating: Self.none, count: count)
  }

  /// Puts `item` before the items of the same hash that were inserted earlier.
  mutating func insert(_ item: Int, hash: UInt32) {
    let bucket = Int(hash) & mask
    following[item] = heads[bucket]
    heads[bucket] = UInt32(truncatingIfNeeded: item)
  }

  /// The first item that may have a name of this hash, or `none`.
  func first(hash: UInt32) -> UInt32 { heads[Int(hash) & mask] }

  /// The item to look at after `item`, or `none`.
  func next(_ item: UInt32) -> UInt32 { following[Int(item)] }
}

/// The FNV-1a hash, fed byte by byte.
struct NameHash {
  private var state: UInt32 = 0x811c_9dc5

  @inline(__always)
  mutating func combine(_ byte: UInt8) { state = (state ^ UInt32(byte)) &* 0x0100_0193 }

  /// The hash, its upper bits folded into the lower ones that an index uses.
  @inline(__always)
  var value: UInt32 { state ^ (state >> 15) }

  static func of(_ name: String) -> UInt32 {
    var hash = NameHash()
    for byte in name.utf8 { hash.combine(byte) }
    return hash.value
  }
}
