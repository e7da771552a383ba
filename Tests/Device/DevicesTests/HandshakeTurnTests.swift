import CMailbox
import CRegion
import Region
import Testing

/// When the handshakes of a device's slots are answered.
struct HandshakeTurnTests {
  private static let second: UInt64 = 1_000_000_000

  /// Somebody who is stopped for an hour after a handshake has not spent it on the handshake: nobody waits for hours after it.
  @Test func aPauseIsNoHandshake() throws {
    func place<Value>(_ value: Value) -> UnsafeMutablePointer<Value> {
      let place = UnsafeMutablePointer<Value>.allocate(capacity: 1)
      place.initialize(to: value)
      return place
    }
    let keyring = place(grass_keyring())
    let (list, group, events) = (place(grass_key_list()), place(grass_group()), place(grass_key_events()))
    defer {
      keyring.deallocate()
      list.deallocate()
      group.deallocate()
      events.deallocate()
    }
    var header = try RegionLayout(slots: 2, keys: true).header
    let start = 1000 * Self.second
    grass_keyring_start(
      keyring, grass_keyring_places(list: list, group: group, events: events), &header, nil,
      [UInt8](repeating: 7, count: 64), 0, start)
    grass_keyring_tell(keyring, start)
    #expect(grass_keyring_may_shake(keyring, 0))
    // What is none costs its turn, too.
    var answer = [UInt8](repeating: 0, count: 64)
    let length = grass_keyring_handshake(keyring, 0, [UInt8](repeating: 0, count: 16), 16, &answer, 64, start)
    #expect(length == 16)
    #expect(!grass_keyring_may_shake(keyring, 1))
    let later = start + 3600 * Self.second
    grass_keyring_tell(keyring, later)
    #expect(!grass_keyring_may_shake(keyring, 1))
    grass_keyring_tell(keyring, later + Self.second)
    #expect(grass_keyring_may_shake(keyring, 1))
  }
}
