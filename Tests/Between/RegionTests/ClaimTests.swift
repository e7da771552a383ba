import Glibc
import Region
import Testing

/// How slots are lent, and what memory they take.
struct ClaimTests {
  /// Repeats `body` until it is true: a process that a test beside this one begins has its descriptors, and so its locks, until it
  /// runs its program.
  private static func eventually(_ body: () -> Bool) -> Bool {
    for _ in 0..<60_000 {
      if body() { return true }
      usleep(1000)
    }
    return false
  }

  @Test func sixtyFourThatWantFourAndStayAreServed() throws {
    let region = try SharedRegion(layout: RegionLayout())
    var claims: [SlotClaim] = []
    for _ in 0..<64 { claims.append(try region.claim(slots: 4)) }
    #expect(claims[0].slots == 0..<4)
    let slots = claims.flatMap { Array($0.slots) }
    #expect(Set(slots).count == slots.count)
    // All the rest, one by one, and then no more.
    while slots.count + claims.count - 64 < region.layout.slotCount { claims.append(try region.claim(slots: 4)) }
    let error = #expect(throws: RegionError.self) { try region.claim(slots: 1) }
    #expect(error?.reason == .noFreeSlot)
    // What came back is lent anew, to who asks first.
    let free = claims.remove(at: 10).slots
    #expect(Self.eventually { (try? region.claim(slots: 4))?.slots == free.prefix(1) })
  }

  @Test func aSmallRegionIsLentInBiggerParts() throws {
    let region = try SharedRegion(layout: RegionLayout(slots: 4))
    let first = try region.claim(slots: 3)
    let second = try region.claim(slots: 3)
    #expect(first.slots == 0..<3 && second.slots == 3..<4)
    #expect(throws: RegionError.self) { try region.claim(slots: 1) }
  }

  @Test func runsOfFreeSlotsAreTakenWhereTheyFit() throws {
    let region = try SharedRegion(layout: RegionLayout(slots: 8))
    var claims: [SlotClaim] = []
    for _ in 0..<8 { claims.append(try region.claim(slots: 1)) }
    // Free: 1, 3, 4, 5, of which four times the share of all is two.
    for slot in [5, 4, 3, 1] { claims.remove(at: slot) }
    #expect(Self.eventually { (try? region.claim(slots: 4))?.slots == 3..<5 })
    withExtendedLifetime(claims) {}
  }

  @Test func slotsThatNobodyHadTakeNoMemory() throws {
    let path = "/dev/shm/grass-claim-test-\(UInt64.random(in: 0 ... .max))"
    let layout = try RegionLayout(slots: 32)
    let region = try SharedRegion(path: path, layout: layout)
    func blocks() -> Int {
      var status = stat()
      stat(path, &status)
      return Int(status.st_blocks) * 512
    }
    let fixed = blocks()
    #expect(fixed >= layout.responseOffset(slot: 0) + 32 * 4096 && fixed < 2 << 20)
    var claim: SlotClaim? = try region.claim(slots: 1)
    #expect(claim?.slots == 0..<1)
    // They are not given back.
    for _ in 0..<2 {
      let taken = blocks() - fixed
      #expect(
        (layout.responseSize + layout.requestSize - 8192...layout.responseSize + layout.requestSize + 8192).contains(
          taken))
      claim = nil
    }
    withExtendedLifetime(region) {}
  }
}
