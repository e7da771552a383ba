/// Physical memory made of bytes in this process: for tests, fuzzing and examples.
public struct SyntheticMemory: PhysicalMemory {
  private var contents: [(segment: MemorySegment, bytes: [UInt8])] = []

  public init() {}

  /// Memory of one segment.
  public init(_ bytes: [UInt8], at start: PhysicalAddress = PhysicalAddress(0)) {
    add(bytes, at: start)
  }

  public var segments: [MemorySegment] { contents.map(\.segment) }

  /// Adds a segment; segments are kept in ascending order.
  public mutating func add(_ bytes: [UInt8], at start: PhysicalAddress) {
    contents.append((MemorySegment(start: start, count: UInt64(bytes.count)), bytes))
    contents.sort { $0.segment.start < $1.segment.start }
  }

  /// Overwrites bytes of an existing segment.
  public mutating func write(_ bytes: [UInt8], at address: PhysicalAddress) {
    guard let index = contents.firstIndex(where: { $0.segment.contains(address, count: bytes.count) }) else {
      preconditionFailure("no segment holds \(bytes.count) bytes at \(address)")
    }
    let offset = Int(address.distance(from: contents[index].segment.start))
    contents[index].bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
  }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    batch.fill { (address, target) throws(MemoryFault) in
      guard let content = contents.first(where: { $0.segment.contains(address, count: target.count) }) else {
        throw MemoryFault(.physical(address), .absent)
      }
      let offset = Int(address.distance(from: content.segment.start))
      content.bytes.withUnsafeBytes { target.copyMemory(from: .init(rebasing: $0[offset..<offset + target.count])) }
    }
  }
}
