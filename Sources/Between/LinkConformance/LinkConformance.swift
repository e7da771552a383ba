public import Links

/// What every link promises, as checks that run wherever the link does.
///
/// The region behind the links needs a scratch part of 64 KiB or more; its monitor takes no part.
public struct LinkConformance {
  /// A promise that was not kept.
  public struct Broken: Error, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
  }

  public enum Check: String, CaseIterable, Sendable {
    case readAfterWrite, writesInOrder, fencedWriteAfterRead, manyInFlight, emptyOperations
    case wrongToken, outOfRange, overflowingOffset, writeOfReadOnlyPart, readOfWriteOnlyPart, slotsAreOnesOwn
  }

  private let connect: () throws(LinkError) -> any Link

  /// - Parameter connect: makes a new connection to the same region each time.
  public init(connect: @escaping () throws(LinkError) -> any Link) { self.connect = connect }

  public func run(_ check: Check) throws {
    switch check {
    case .readAfterWrite: try readAfterWrite()
    case .writesInOrder: try writesInOrder()
    case .fencedWriteAfterRead: try fencedWriteAfterRead()
    case .manyInFlight: try manyInFlight()
    case .emptyOperations: try emptyOperations()
    case .wrongToken:
      try expect(.wrongToken) { link throws(LinkError) in
        var part = link.grant.scratch
        part.token.low ^= 1
        _ = try link.read(8, from: part, offset: part.range.lowerBound)
      }
    case .outOfRange:
      for (before, count) in [(0, 1), (8, 9), (-1, 0)] {
        try expect(.outOfRange) { link throws(LinkError) in
          let part = link.grant.scratch
          _ = try link.read(count, from: part, offset: part.range.upperBound - before)
        }
        try expect(.outOfRange) { link throws(LinkError) in
          let part = link.grant.requests
          try link.write([UInt8](repeating: 0xff, count: count), to: part, offset: part.range.upperBound - before)
        }
      }
    case .overflowingOffset:
      for offset in [Int.max, Int.max - 7, -1, -8, Int.min] {
        try expect(.outOfRange) { link throws(LinkError) in
          _ = try link.read(16, from: link.grant.scratch, offset: offset)
        }
        try expect(.outOfRange) { link throws(LinkError) in
          try link.write([UInt8](repeating: 0xff, count: 16), to: link.grant.scratch, offset: offset)
        }
      }
    case .writeOfReadOnlyPart:
      try expect(.notWritable) { link throws(LinkError) in
        try link.write([1], to: link.grant.responses, offset: link.grant.responses.range.lowerBound)
      }
    case .readOfWriteOnlyPart:
      try expect(.notReadable) { link throws(LinkError) in
        _ = try link.read(8, from: link.grant.requests, offset: link.grant.requests.range.lowerBound)
      }
    case .slotsAreOnesOwn:
      let one = try connect()
      let other = try connect()
      try require(!one.grant.slots.overlaps(other.grant.slots), "two sessions were granted the same slot")
      one.close()
      other.close()
    }
  }

  private func word(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } }

  private func value(_ bytes: [UInt8]) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }

  private func deadline() -> ContinuousClock.Instant { .now + .seconds(10) }

  private func readAfterWrite() throws {
    let link = try connect()
    let part = link.grant.scratch
    let start = part.range.lowerBound
    let buffer = try link.makeBuffer(byteCount: 16384)
    for (offset, count) in [(0, 8), (1, 7), (3, 4096), (4090, 13), (64, 8192)] {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
      buffer.store(bytes, at: 0)
      try link.postWrite(buffer, 0..<count, to: part, offset: start + offset, fenced: false)
      let read = try link.postRead(
        into: buffer, 8192..<8192 + count, from: part, offset: start + offset, awaiting: nil)
      try link.wait(for: read, until: deadline())
      try require(buffer.load(8192..<8192 + count) == bytes, "a read after a write of \(count) bytes does not see it")
    }
  }

  private func writesInOrder() throws {
    let writer = try connect()
    let observer = try connect()
    let part = writer.grant.scratch
    let start = part.range.lowerBound
    try writer.write([UInt8](repeating: 0, count: 8192), to: part, offset: start)
    let buffer = try writer.makeBuffer(byteCount: 8 * 2000)
    var posted: UInt64 = 0
    for turn in 1...2000 {
      buffer.store(word(UInt64(turn)), at: (turn - 1) * 8)
      let range = (turn - 1) * 8..<turn * 8
      try writer.postWrite(buffer, range, to: part, offset: start, fenced: false)
      posted = try writer.postWrite(buffer, range, to: part, offset: start + 4096, fenced: false)
      if turn % 50 == 0 {
        _ = try writer.poll()
        let later = value(try observer.read(8, from: observer.grant.scratch, offset: start + 4096))
        let earlier = value(try observer.read(8, from: observer.grant.scratch, offset: start))
        try require(earlier >= later, "write \(later) was seen before the one posted before it")
      }
    }
    try writer.wait(for: posted, until: deadline())
    let last = value(try observer.read(8, from: observer.grant.scratch, offset: start + 4096))
    try require(last == 2000, "an acknowledged write is not seen")
  }

  private func fencedWriteAfterRead() throws {
    let link = try connect()
    let part = link.grant.scratch
    let size = 32 * 1024
    let buffer = try link.makeBuffer(byteCount: size * 2)
    for turn in 0..<20 as Range<UInt8> {
      try link.write([UInt8](repeating: turn, count: size), to: part, offset: part.range.lowerBound)
      buffer.store([UInt8](repeating: turn + 1, count: size), at: 0)
      let read = try link.postRead(
        into: buffer, size..<size * 2, from: part, offset: part.range.lowerBound, awaiting: nil)
      let write = try link.postWrite(buffer, 0..<size, to: part, offset: part.range.lowerBound, fenced: true)
      try require(write == read + 1, "operations are not numbered one after the other")
      try link.wait(for: write, until: deadline())
      try require(
        buffer.load(size..<size * 2).allSatisfy { $0 == turn }, "a fenced write overtook the read before it")
    }
  }

  private func manyInFlight() throws {
    let link = try connect()
    let part = link.grant.scratch
    let count = 2000
    let buffer = try link.makeBuffer(byteCount: count * 24)
    for index in 0..<count {
      let cell = part.range.lowerBound + (index * 24) % 60_000 / 8 * 8
      buffer.store(word(UInt64(index) &* 0x9e37_79b9_7f4a_7c15), at: index * 8)
      try link.postWrite(buffer, index * 8..<index * 8 + 8, to: part, offset: cell, fenced: true)
      let landing = count * 8 + index * 8
      try link.postRead(into: buffer, landing..<landing + 8, from: part, offset: cell, awaiting: nil)
    }
    try link.wait(for: UInt64(count * 2), until: deadline())
    try require(
      buffer.load(count * 8..<count * 16) == buffer.load(0..<count * 8), "of many operations in flight some went wrong")
    try require(try link.poll() == UInt64(count * 2), "completions are not counted")
  }

  private func emptyOperations() throws {
    let link = try connect()
    let part = link.grant.scratch
    try link.write([], to: part, offset: part.range.upperBound)
    try require(try link.read(0, from: part, offset: part.range.lowerBound).isEmpty, "an empty read has bytes")
  }

  /// Runs an access that must be refused; afterwards the link must have ended, and a new one work.
  private func expect(_ fault: AccessFault, _ access: (any Link) throws(LinkError) -> Void) throws {
    let link = try connect()
    let before = try link.read(256, from: link.grant.scratch, offset: link.grant.scratch.range.upperBound - 256)
    let first = failure { () throws(LinkError) in try access(link) }
    try require(first?.reason == .accessDenied(fault), "expected \(fault), got \(first?.description ?? "no error")")
    let second = failure { () throws(LinkError) in
      _ = try link.read(8, from: link.grant.scratch, offset: link.grant.scratch.range.lowerBound)
    }
    try require(second == first, "the link did not stay ended: \(second?.description ?? "no error")")
    link.close()
    let next = try connect()
    let after = try next.read(256, from: next.grant.scratch, offset: next.grant.scratch.range.upperBound - 256)
    try require(before == after, "a refused access changed bytes")
  }
}

func require(_ condition: Bool, _ otherwise: String) throws(LinkConformance.Broken) {
  if !condition { throw LinkConformance.Broken(otherwise) }
}

/// The error that `body` ends with, or nil.
func failure(_ body: () throws(LinkError) -> Void) -> LinkError? {
  do throws(LinkError) {
    try body()
    return nil
  } catch {
    return error
  }
}
