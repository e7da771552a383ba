import CLayouts
import Memory
import Testing

/// What descriptions of page frames mean, by a rule made up: no kernel's numbers.
struct FrameWordTests {
  private static let rule: grass_frame_rule = {
    var rule = grass_frame_rule()
    (rule.lru, rule.head, rule.private_data, rule.swap_cache, rule.swap_backed, rule.poison) = (1, 2, 4, 8, 16, 32)
    rule.second_huge = 64
    rule.free = grass_page_type(value: 0xf100_0000, mask: 0xff00_0000)
    rule.offline = grass_page_type(value: 0xf200_0000, mask: 0xff00_0000)
    rule.slabs = grass_page_type(value: 0xf300_0000, mask: 0xff00_0000)
    rule.orders = 11
    return rule
  }()

  /// The class, the order, and the bits above.
  private static func word(
    _ frame: UInt64, _ rule: grass_frame_rule = rule, _ change: (inout grass_frame_marks) -> Void
  ) -> (kind: FrameClass?, order: UInt32, bits: UInt32) {
    var (rule, marks) = (rule, grass_frame_marks())
    change(&marks)
    let word = grass_frame_word(&rule, frame, &marks)
    return (FrameClass(rawValue: UInt8(word & 15)), word >> 4 & 31, word & ~511)
  }

  @Test func numbersAreTheSameInBothLanguages() {
    let pairs: [(FrameClass, grass_frame_class)] = [
      (.unknown, GRASS_FRAME_UNKNOWN), (.kernel, GRASS_FRAME_KERNEL), (.free, GRASS_FRAME_FREE),
      (.cache, GRASS_FRAME_CACHE), (.privateCache, GRASS_FRAME_PRIVATE_CACHE), (.user, GRASS_FRAME_USER),
      (.slab, GRASS_FRAME_SLAB), (.pageTable, GRASS_FRAME_PAGE_TABLE), (.offline, GRASS_FRAME_OFFLINE),
      (.poisoned, GRASS_FRAME_POISONED),
    ]
    #expect(pairs.count == FrameClass.allCases.count)
    for (own, other) in pairs { #expect(UInt32(own.rawValue) == other.rawValue) }
  }

  @Test func blocksReachAsFarAsTheyCan() {
    let hasTails = GRASS_FRAME_HAS_TAILS.rawValue
    #expect(Self.word(0x400) { ($0.type, $0.own) = (0xf100_0000, 10) } == (.free, 10, 0))
    // No free block begins there, or is so large.
    #expect(Self.word(0x401) { ($0.type, $0.own) = (0xf100_0000, 10) } == (.kernel, 0, 0))
    #expect(Self.word(0) { ($0.type, $0.own) = (0xf100_0000, 11) } == (.kernel, 0, 0))
    #expect(Self.word(0) { ($0.type, $0.own) = (0xf100_0000, .max) } == (.kernel, 0, 0))
    #expect(Self.word(8) { ($0.flags, $0.order) = (2 | 1, 3) } == (.cache, 3, hasTails))
    #expect(Self.word(9) { ($0.flags, $0.order) = (2 | 1, 3) } == (.cache, 0, hasTails))
    #expect(Self.word(0) { ($0.flags, $0.order) = (2 | 1, 32) } == (.cache, 0, hasTails))
    #expect(Self.word(9) { ($0.flags, $0.compound) = (1, 0xffff_ea00_0000_0201) }.bits == GRASS_FRAME_TAIL.rawValue)
    // Of huge pages later ones need not say anything.
    #expect(Self.word(512) { ($0.flags, $0.order, $0.second_flags) = (2, 9, 64) } == (.user, 9, 0))
    var older = Self.rule
    (older.destructor, older.second_huge) = (2, 0)
    #expect(Self.word(512, older) { ($0.flags, $0.order, $0.destructor) = (2, 9, 2) } == (.user, 9, 0))
    #expect(Self.word(512, older) { ($0.flags, $0.order, $0.destructor) = (2, 9, 1) } == (.kernel, 9, hasTails))
  }

  @Test func classesGoByMakedumpfilesRules() {
    func kind(_ change: (inout grass_frame_marks) -> Void) -> FrameClass? { Self.word(1, Self.rule, change).kind }
    #expect(kind { $0.flags = 1 } == .cache)
    #expect(kind { $0.flags = 1 | 4 } == .privateCache)
    #expect(kind { $0.flags = 8 | 16 } == .cache)
    // In the swap cache only where it is backed by swap, too.
    #expect(kind { $0.flags = 8 } == .kernel)
    #expect(kind { ($0.flags, $0.mapping) = (1 | 8 | 16, 0x8001) } == .user)
    #expect(kind { $0.type = 0xf200_0001 } == .offline)
    // What objects keep in that place is no mapping.
    #expect(kind { ($0.type, $0.mapping) = (0xf300_0000, 0x8001) } == .slab)
    #expect(kind { $0.mapping = 0x8000 } == .kernel)
    let broken = Self.word(1) { $0.flags = 1 | 32 }
    #expect(broken.kind == .cache && broken.bits & GRASS_FRAME_BROKEN.rawValue != 0)
    #expect(Self.word(2) { ($0.flags, $0.order) = (2 | 32, 1) }.kind == .poisoned)
  }
}
