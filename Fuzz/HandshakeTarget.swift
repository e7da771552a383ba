import CMailbox
import CRegion
import CSeal
import Samples

/// What an input does to a device with keys before any session is there: one thing after the other, each a byte that says what,
/// with 128 for a round of the mailbox behind it, and what that one needs.
private struct HandshakeAttack {
  private let device: KeyedMailbox
  private var input: FuzzInput
  /// Handshakes that were begun, each with what came out of it.
  private var handshakes: [(state: Handshake, sequence: UInt64, slot: Int, client: Client?)] = []
  /// Records that lay in slots, as whoever listens has them.
  private var heard: [[UInt8]] = []
  private var sequence: UInt64 = 1 << 20

  init(_ device: KeyedMailbox, _ bytes: [UInt8]) {
    self.device = device
    input = FuzzInput(bytes)
  }

  private mutating func slot() -> Int { Int(input.next(UInt8.self)) % KeyedMailbox.slotCount }
  private mutating func person() -> Int { Int(input.next(UInt8.self)) % Person.all.count }

  /// Jumps of the clock, in nanoseconds: also a little back, as who reads it in another order sees it.
  static let jumps: [Int64] = [
    0, 10_000, 1_000_000, 5_000_000, 200_000_000, 2_000_000_000, 121_000_000_000, 901_000_000_000, -500_000, 1 << 45,
  ]

  mutating func run() {
    let last = input.next(UInt8.self)
    for _ in 0..<64 where !input.isEmpty {
      let operation = input.next(UInt8.self)
      perform(operation & 15)
      if operation & 128 != 0 { device.step(4_000_000) }
    }
    // Whatever it was: who has a key of the list gets in.
    device.setKey(0, UInt32(GRASS_ALL_RIGHTS))
    let (slot, pattern) = (Int(last) % KeyedMailbox.slotCount, last & 4 == 0 ? GRASS_NOISE_IK : GRASS_NOISE_XX)
    // As long as the true one.
    let garbage = [UInt8](repeating: last, count: 64)
    var client = device.requireSession(0, pattern: pattern, slot: slot, sequence: 1 << 30, ephemeral: 0x80) {
      sequence in
      // A message that is refused leaves the handshake as it was.
      guard last & 8 != 0 else { return }
      let message = requestBytes(GRASS_HANDSHAKE, count: UInt32(last >> 4 & 1), format: 2) + garbage
      device.write(plainRecord(message, sequence: sequence &+ 1 << 20), slot: slot)
      for _ in 0..<20 { device.step() }
    }
    let range = bytes(UInt64(0x123), UInt64(0)) + bytes(UInt32(100), UInt32(0))
    let answer = device.requireAnswer(&client, requestBytes(GRASS_GATHER, count: 1) + range, slot: slot)
    require(answer.suffix(100).elementsEqual(device.memory[0x123..<0x123 + 100]), "an honest session's memory")
  }

  private mutating func perform(_ operation: UInt8) {
    switch operation {
    case 0, 1:
      // A record of anything, sealed so that it is whole, or not.
      let (slot, epoch) = (slot(), UInt64(input.next(UInt8.self)))
      let number = UInt64(input.next(UInt16.self)) | epoch << UInt64(GRASS_EPOCH_SHIFT)
      let payload = input.bytes(min(Int(input.next(UInt8.self)) * 2, 464))
      say(operation == 0 ? plainRecord(payload, sequence: number) : bytes(number) + payload, slot)
    case 2, 3: begin(alters: operation == 3)
    case 4: answer(alters: false)
    case 5: answer(alters: true)
    case 6: ask(alters: false)
    case 7: ask(alters: true)
    case 8:
      // Something heard before: as it was, in any slot.
      guard !heard.isEmpty else { return }
      let record = heard[Int(input.next(UInt8.self)) % heard.count]
      device.write(record, slot: slot())
    case 9:
      // The same, under a new number.
      guard !heard.isEmpty else { return }
      let record = heard[Int(input.next(UInt8.self)) % heard.count]
      let length = min(
        Int(record.dropFirst(8).first ?? 0) | Int(record.dropFirst(9).first ?? 0) << 8, record.count - 40)
      guard length >= 0 else { return }
      sequence += 1
      say(plainRecord(Array(record[32..<32 + length]), sequence: sequence), slot())
    case 10: device.step(Self.jumps[Int(input.next(UInt8.self)) % Self.jumps.count])
    case 11: device.release(slot())
    case 12:
      let (person, how) = (person(), input.next(UInt8.self))
      let expiry = how & 32 == 0 ? 0 : (device.now + KeyedMailbox.offset) / 1_000_000_000 + UInt64(how >> 6)
      device.setKey(person, UInt32(how & 31), expiry: expiry)
    case 13: device.replaceKeys(input.next(UInt8.self))
    case 14: device.takeEvents(Int(input.next(UInt8.self)))
    default: device.monitors.work()
    }
  }

