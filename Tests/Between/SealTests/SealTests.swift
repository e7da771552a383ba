import CSeal
import Testing

/// What Swift's side needs of the core, and no vector shows.
struct SealTests {
  private func pair(_ seed: UInt8) -> grass_key_pair {
    var pair = grass_key_pair()
    grass_make_key_pair(&pair, [UInt8](repeating: seed, count: 32))
    return pair
  }

  @Test("a generator that was never seeded gives nothing, and a short seed does not start it")
  func unseeded() {
    var random = grass_random()
    var bytes = [UInt8](repeating: 7, count: 40)
    #expect(!grass_random_fill(&random, &bytes, 40))
    #expect(bytes == [UInt8](repeating: 0, count: 40))
    grass_random_mix(&random, [1, 2, 3], 3)
    #expect(!grass_random_fill(&random, &bytes, 40))
    grass_random_mix(&random, [UInt8](repeating: 1, count: 32), 32)
    #expect(grass_random_fill(&random, &bytes, 40))
    #expect(Set(bytes).count > 20)
  }

  @Test("a generator's state does not hold what it gave", arguments: [1, 32, 480, 481, 2000])
  func erased(count: Int) {
    var random = grass_random()
    grass_random_mix(&random, [UInt8](repeating: 5, count: 32), 32)
    var given = [UInt8](repeating: 0, count: count)
    #expect(grass_random_fill(&random, &given, UInt64(count)))
    withUnsafeBytes(of: random) { state in
      // The buffer's used part, and with it the given bytes, are zero.
      let used = 480 - Int(random.left)
      #expect(state[32..<32 + used].allSatisfy { $0 == 0 })
    }
    // The same seed gives the same bytes, in whatever pieces.
    var again = grass_random()
    grass_random_mix(&again, [UInt8](repeating: 5, count: 32), 32)
    var pieces: [UInt8] = []
    while pieces.count < count {
      var piece = [UInt8](repeating: 0, count: min(7, count - pieces.count))
      #expect(grass_random_fill(&again, &piece, UInt64(piece.count)))
      pieces += piece
    }
    #expect(pieces == given)
    // What is mixed in changes what follows.
    grass_random_mix(&again, [9], 1)
    var (one, other) = ([UInt8](repeating: 0, count: 32), [UInt8](repeating: 0, count: 32))
    #expect(grass_random_fill(&random, &one, 32))
    #expect(grass_random_fill(&again, &other, 32))
    #expect(one != other)
  }

