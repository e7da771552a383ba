public import CRegion
import CSeal
import Glibc

/// The keys of what a device with keys says to all who may watch: its findings and last words.
public struct GroupKeys: Sendable {
  /// 32 bytes each, by generation: a new one for each key that was taken out of the list.
  public var keys: [UInt64: [UInt8]]

  public init(_ keys: [UInt64: [UInt8]] = [:]) { self.keys = keys }

  /// What became of something sealed.
  public enum Verdict: Sendable {
    case open
    /// It is torn, or not the device's, or nothing is there; it is as it was, and its check does not hold.
    case none
    /// It is sealed under a key of a later generation than these.
    case newer
  }

  /// Makes of a sealed entry of the log, or of the open findings, one as there is without keys, in place.
  public func openFinding(_ entry: UnsafeMutableRawBufferPointer, kind: grass_group_kind) -> Verdict {
    let headSize = MemoryLayout<grass_record>.size
    let length = MemoryLayout<grass_finding_content>.size
    guard let base = entry.baseAddress, entry.count >= headSize + length + 8 else { return .none }
    let head = base.loadUnaligned(as: grass_record.self)
    guard head.sequence != 0, head.length == UInt64(length) else { return .none }
    let verdict = open(base + headSize, length, check: head.check, kind: kind, number: head.sequence)
    if verdict == .open { grass_record_seal(base, head.sequence, UInt64(length)) }
    return verdict
  }

  /// The same for the head of last words.
  public func openWordsHead(_ record: UnsafeMutableRawBufferPointer) -> Verdict {
    let headSize = MemoryLayout<grass_record>.size
    guard let base = record.baseAddress, record.count >= headSize + MemoryLayout<grass_words_head>.size else {
      return .none
    }
    let check = MemoryLayout<grass_words_head>.offset(of: \.check) ?? 0
    let head = base + headSize
    let number = base.loadUnaligned(as: UInt64.self)
    let verdict = open(
      head, check, check: (head + check).loadUnaligned(as: (UInt64, UInt64).self), kind: GRASS_GROUP_WORDS_HEAD,
      number: number)
    guard verdict == .open else { return verdict }
    var sums: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &sums) {
      grass_check(
        $0.baseAddress?.assumingMemoryBound(to: UInt64.self), head.loadUnaligned(as: UInt64.self), head, UInt64(check))
    }
    (head + check).storeBytes(of: sums, as: (UInt64, UInt64).self)
    return .open
  }

  /// The same for last words as a whole.
  public func openWords(_ record: UnsafeMutableRawBufferPointer) -> Verdict {
    let headSize = MemoryLayout<grass_record>.size
    let wordsSize = MemoryLayout<grass_words_head>.size
    guard let base = record.baseAddress, record.count >= headSize + wordsSize + 8 else { return .none }
    let head = base.loadUnaligned(as: grass_record.self)
    guard head.length >= UInt64(wordsSize), head.length <= UInt64(GRASS_MAX_RECORD),
      grass_record_size(head.length) <= UInt64(record.count)
    else { return .none }
    let place = place(in: base + headSize, MemoryLayout<grass_words_head>.offset(of: \.check) ?? 0)
    let verdict = openWordsHead(record)
    guard verdict == .open else { return verdict }
    let rest = open(
      base + headSize + wordsSize, Int(head.length) - wordsSize, check: head.check, kind: GRASS_GROUP_WORDS,
      number: head.sequence,
      place: place)
    if rest == .open { grass_record_seal(base, head.sequence, head.length) }
    return rest
  }

  private func place(in bytes: UnsafeMutableRawPointer, _ length: Int) -> grass_group_place {
    (bytes + length - MemoryLayout<grass_group_place>.size).loadUnaligned(as: grass_group_place.self)
  }

  /// Opens `length` bytes of which the last say, in clear, under what the others are sealed, and zeroes these.
  private func open(
    _ bytes: UnsafeMutableRawPointer, _ length: Int, check: (UInt64, UInt64), kind: grass_group_kind, number: UInt64
  ) -> Verdict {
    let size = MemoryLayout<grass_group_place>.size
    let verdict = open(bytes, length - size, check: check, kind: kind, number: number, place: place(in: bytes, length))
    if verdict == .open { memset(bytes + length - size, 0, size) }
    return verdict
  }

  private func open(
    _ bytes: UnsafeMutableRawPointer, _ length: Int, check: (UInt64, UInt64), kind: grass_group_kind, number: UInt64,
    place: grass_group_place
  ) -> Verdict {
    guard let key = keys[place.generation] else {
      // Numbers that no device has counted to are no reason to ask it.
      return place.generation > (keys.keys.max() ?? 0) && place.generation < 1 << 32 ? .newer : .none
    }
    let text = bytes.assumingMemoryBound(to: UInt8.self)
    let isOpen = withUnsafeBytes(of: check) { check in
      grass_record_open_payload(
        key, number, kind.rawValue, place.edition, text, UInt64(length),
        check.baseAddress?.assumingMemoryBound(to: UInt8.self),
        text)
    }
    return isOpen ? .open : .none
  }
}
