import CPageWalk
import Memory
import Samples
import Testing

@testable import Paging

/// The walk in C, which devices have, and ``PageWalker`` give the same answer, whatever the tables hold.
struct PageWalkAgreementTests {
  static let formats: [PageTableFormat] = [
    .x86_64FourLevel, .x86_64FiveLevel, .arm64.size4K39Bits, .arm64.size4K48Bits, .arm64.size4K52Bits,
    .arm64.size16K36Bits, .arm64.size16K47Bits, .arm64.size16K48Bits, .arm64.size16K52Bits, .arm64.size64K42Bits,
    .arm64.size64K48Bits, .arm64.size64K52Bits,
  ]

  /// Numbers that look random, the same each time.
  struct Numbers {
    var state: UInt64

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ state >> 29
    }

    mutating func below(_ limit: Int) -> Int { Int(next() >> 8 % UInt64(limit)) }
  }

  /// What the walk in C says, as ``PageWalker`` would say it.
  static func walk(
    _ bytes: [UInt8], _ format: PageTableFormat, root: PhysicalAddress, _ address: VirtualAddress
  ) -> Result<PageWalker.Mapping, MemoryFault> {
    var walk = grass_page_walk()
    let fault = page_walk(
      format.number, root.rawValue, address.rawValue, bytes, UInt64(bytes.count), &walk)
    let level = Int(walk.level)
    switch fault {
    case GRASS_FAULT_NONE:
      return .success(.init(physical: PhysicalAddress(walk.physical), remaining: Int(walk.remaining)))
    case GRASS_FAULT_NOT_CANONICAL: return .failure(MemoryFault(.virtual(address), .notCanonical))
    case GRASS_FAULT_NOT_PRESENT:
      return .failure(MemoryFault(.virtual(address), .notPresent(level: level, entry: walk.entry)))
    default: return .failure(MemoryFault(.virtual(address), .badEntry(level: level, entry: walk.entry)))
    }
  }

  /// Tables of entries that lead to each other, out of the memory, or nowhere; roots at any byte.
  @Test(arguments: formats, 0..<8 as Range<UInt64>)
  func ofHostileTables(format: PageTableFormat, seed: UInt64) {
    var numbers = Numbers(state: seed << 32 | UInt64(format.number))
    var bytes = [UInt8](repeating: 0, count: 64 << 12)
    for place in stride(from: 0, to: bytes.count, by: 8) {
      var entry = numbers.next()
      // Most name something in the memory, are in use, and are no large page.
      if numbers.below(8) > 0 { entry = entry & ~0x000f_ffff_ffff_f300 | UInt64(numbers.below(4)) << 16 }
      if numbers.below(8) > 0 { entry |= 1 }
      if numbers.below(8) > 0 { entry = format.number < 16 ? entry & ~0x80 : entry | 2 }
      withUnsafeBytes(of: entry) { bytes.replaceSubrange(place..<place + 8, with: $0) }
    }
    let walker = PageWalker(memory: SyntheticMemory(bytes), format: format)
    var asked: [(address: VirtualAddress, root: PhysicalAddress)] = []
    for _ in 0..<2000 {
      var address = numbers.next()
      // Half of them canonical.
      if numbers.below(2) == 0 {
        let unused = UInt64(64 - format.virtualBits)
        address = (address << unused) >> unused
        if numbers.below(2) == 0 { address |= ~(UInt64.max >> unused) }
      }
      let root =
        switch numbers.below(4) {
        case 0: numbers.next()
        case 1: UInt64(numbers.below(bytes.count + 64))
        default: UInt64(numbers.below(bytes.count)) & ~0xfff
        }
      asked.append((VirtualAddress(address), PhysicalAddress(root)))
    }
    var mapped = 0
    for (index, result) in walker.translate(asked).enumerated() {
      let (address, root) = asked[index]
      #expect(result == Self.walk(bytes, format, root: root, address), "\(address) below \(root)")
      if case .success = result { mapped += 1 }
    }
    #expect(mapped > 50 && mapped < 1950)
  }

  /// An entry lies at a multiple of its size: what a root has below that does not count.
  @Test(arguments: formats)
  func ofUnalignedRoots(format: PageTableFormat) {
    var bytes = [UInt8](repeating: 0, count: 1 << 18)
    for place in stride(from: 0, to: bytes.count, by: 8) { bytes[place] = 3 }
    let walker = PageWalker(memory: SyntheticMemory(bytes), format: format)
    for low: UInt64 in 0..<8 {
      let result = walker.translate([(VirtualAddress(8), PhysicalAddress(0x1_0000 + low))])[0]
      #expect(result == .success(.init(physical: PhysicalAddress(8), remaining: format.pageSize - 8)))
      #expect(result == Self.walk(bytes, format, root: PhysicalAddress(0x1_0000 + low), VirtualAddress(8)))
    }
  }

  @Test func noSuchFormat() {
    var walk = grass_page_walk()
    for format: UInt32 in [0, 3, 15, 26, .max] {
      #expect(page_walk(format, 0, 0, [], 0, &walk) != GRASS_FAULT_NONE)
    }
  }
}
