import CLayouts

/// A digest of bytes, which says whether they are those that were seen before: `struct grass_digest`.
///
/// It keeps apart what differs by chance. It is no protection against somebody who makes bytes of a digest that he knows, and
/// needs to be none: of who makes his tables look like those of another build, that build's are used, and have to fit.
public struct MemoryDigest: Hashable, Sendable {
  public let low: UInt64
  public let high: UInt64

  public init(low: UInt64, high: UInt64) { (self.low, self.high) = (low, high) }

  /// What digests are made under.
  ///
  /// Who does not know it cannot make other bytes of the same digest but by chance.
  public struct Seed: Hashable, Sendable {
    public let low: UInt64
    public let high: UInt64

    public init(_ low: UInt64, _ high: UInt64) { (self.low, self.high) = (low, high) }

    /// One that nobody knows.
    public static func random() -> Seed { Seed(.random(in: 0 ... .max), .random(in: 0 ... .max)) }
  }

  /// The digest of `bytes`.
  ///
  /// Cost: some 3 ms for 10 MB.
  public init(_ bytes: UnsafeRawBufferPointer, _ seed: Seed = Seed(0, 0)) {
    let digest =
      bytes.baseAddress.map { start in
        var seed: (UInt64, UInt64) = (seed.low, seed.high)
        return withUnsafeBytes(of: &seed) {
          grass_digest_bytes(start, UInt64(bytes.count), $0.baseAddress?.assumingMemoryBound(to: UInt64.self))
        }
      } ?? grass_digest()
    self.init(low: digest.low, high: digest.high)
  }

  /// The digest of bytes in pieces, of the digests of these.
  ///
  /// That of each piece has to be made under the ``seed(ofPieceAt:)``.
  package init(joining pieces: [(offset: Int, digest: MemoryDigest)]) {
    var (low, high): (UInt64, UInt64) = (0, 0)
    for (offset, digest) in pieces {
      low &+= digest.low
      high &+= digest.high &+ 2 &* UInt64(offset / 8) &* digest.low
    }
    self.init(low: low, high: high)
  }

  /// What `struct grass_digest` has for the first seed of a piece at an offset, a multiple of 8 bytes.
  package static func seed(ofPieceAt offset: Int) -> UInt64 { UInt64(offset / 8) &* GRASS_DIGEST_STEP }

  /// The digest of `words`.
  package init(of words: [UInt64]) {
    self = words.map(\.littleEndian).withUnsafeBytes { MemoryDigest($0) }
  }
}

extension MemoryDigest: CustomStringConvertible {
  /// 32 hexadecimal digits, high word first.
  public var description: String { Self.digits(high) + Self.digits(low) }

  private static func digits(_ word: UInt64) -> String {
    let text = String(word, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }

  /// What ``description`` says; nil for anything else.
  public init?(_ text: String) {
    guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(low: low, high: high)
  }
}
