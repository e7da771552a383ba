import Crypto
package import Memory

/// What was decided when an image was begun, kept beside it until it is whole: whoever goes on with it goes on with that.
///
/// A file of numbers of eight bytes, little endian, and of bytes and lists behind a number that counts them; the last 32 bytes are
/// SHA-256 of all others.
package struct ImagePlan: Sendable {
  /// What the image is of: another one is not gone on with.
  package var identity: String
  /// When it was begun.
  package var began: String
  package var contents: ImageContents

  private static let magic: UInt64 = 0x4e41_4c50_5353_5247  // "GRSSPLAN"

  package var bytes: [UInt8] {
    var writer = PlanWriter()
    writer.add(Self.magic)
    writer.add(Array(identity.utf8))
    writer.add(Array(began.utf8))
    contents.write(to: &writer)
    return writer.writer.bytes + Array(SHA256.hash(data: writer.writer.bytes))
  }

  package init(identity: String, began: String, contents: ImageContents) {
    (self.identity, self.began, self.contents) = (identity, began, contents)
  }

  /// The same with these registers in place of those of the same CPUs, and zeros where there are none as long.
  func with(_ registers: [Int: [UInt8]]) -> ImagePlan {
    var plan = self
    for (cpu, status) in contents.kernel?.registers ?? [:] {
      let other = registers[cpu].flatMap { $0.count == status.count ? $0 : nil }
      plan.contents.kernel?.registers[cpu] = other ?? [UInt8](repeating: 0, count: status.count)
    }
    return plan
  }

  /// Nil where the bytes are no whole plan: it was cut while it was written, before there was anything to go on with.
  package init?(_ bytes: [UInt8]) {
    let count = bytes.count - SHA256.byteCount
    guard count >= 0, SHA256.hash(data: bytes[..<count]) == Array(bytes[count...]) else { return nil }
    var reader = PlanReader(Array(bytes[..<count]))
    do throws(MemoryFault) {
      guard try reader.number() == Self.magic else { return nil }
      identity = try reader.text()
      began = try reader.text()
      contents = try ImageContents(plan: &reader)
    } catch {
      return nil
    }
  }
}

/// Appends what a plan has.
package struct PlanWriter {
  var writer = ByteWriter()

  package init() {}

  package var bytes: [UInt8] { writer.bytes }

  package mutating func add(_ number: UInt64) { writer.append(number) }

  package mutating func add(_ bytes: [UInt8]) {
    writer.append(UInt64(bytes.count))
    writer.bytes += bytes
  }

  mutating func add(_ segments: [MemorySegment]) {
    writer.append(UInt64(segments.count))
    for segment in segments { writer.append(segment.start.rawValue, segment.count) }
  }
}

/// Takes out what a plan has, one after the other.
package struct PlanReader {
  private let all: [UInt8]
  private var place = 0

  package init(_ bytes: [UInt8]) { all = bytes }

  package var isAtEnd: Bool { place == all.count }

  package mutating func number() throws(MemoryFault) -> UInt64 {
    let number = try ByteReader(all.span.bytes).u64(place)
    place += 8
    return number
  }

  package mutating func bytes() throws(MemoryFault) -> [UInt8] {
    let count = Int(clamping: try number())
    let bytes = try ByteReader(all.span.bytes).slice(place, count: count).copy()
    place += count
    return bytes
  }

  package mutating func text() throws(MemoryFault) -> String { String(decoding: try bytes(), as: UTF8.self) }

  mutating func segments() throws(MemoryFault) -> [MemorySegment] {
    let count = try number()
    guard count <= UInt64(all.count / 16) else {
      throw MemoryFault(.offset(place), .outOfBounds(size: Int(clamping: count), count: all.count))
    }
    var segments: [MemorySegment] = []
    for _ in 0..<count {
      segments.append(MemorySegment(start: PhysicalAddress(try number()), count: try number()))
    }
    return segments
  }
}
