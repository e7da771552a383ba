import Testing

@testable import Memory

struct ReadBatchTests {
  static let memory = SyntheticMemory([UInt8](0..<64), at: PhysicalAddress(0x1000))

  @Test func readsManyAtOnce() throws {
    var batch = ReadBatch<PhysicalAddress>()
    let first = batch.add(PhysicalAddress(0x1004), count: 4)
    let empty = batch.add(PhysicalAddress(0xdead), count: 0)
    let absent = batch.add(PhysicalAddress(0x103f), count: 2)
    let last = batch.add(PhysicalAddress(0x103e), count: 2)
    let wrapped = batch.add(PhysicalAddress(.max), count: 2)
    #expect(batch.byteCount == 10)
    Self.memory.read(&batch)
    #expect(try batch.reader(first).copy() == [4, 5, 6, 7])
    #expect(try batch.reader(empty).count == 0)
    #expect(try batch.reader(last).copy() == [62, 63])
    for (entry, address) in [(absent, 0x103f as UInt64), (wrapped, .max)] {
      #expect(!batch.succeeded(entry))
      let fault = #expect(throws: MemoryFault.self) { try batch.reader(entry).count }
      #expect(fault == MemoryFault(.physical(PhysicalAddress(address)), .absent))
    }
    #expect(batch.bytes == [4, 5, 6, 7, 0, 0, 62, 63, 0, 0])
  }

  /// A batch that is read again forgets what failed before.
  @Test func readsAgain() throws {
    var memory = SyntheticMemory([1, 2], at: PhysicalAddress(0))
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0x100), count: 1)
    batch.add(PhysicalAddress(0), count: 1)
    memory.read(&batch)
    #expect(!batch.succeeded(0) && batch.succeeded(1))
    memory.add([9], at: PhysicalAddress(0x100))
    memory.write([8], at: PhysicalAddress(0))
    memory.read(&batch)
    #expect(try batch.reader(0).copy() == [9])
    #expect(try batch.reader(1).copy() == [8])
  }

  @Test func failsAsAWhole() {
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0), count: 3)
    batch.add(PhysicalAddress(1), count: 0)
    let fault = MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("gone"))
    batch.fail(fault)
    #expect(batch.bytes == [0, 0, 0])
    for entry in 0..<2 { #expect(throws: fault) { try batch.reader(entry).count } }
  }

  @Test func adoptsPieces() throws {
    // Three entries of 4, 2 and 3 bytes; the first and the last cut in two.
    var batch = ReadBatch<VirtualAddress>()
    for (address, count) in [(0x10 as UInt64, 4), (0x20, 2), (0x30, 3)] {
      batch.add(VirtualAddress(address), count: count)
    }
    var pieces = ReadBatch<PhysicalAddress>()
    for (address, count) in [(0x1000 as UInt64, 3), (0x1010, 1), (0x1020, 2), (0xbad, 1), (0x1030, 2)] {
      pieces.add(PhysicalAddress(address), count: count)
    }
    Self.memory.read(&pieces)
    batch.adopt(pieces, owners: [0, 0, 1, 2, 2])
    #expect(try batch.reader(0).copy() == [0, 1, 2, 16])
    #expect(try batch.reader(1).copy() == [32, 33])
    let fault = #expect(throws: MemoryFault.self) { try batch.reader(2).count }
    #expect(fault == MemoryFault(.physical(PhysicalAddress(0xbad)), .absent))
    // Nothing of an entry that failed can be seen, not even the piece that did not.
    #expect(batch.bytes == [0, 1, 2, 16, 32, 33, 0, 0, 0])
  }

  @Test func presetFaultsComeFirst() {
    var batch = ReadBatch<VirtualAddress>()
    batch.add(VirtualAddress(7), count: 1)
    var pieces = ReadBatch<PhysicalAddress>()
    pieces.add(PhysicalAddress(.max), count: 1)
    Self.memory.read(&pieces)
    let preset = MemoryFault(.virtual(VirtualAddress(7)), .notCanonical)
    batch.adopt(pieces, owners: [0], preset: [0: preset])
    #expect(throws: preset) { try batch.reader(0).count }
  }

  /// What the watched memory makes a view ask for is refused before it takes this process's memory.
  @Test func refusesMoreThanItHolds() throws {
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0x1000), count: 2)
    let refused = [
      batch.add(PhysicalAddress(0x1000), count: .max), batch.add(PhysicalAddress(0x1000), count: .max),
      batch.add(PhysicalAddress(0x1000), count: ReadBatch<PhysicalAddress>.byteLimit),
    ]
    let last = batch.add(PhysicalAddress(0x1002), count: 2)
    #expect(batch.byteCount == 4)
    Self.memory.read(&batch)
    #expect(try batch.reader(0).copy() == [0, 1])
    #expect(try batch.reader(last).copy() == [2, 3])
    for entry in refused {
      let fault = #expect(throws: MemoryFault.self) { try batch.reader(entry).count }
      guard case .tooLarge(_, 536_870_910) = fault?.reason, fault?.place == .physical(PhysicalAddress(0x1000)) else {
        Issue.record("not refused for its size: \(String(describing: fault))")
        continue
      }
    }
    #expect(
      batch.faults[refused[2]]?.description
        == "physical address 0x1000 with 536870912 bytes is too much to read at once: the batch has room for 536870910 "
        + "of at most 536870912 bytes")
    // It stays refused whichever way the batch is filled.
    var pieces = ReadBatch<PhysicalAddress>()
    pieces.add(PhysicalAddress(0x1000), count: 4)
    Self.memory.read(&pieces)
    batch.adopt(pieces, owners: [0])
    #expect(refused.allSatisfy { !batch.succeeded($0) } && batch.succeeded(0))
    batch.fillAll { buffer in
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      return [:]
    }
    #expect(refused.allSatisfy { !batch.succeeded($0) } && batch.succeeded(0))
  }
}

struct SyntheticMemoryTests {
  @Test func keepsSegmentsInOrder() throws {
    var memory = SyntheticMemory()
    memory.add([3], at: PhysicalAddress(0x3000))
    memory.add([1], at: PhysicalAddress(0x1000))
    #expect(memory.segments.map(\.start) == [PhysicalAddress(0x1000), PhysicalAddress(0x3000)])
    #expect(try memory.read(PhysicalAddress(0x3000), count: 1) == [3])
    #expect(throws: MemoryFault.self) { try memory.read(PhysicalAddress(0x2000), count: 1) }
    #expect(throws: MemoryFault.self) { try memory.read(PhysicalAddress(0x1000), count: 2) }
  }
}