  private mutating func say(_ record: [UInt8], _ slot: Int) {
    device.write(record, slot: slot)
    if heard.count < 32, record.count >= 40 { heard.append(record) }
  }

  private mutating func altered(_ bytes: [UInt8]) -> [UInt8] {
    let (place, change) = (Int(input.next(UInt16.self)), input.next(UInt8.self))
    var bytes = bytes
    switch change {
    case 0: return Array(bytes.prefix(place % (bytes.count + 1)))
    case 1: return bytes + [UInt8](repeating: UInt8(truncatingIfNeeded: place), count: place % 32)
    default:
      if !bytes.isEmpty { bytes[place % bytes.count] ^= change }
      return bytes
    }
  }

  /// The first message of somebody's handshake.
  private mutating func begin(alters: Bool) {
    guard handshakes.count < 16 else { return }
    let (person, slot, how) = (person(), slot(), input.next(UInt8.self))
    let pattern = how & 1 == 0 ? GRASS_NOISE_IK : GRASS_NOISE_XX
    var state = Handshake(person, pattern: pattern, ephemeral: how & 6, header: device.header)
    var message = state.write()
    device.noteBeginning(person)
    if alters { message = altered(message) }
    sequence += 1
    say(plainRecord(message, sequence: sequence), slot)
    handshakes.append((state, sequence, slot, nil))
  }

  /// Somebody takes the answer to his first message, from its slot or another, and sends the last one where there is one.
  private mutating func answer(alters: Bool) {
    guard !handshakes.isEmpty else { return }
    let index = Int(input.next(UInt8.self)) % handshakes.count
    guard handshakes[index].client == nil, !handshakes[index].state.writes else { return }
    let how = input.next(UInt8.self)
    let slot = how & 128 == 0 ? handshakes[index].slot : Int(how) % KeyedMailbox.slotCount
    let record = device.response(slot)
    let sequence =
      how & 64 == 0 ? handshakes[index].sequence : record.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    guard let message = plainAnswer(record, sequence: sequence) else { return }
    if alters {
      let forged = altered(message)
      let before = handshakes[index].state
      require(!handshakes[index].state.read(forged) || forged == message, "an altered message was taken")
      handshakes[index].state = before
    }
    guard handshakes[index].state.read(message) else { return }
    if handshakes[index].state.hasEnded {
      finish(index)
    } else {
      var last = handshakes[index].state.write()
      finish(index)
      if how & 32 != 0 { last = altered(last) }
      self.sequence += 1
      say(plainRecord(last, sequence: self.sequence), slot)
    }
  }

  private mutating func finish(_ index: Int) {
    let client = handshakes[index].state.end()
    device.note(client)
    handshakes[index].client = client
  }

  /// A sealed record of a session that a client believes in.
  private mutating func ask(alters: Bool) {
    guard !handshakes.isEmpty else { return }
    let index = Int(input.next(UInt8.self)) % handshakes.count
    let (slot, how) = (slot(), input.next(UInt8.self))
    guard var client = handshakes[index].client else { return }
    let text = sealedRequest(how, &input)
    let sequence = client.next()
    let record = client.seal(text, slot: slot, sequence: sequence)
    handshakes[index].client = client
    device.note(.init(token: client.keys.token, record: record, text: text), slot: slot, sequence: sequence)
    say(alters ? altered(record) : record, slot)
  }
}

