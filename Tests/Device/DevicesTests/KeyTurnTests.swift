import CMailbox
import CRegion
import Testing

/// What keys may have of a device, round by round and with time.
struct KeyTurnTests {
  /// A keyring in which slots 0 and 1 have sessions of two keys, which are the list's two lines.
  private final class Bench {
    let keyring = UnsafeMutablePointer<grass_keyring>.allocate(capacity: 1)
    let list = UnsafeMutablePointer<grass_key_list>.allocate(capacity: 1)

    init(requests: UInt32 = 0, kibibytes: UInt32 = 0) {
      keyring.initialize(to: grass_keyring())
      list.initialize(to: grass_key_list())
      list.pointee.count = 2
      list.pointee.lines.0.requests = requests
      list.pointee.lines.0.kibibytes = kibibytes
      keyring.pointee.beside.list = list
      keyring.pointee.owners.1 = 1
      keyring.pointee.owners.2 = GRASS_NO_SESSION
      keyring.pointee.sessions.1.line = 1
      grass_keyring_tell(keyring, 1)
    }

    deinit {
      keyring.deallocate()
      list.deallocate()
    }

    func mayAsk(_ slot: UInt32, at now: UInt64) -> Bool { grass_keyring_may_ask(keyring, slot, now) }
    func charge(_ slot: UInt32, requests: UInt64 = 0, bytes: UInt64 = 0, at now: UInt64) {
      grass_keyring_charge(keyring, slot, requests, bytes, now)
    }
  }

  private static let second: UInt64 = 1_000_000_000

  @Test("whoever has had his share of a round waits for the next one, and others do not")
  func rounds() {
    let bench = Bench()
    bench.charge(0, requests: 1, bytes: 255 << 10, at: 5)
    #expect(bench.mayAsk(0, at: 5))
    bench.charge(0, requests: 1, bytes: 1 << 20, at: 5)
    #expect(!bench.mayAsk(0, at: 5) && !bench.mayAsk(0, at: 100 * Self.second))
    #expect(bench.mayAsk(1, at: 5) && bench.mayAsk(2, at: 5))
    grass_keyring_tell(bench.keyring, 6)
    #expect(bench.mayAsk(0, at: 6))
  }

  @Test("of what a key may have in a second it may have all at once, and then waits for the rest")
  func rates() {
    let bench = Bench(requests: 10)
    let start = 1000 * Self.second
    var taken = 0
    while bench.mayAsk(0, at: start), taken < 1000 {
      bench.charge(0, requests: 1, at: start)
      taken += 1
    }
    #expect(taken == 11)
    for _ in 0..<1000 { bench.charge(1, requests: 1, at: start) }
    #expect(bench.mayAsk(1, at: start))
    #expect(!bench.mayAsk(0, at: start + Self.second / 20) && bench.mayAsk(0, at: start + Self.second / 10))
    // What it did not ask for in time is not kept for it.
    taken = 0
    let late = start + 3600 * Self.second
    while bench.mayAsk(0, at: late), taken < 1000 {
      bench.charge(0, requests: 1, at: late)
      taken += 1
    }
    #expect(taken == 11)
    // A clock that is read in another order than it is used lets nobody wait for ever.
    bench.charge(0, requests: 1, at: late - 5)
    #expect(bench.mayAsk(0, at: late + Self.second))
  }

  @Test("bytes are counted as they are told")
  func bytes() {
    let bench = Bench(kibibytes: 1024)
    let start = 1000 * Self.second
    bench.charge(0, bytes: 1 << 20, at: start)
    grass_keyring_tell(bench.keyring, start)
    #expect(bench.mayAsk(0, at: start))
    bench.charge(0, bytes: 1 << 20, at: start)
    grass_keyring_tell(bench.keyring, start)
    #expect(!bench.mayAsk(0, at: start) && bench.mayAsk(0, at: start + Self.second))
  }
}
