import Testing

@testable import Detection

/// When growing is a leak: of a host of 1,024 MiB, of which 600 are available.
struct LeakTests {
  private static let mebibyte: UInt64 = 1 << 20

  private func leak(_ learned: [String: String]?, elapsed: UInt64?) -> Leak {
    Leak(total: 1024 * Self.mebibyte, free: 600 * Self.mebibyte, learned: learned, elapsed: elapsed)
  }

  private func told(
    _ leak: Leak, _ mebibytes: UInt64, before: UInt64 = 0
  ) -> Sighting? {
    leak.sighting(
      .host, "a cache", "cache", mebibytes * Self.mebibyte, before: before * Self.mebibyte
    ).first
  }

  @Test func oneLookOnlySuspects() {
    let first = leak(["cache": "\(10 * Self.mebibyte)"], elapsed: nil)
    #expect(told(first, 60) == nil, "a twentieth of memory is 51 MiB")
    #expect(told(first, 62)?.severity == .warning)
    // What was not there counts as nothing.
    #expect(told(leak([:], elapsed: nil), 52)?.severity == .warning)
    // Where nothing was learned, only what nothing right takes.
    #expect(told(leak(nil, elapsed: nil), 255) == nil)
    #expect(told(leak(nil, elapsed: nil), 256)?.severity == .warning)
  }

  @Test func whatDoesNotGrowIsNoLeak() {
    let second = leak([:], elapsed: 1_000_000_000)
    #expect(told(second, 100, before: 100) == nil)
    #expect(told(second, 100, before: 101) == nil)
    #expect(told(leak([:], elapsed: 0), 101, before: 100) == nil, "the host's clock stood still")
    #expect(told(second, 100) == nil, "it was not there in the look before")
  }

  @Test func theForecastIsTheSeverity() throws {
    // 3 MiB a second: 200 s.
    let soon = try #require(told(leak([:], elapsed: 1_000_000_000), 103, before: 100))
    #expect(soon.severity == .critical)
    #expect(
      soon.title
        == "a cache has 103 MiB, 103 MiB more than was learned, and takes 3072 KiB more a second: memory lasts 3 min more"
    )
    // 1 MiB a second: 10 minutes; in ten seconds: an hour and forty minutes.
    #expect(told(leak([:], elapsed: 1_000_000_000), 101, before: 100)?.severity == .warning)
    #expect(told(leak([:], elapsed: 10_000_000_000), 101, before: 100)?.severity == .notice)
  }

  /// Numbers come from memory that may lie.
  @Test func hostileNumbersDoNotTrap() {
    let host = Leak(total: .max, free: .max, learned: ["cache": "18446744073709551615"], elapsed: 1)
    #expect(host.sighting(.host, "a cache", "cache", .max, before: 1).isEmpty)
    let other = Leak(total: 1, free: .max, learned: ["cache": "no number"], elapsed: 1)
    #expect(other.sighting(.host, "a cache", "cache", .max, before: 1).first?.severity != nil)
    #expect(Leak.time(.infinity) == "8760 h" && Leak.size(0) == "0 KiB")
  }
}