/// What a session may ask: by its first byte, and what more of the input that takes.
func sealedRequest(_ how: UInt8, _ input: inout FuzzInput) -> [UInt8] {
  switch how % 10 {
  case 0: return requestBytes(GRASS_HEARTBEAT)
  case 1: return requestBytes(GRASS_SESSION)
  case 2:
    let (start, count) = (UInt64(input.next(UInt16.self)), UInt32(input.next(UInt8.self)))
    return requestBytes(GRASS_GATHER, count: 1) + bytes(start, UInt64(0)) + bytes(count, UInt32(0))
  case 3:
    return requestBytes(GRASS_RUN) + Array("ps".utf8) + [UInt8](repeating: 0, count: 30) + bytes(UInt64(1000))
      + bytes(UInt32(7), UInt32(0)) + [UInt8](repeating: 0, count: 32)
  case 4: return requestBytes(GRASS_KEYS)
  case 5:
    let (action, person, rights) = (input.next(UInt8.self), input.next(UInt8.self), input.next(UInt8.self))
    return requestBytes(GRASS_SET_KEY) + bytes(UInt32(action & 3), UInt32(0))
      + Person.all[Int(person) % Person.all.count].publicKey + bytes(UInt32(rights), UInt32(0)) + bytes(UInt64(0))
      + [UInt8](repeating: 0x61, count: 8) + [UInt8](repeating: 0, count: 56)
  case 6: return requestBytes(GRASS_INFO)
  case 7: return requestBytes(GRASS_MONITORS)
  case 8:
    let certificate = input.bytes(Int(input.next(UInt8.self)))
    return requestBytes(GRASS_CERTIFY, count: UInt32(certificate.count)) + certificate
  default: return input.bytes(min(Int(input.next(UInt8.self)), 464))
  }
}

/// The device of both targets of keyed mailboxes as it begins.
private final class HandshakeGround: @unchecked Sendable {
  let device = KeyedMailbox()
  let start: KeyedMailbox.Snapshot
  static let shared = HandshakeGround()
  private init() { start = device.save() }
}

extension FuzzTarget {
  /// A device with keys, and everybody who can write into its slots: handshakes that are true, altered, repeated, moved, left half
  /// done, and anything else, while the list changes, slots are lent anew, and the clock jumps.
  ///
  /// No session is ever of somebody who did not prove his key, none has rights that the list does not give, and whoever is in the
  /// list gets one in the end. The first byte says in which slot and how.
  static let handshake = FuzzTarget(
    name: "handshake",
    seeds: {
      func begin(_ person: UInt8, _ slot: UInt8, _ how: UInt8) -> [UInt8] { [2 | 128, person, slot, how] }
      let (answer, ask) = ([4, 0, 0] as [UInt8], [6 | 128, 0, 0, 1] as [UInt8])
      return [
        // A session by each of the patterns, somebody who is not in the list, and one that is released and expires.
        [0] + begin(0, 0, 0) + answer + ask + [6 | 128, 0, 1, 2, 0x10, 0, 64],
        [4] + begin(1, 0, 1) + [4 | 128, 0, 0] + ask + [6 | 128, 0, 0, 2, 0, 0, 8],
        [8] + begin(4, 0, 0) + answer + ask + [11 | 128, 0],
        [0x0c] + begin(3, 2, 0) + answer + [6 | 128, 0, 2, 1, 12 | 128, 3, 0xff, 10, 6, 10, 5],
        // Altered, repeated, moved, garbage.
        [1] + [3 | 128, 0, 0, 0, 20, 0, 1] + begin(0, 0, 2) + [5, 0, 0, 40, 0, 4] + [7 | 128, 0, 0, 1, 50, 0, 9],
        [2] + begin(0, 0, 0) + [8 | 128, 0, 1, 9 | 128, 0, 0] + answer + ask + [8 | 128, 2, 0, 8 | 128, 2, 1],
        [3] + [
          0 | 128, 1, 0, 7, 0, 8, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0x77, 7, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8,
        ],
        // Somebody who is not in the list, where somebody has a session who is.
        [0] + begin(0, 0, 0) + answer + ask + begin(4, 0, 0) + [10, 4, 10, 4, 4, 1, 0] + [6 | 128, 1, 0, 1],
        // More happens than is taken note of.
        [0] + [UInt8](repeating: 0, count: 10).flatMap { _ in [13, 0, 13, 15] as [UInt8] } + [14, 9, 13, 0],
        // By an admin: a key that goes and comes, a certificate, a run.
        [0] + begin(0, 1, 0) + [4, 0, 0, 6 | 128, 0, 1, 1, 6 | 128, 0, 1, 5, 2, 1, 0, 6 | 128, 0, 1, 5, 1, 1, 1]
          + [6 | 128, 0, 1, 8, 4, 1, 2, 3, 4, 6 | 128, 0, 1, 3, 15 | 128, 13 | 128, 2, 14, 9],
      ]
    },
    prepare: { _ = HandshakeGround.shared },
    run: { bytes in
      let ground = HandshakeGround.shared
      ground.device.restore(ground.start)
      var attack = HandshakeAttack(ground.device, bytes)
      attack.run()
    })
}
