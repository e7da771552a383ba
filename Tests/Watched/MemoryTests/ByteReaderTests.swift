import Testing

@testable import Memory

struct ByteReaderTests {
  static let bytes: [UInt8] = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88, 0x41, 0x42, 0x00, 0x43]

  @Test func loadsLittleEndianAtAnyOffset() throws {
    let reader = ByteReader(Self.bytes.span.bytes)
    #expect(try reader.u8(0) == 0x01)
    #expect(try reader.u16(1) == 0x0302)
    #expect(try reader.u32(3) == 0x0706_0504)
    #expect(try reader.u64(0) == 0x8807_0605_0403_0201)
    #expect(try reader.load(0, as: Int64.self) == Int64(bitPattern: 0x8807_0605_0403_0201))
    #expect(try reader.pointer(4) == VirtualAddress(0x4300_4241_8807_0605))
  }

  @Test(arguments: [-1, 5, 6, 11, 12, 13, .max, .min, .max - 7])
  func refusesWhatIsNotWhollyInside(offset: Int) {
    let reader = ByteReader(Self.bytes.span.bytes)
    let error = #expect(throws: MemoryFault.self) { try reader.u64(offset) }
    #expect(error == MemoryFault(.offset(offset), .outOfBounds(size: 8, count: 12)))
  }

  @Test func refusesEverythingOfNothing() {
    let reader = ByteReader([UInt8]().span.bytes)
    #expect(throws: MemoryFault.self) { try reader.u8(0) }
    #expect(throws: MemoryFault.self) { try reader.u64(0) }
    #expect(throws: MemoryFault.self) { try reader.u64(-8) }
    #expect((try? reader.slice(0, count: 0).count) == 0)
    #expect((try? reader.cString(0)) == [])
  }

  @Test func slices() throws {
    let reader = ByteReader(Self.bytes.span.bytes)
    let slice = try reader.slice(8, count: 4)
    #expect(slice.copy() == [0x41, 0x42, 0x00, 0x43])
    #expect(try slice.slice(4, count: 0).count == 0)
    #expect(throws: MemoryFault.self) { try slice.u8(4) }
    for (offset, count) in [(0, 5), (4, 1), (5, 0), (-1, 1), (0, -1), (1, .max), (.max, 1), (.min, 0)] {
      #expect(throws: MemoryFault.self) { try slice.slice(offset, count: count).count }
    }
  }

  @Test func readsStrings() throws {
    let reader = ByteReader(Self.bytes.span.bytes)
    #expect(try reader.cString(8) == [0x41, 0x42])
    #expect(try reader.cString(8, limit: 1) == [0x41])
    // No zero before the end: the end ends it.
    #expect(try reader.cString(11) == [0x43])
    #expect(try reader.cString(12) == [])
    #expect(try reader.cString(10, limit: .max) == [])
    #expect(try reader.cString(8, limit: 0) == [])
    #expect(try reader.cString(8, limit: -1) == [])
    for offset in [-1, 13, .max, .min] {
      #expect(throws: MemoryFault.self) { try reader.cString(offset) }
    }
  }
}

struct AddressTests {
  @Test func wrapsInsteadOfTrapping() {
    #expect(PhysicalAddress(.max) + 2 == PhysicalAddress(1))
    #expect(PhysicalAddress(1) - 2 == PhysicalAddress(.max))
    #expect(VirtualAddress(5) + .min == VirtualAddress(0x8000_0000_0000_0005))
    #expect(VirtualAddress(5) - .min == VirtualAddress(0x8000_0000_0000_0005))
    #expect(VirtualAddress(1).distance(from: VirtualAddress(2)) == .max)
    #expect(VirtualAddress(0xffff_8880_0000_0000).description == "0xffff888000000000")
  }

  @Test(arguments: [
    (0x1000 as UInt64, 1, true), (0x1000, 0x100, true), (0x10ff, 1, true), (0x10ff, 2, false), (0x1100, 0, false),
    (0x1100, 1, false), (0xfff, 1, false), (0xfff, 0x102, false), (0, 1, false), (.max, 1, false), (.max, .max, false),
    (0x1000, .max, false), (0x1000, -1, false),
  ])
  func segmentContains(address: UInt64, count: Int, expected: Bool) {
    let segment = MemorySegment(start: PhysicalAddress(0x1000), count: 0x100)
    #expect(segment.contains(PhysicalAddress(address), count: count) == expected)
  }

  @Test func segmentAtTheEndOfTheAddressSpace() {
    let segment = MemorySegment(start: PhysicalAddress(.max - 15), count: 16)
    #expect(segment.contains(PhysicalAddress(.max), count: 1))
    #expect(!segment.contains(PhysicalAddress(.max), count: 2))
    #expect(!segment.contains(PhysicalAddress(0), count: 1))
  }
}
