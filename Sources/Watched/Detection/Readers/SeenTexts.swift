import KernelInfo
import Memory
import Synchronization

/// What was found in the texts of one host, kept so that a check does not look again through what did not change.
///
/// A text is known again by a digest of its bytes, under a seed that nobody else knows, and by all else that decides what is
/// remarked of it. Where either differs, the text is looked through as if it had never been. Of each text the remarks are
/// kept, not the bytes.
public final class SeenTexts: Sendable {
  private struct Seen {
    var given: MemoryDigest
    var bytes: MemoryDigest
    var text: PackedText
  }

  /// What digests are made under.
  let seed = MemoryDigest.Seed.random()
  private let texts = Mutex<[UInt64: Seen]>([:])
  private let counts = Mutex<(same: Int, looked: Int)>((0, 0))

  /// More texts than a kernel has modules.
  private static let mostTexts = 1024
  /// A text with more to be explained is not kept: a quiet kernel's has some hundred.
  private static let mostRemarks = 4096
  private static let pageSize = 4096

  public init() {}

  /// How many texts were known again, and how many were looked through.
  public var figures: (same: Int, looked: Int) { counts.withLock { $0 } }

  /// How many remarks are kept, which is what all of this takes memory for.
  var remarkCount: Int { texts.withLock { $0.values.reduce(0) { $0 + $1.text.count } } }

  /// What was found in the text that starts at `start`; nil where it is not known, or not by what is `given`.
  func text(at start: UInt64, given: MemoryDigest, bytes: () -> MemoryDigest?) -> KernelText? {
    let seen = texts.withLock { $0[start] }
    guard let seen, seen.given == given, bytes() == seen.bytes else {
      counts.withLock { $0.looked += 1 }
      return nil
    }
    counts.withLock { $0.same += 1 }
    return seen.text.unpacked(at: start)
  }

  /// Keeps what was found in a text.
  func keep(_ text: KernelText, at start: UInt64, given: MemoryDigest, bytes: MemoryDigest) {
    texts.withLock { texts in
      // What could not be read or decoded is tried again.
      guard text.remarks.count <= Self.mostRemarks, text.faults.isEmpty else {
        texts[start] = nil
        return
      }
      if texts.count >= Self.mostTexts { texts.removeAll() }
      texts[start] = Seen(given: given, bytes: bytes, text: PackedText(text, at: start))
    }
  }

  // MARK: Digests

  /// The digest of numbers.
  func digest<Number: FixedWidthInteger>(ofNumbers numbers: [Number]) -> MemoryDigest {
    numbers.withUnsafeBytes { MemoryDigest($0, seed) }
  }

  /// The digest of all that decides, beside the bytes, what is remarked of a text.
  func digest(of ranges: [Range<UInt64>], functions: [UInt32], places: [UInt32]) -> MemoryDigest {
    let digests = [digest(ofNumbers: functions), digest(ofNumbers: places)]
    return digest(
      ofNumbers: ranges.flatMap { [$0.lowerBound, $0.upperBound] } + [UInt64(functions.count), UInt64(places.count)]
        + digests.flatMap { [$0.low, $0.high] })
  }

  /// The digest of bytes: that of their pages' digests, which a device can compute where the bytes are.
  func digest(ofBytes bytes: [UInt8]) -> MemoryDigest { joined(digests(ofPagesOf: bytes)) }

  /// The digests of the pages of bytes.
  func digests(ofPagesOf bytes: [UInt8]) -> [MemoryDigest] {
    bytes.withUnsafeBytes { bytes in
      stride(from: 0, to: bytes.count, by: Self.pageSize).map { start in
        MemoryDigest(UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + Self.pageSize, bytes.count)]), seed)
      }
    }
  }

  /// The digest of what lies at `place`, by whoever has the memory; nil where any of it cannot be read.
  func digest(of place: MemorySegment, in memory: any PhysicalMemory) -> MemoryDigest? {
    guard let pages = try? memory.digests(ofPagesIn: place, seed), !pages.contains(nil) else { return nil }
    return joined(pages.compactMap { $0 })
  }

  /// The digest of a text by those of its pages.
  func joined(_ pages: [MemoryDigest]) -> MemoryDigest {
    digest(ofNumbers: pages.flatMap { [$0.low, $0.high] } + [UInt64(pages.count)])
  }
}