  @Test("a long record has a key of its own, which opens no other", arguments: [0, 1, 40_000])
  func longRecords(beyond: Int) {
    let key = (0..<32).map { UInt8($0 * 3 + 1) }, token: UInt64 = 0x1234_5678_9abc, slot: UInt32 = 3
    let text = (0..<Int(GRASS_LONG_RECORD) + beyond).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let data = withUnsafeBytes(of: token.littleEndian) { [UInt8]($0) }
    func seal(_ sequence: UInt64) -> (sealed: [UInt8], tag: [UInt8], nonce: [UInt8], own: [UInt8]) {
      var (sealed, tag) = ([UInt8](repeating: 0, count: text.count), [UInt8](repeating: 0, count: 16))
      var (nonce, own) = ([UInt8](repeating: 0, count: 12), [UInt8](repeating: 0, count: 32))
      grass_record_seal_payload(key, token, slot, sequence, text, UInt64(text.count), &sealed, &tag)
      grass_record_nonce(&nonce, slot, sequence)
      grass_record_key(&own, key, nonce)
      return (sealed, tag, nonce, own)
    }
    func opens(_ record: (sealed: [UInt8], tag: [UInt8], nonce: [UInt8], own: [UInt8]), with key: [UInt8]) -> Bool {
      var opened = [UInt8](repeating: 0, count: text.count)
      let isRight = grass_open(
        key, record.nonce, data, UInt64(data.count), record.sealed, UInt64(text.count), record.tag, &opened)
      return isRight && opened == text
    }
    let (one, next) = (seal(1 << 48 | 5), seal(1 << 48 | 6))
    #expect(one.own != next.own && one.own != key)
    #expect(opens(one, with: key) == (beyond == 0))
    #expect(opens(one, with: one.own) == (beyond > 0))
    #expect(!opens(next, with: one.own))
    var opened = [UInt8](repeating: 0, count: text.count)
    #expect(
      grass_record_open_payload(
        key, token, slot, 1 << 48 | 5, one.sealed, UInt64(text.count), one.tag, &opened))
    #expect(opened == text)
  }

  @Test("a handshake is refused that lacks a key, or has one too many, or a pattern that is none")
  func patterns() {
    var noise = grass_noise()
    var (own, ephemeral) = (pair(1), pair(2))
    let key = [UInt8](repeating: 3, count: 32)
    func start(_ pattern: UInt32, _ role: UInt32, remote: [UInt8]?, shared: [UInt8]?) -> grass_noise_error {
      grass_noise_start(&noise, pattern, role, nil, 0, &own, &ephemeral, remote, shared)
    }
    let (ik, xxpsk3) = (GRASS_NOISE_IK.rawValue, GRASS_NOISE_XXPSK3.rawValue)
    let (initiator, responder) = (GRASS_NOISE_INITIATOR.rawValue, GRASS_NOISE_RESPONDER.rawValue)
    #expect(start(4, 0, remote: nil, shared: nil) == GRASS_NOISE_BAD_PATTERN)
    #expect(start(0, 2, remote: nil, shared: nil) == GRASS_NOISE_BAD_PATTERN)
    #expect(start(ik, initiator, remote: nil, shared: nil) == GRASS_NOISE_BAD_PATTERN)
    #expect(start(ik, responder, remote: key, shared: nil) == GRASS_NOISE_BAD_PATTERN)
    #expect(start(xxpsk3, responder, remote: nil, shared: nil) == GRASS_NOISE_BAD_PATTERN)
    #expect(start(GRASS_NOISE_XX.rawValue, responder, remote: nil, shared: key) == GRASS_NOISE_BAD_PATTERN)
    #expect(!grass_noise_writes(&noise) && !grass_noise_has_ended(&noise))
    var length: UInt64 = 0
    var place = [UInt8](repeating: 0, count: 100)
    #expect(grass_noise_read(&noise, key, 32, &place, 100, &length) == GRASS_NOISE_BAD_TURN)
  }

  @Test("a public key of small order ends no handshake, and the true one is taken afterwards")
  func smallOrder() {
    var (own, ephemeral, others, theirs) = (pair(1), pair(2), pair(3), pair(4))
    var (initiator, responder) = (grass_noise(), grass_noise())
    let remote = withUnsafeBytes(of: own.public_key, Array.init)
    #expect(
      grass_noise_start(&initiator, GRASS_NOISE_IK.rawValue, 0, nil, 0, &others, &theirs, remote, nil) == GRASS_NOISE_OK
    )
    #expect(
      grass_noise_start(&responder, GRASS_NOISE_IK.rawValue, 1, nil, 0, &own, &ephemeral, nil, nil) == GRASS_NOISE_OK)
    var message = [UInt8](repeating: 0, count: 96)
    var text = [UInt8](repeating: 0, count: 96)
    var (length, got): (UInt64, UInt64) = (0, 0)
    #expect(grass_noise_write(&initiator, nil, 0, &message, 96, &length) == GRASS_NOISE_OK)
    #expect(length == 96)
    // The first 32 bytes are the ephemeral key: here 1, a point of order 4.
    let forged = [1] + [UInt8](repeating: 0, count: 31) + message[32...]
    #expect(grass_noise_read(&responder, forged, 96, &text, 96, &got) == GRASS_NOISE_BAD_KEY)
    #expect(grass_noise_read(&responder, message, 96, &text, 96, &got) == GRASS_NOISE_OK)
    #expect(grass_noise_writes(&responder))
  }

  @Test("wiping reaches each byte, at any place", arguments: [0, 1, 7, 8, 9, 63, 64, 100])
  func wipe(count: Int) {
    for start in 0..<9 {
      var bytes = [UInt8](repeating: 0xff, count: 120)
      bytes.withUnsafeMutableBytes { place in
        guard let base = place.baseAddress else { return }
        grass_wipe(base + start, UInt64(count))
      }
      let zeros = bytes.indices.filter { bytes[$0] == 0 }
      #expect(zeros == Array(start..<start + count))
    }
  }
}
