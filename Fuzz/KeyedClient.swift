import CRegion
import CSeal
import Samples

/// 32 bytes that are compared: a key.
struct KeyBytes: Hashable {
  private let words: SIMD4<UInt64>

  static let zero = KeyBytes([UInt8](repeating: 0, count: 32))

  init(_ place: UnsafeRawPointer) { words = place.loadUnaligned(as: SIMD4<UInt64>.self) }
  init<Value>(of value: Value) { words = withUnsafeBytes(of: value) { $0.loadUnaligned(as: SIMD4<UInt64>.self) } }
  init(_ bytes: [UInt8]) { words = bytes.withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) } }
}

/// A C value's bytes.
func rawBytes<Value>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

/// Somebody with a pair of keys, always the same.
struct Person: Sendable {
  let privateKey: [UInt8]
  let publicKey: [UInt8]
  /// What the list says of him at first; 0 where he is not in it.
  let rights: UInt32

  private init(_ number: UInt8, rights: UInt32) {
    privateKey = (0..<32).map { (UInt8($0) &* 151) ^ number &* 29 &+ 7 }
    var pair = grass_key_pair()
    grass_make_key_pair(&pair, privateKey)
    publicKey = rawBytes(pair.public_key)
    self.rights = rights
  }

  var pair: grass_key_pair {
    var pair = grass_key_pair()
    grass_make_key_pair(&pair, privateKey)
    return pair
  }

  /// The device itself.
  static let device = Person(0, rights: 0)
  /// Who asks: with all rights, with some, and with none.
  static let all = [
    Person(1, rights: UInt32(GRASS_ALL_RIGHTS)), Person(2, rights: GRASS_RIGHT_WATCH.rawValue),
    Person(3, rights: GRASS_RIGHT_WATCH.rawValue | GRASS_RIGHT_RUN.rawValue),
    Person(4, rights: GRASS_RIGHT_READ.rawValue),
    Person(5, rights: 0), Person(6, rights: 0),
  ]
}

/// A request's payload, without what follows its first part.
func requestBytes(_ operation: grass_operation, count: UInt32 = 0, format: UInt32 = 0) -> [UInt8] {
  bytes(operation.rawValue, count, format, UInt32(0))
}

/// A record in clear around a payload.
func plainRecord(_ payload: [UInt8], sequence: UInt64) -> [UInt8] {
  var record = [UInt8](repeating: 0, count: Int(grass_record_size(UInt64(payload.count))))
  record.withUnsafeMutableBytes { record in
    UnsafeMutableRawBufferPointer(rebasing: record[MemoryLayout<grass_record>.size...]).copyBytes(from: payload)
    grass_record_seal(record.baseAddress, sequence, UInt64(payload.count))
  }
  return record
}

/// The message in a handshake's answer; nil where it is none under this number, or a refusal.
func plainAnswer(_ record: [UInt8], sequence: UInt64) -> [UInt8]? {
  var length: UInt64 = 0
  guard
    grass_record_judge(record, UInt64(record.count), UInt64(record.count), sequence, nil, &length)
      == GRASS_RECORD_WHOLE
  else { return nil }
  let payload = record[MemoryLayout<grass_record>.size...].prefix(Int(length))
  let size = MemoryLayout<grass_response>.size
  guard payload.count >= size else { return nil }
  let response = payload.withUnsafeBytes { $0.loadUnaligned(as: grass_response.self) }
  guard response.status == GRASS_OK.rawValue, Int(response.count) == payload.count - size else { return nil }
  return Array(payload.dropFirst(size))
}

/// What is in a sealed record; nil where it does not open.
func opened(_ record: [UInt8], key: UnsafePointer<UInt8>, token: UInt64, slot: Int) -> [UInt8]? {
  let start = MemoryLayout<grass_record>.size
  let head = record.withUnsafeBytes { $0.loadUnaligned(as: grass_record.self) }
  guard head.length <= grass_record_capacity(UInt64(record.count)) else { return nil }
  var text = [UInt8](repeating: 0, count: Int(head.length))
  let isOpen = record.withUnsafeBufferPointer { record -> Bool in
    guard let base = record.baseAddress else { return false }
    return grass_record_open_payload(
      key, token, UInt32(slot), head.sequence, base + start, head.length, base + 16, &text)
  }
  return isOpen ? text : nil
}

/// A handshake as who begins it sees it.
struct Handshake {
  let person: Int
  let pattern: grass_noise_pattern
  private var noise = grass_noise()

  init(_ person: Int, pattern: grass_noise_pattern, ephemeral: UInt8, header: grass_header) {
    self.person = person
    self.pattern = pattern
    var (own, pair) = (Person.all[person].pair, grass_key_pair())
    grass_make_key_pair(&pair, (0..<32).map { UInt8($0) &* 7 ^ ephemeral ^ UInt8(person) << 5 })
    let isKnown = pattern == GRASS_NOISE_IK
    let error = grass_noise_start(
      &noise, pattern.rawValue, GRASS_NOISE_INITIATOR.rawValue, rawBytes(header),
      UInt64(MemoryLayout<grass_header>.size), &own, &pair, isKnown ? Person.device.publicKey : nil, nil)
    require(error == GRASS_NOISE_OK, "a handshake's start")
  }

  var hasEnded: Bool {
    var noise = noise
    return grass_noise_has_ended(&noise)
  }
  var writes: Bool {
    var noise = noise
    return grass_noise_writes(&noise)
  }

  /// The next message, as a request's payload.
  mutating func write() -> [UInt8] {
    let format = UInt32(noise.message)
    var message = [UInt8](repeating: 0, count: 128)
    var length: UInt64 = 0
    let error = grass_noise_write(&noise, nil, 0, &message, UInt64(message.count), &length)
    require(error == GRASS_NOISE_OK, "a message that cannot be written")
    return requestBytes(GRASS_HANDSHAKE, count: pattern.rawValue, format: format) + message.prefix(Int(length))
  }

  /// Takes the device's message; false where it is not for this one.
  mutating func read(_ message: [UInt8]) -> Bool {
    var text = [UInt8](repeating: 0, count: Int(GRASS_MAX_CERTIFICATE))
    var length: UInt64 = 0
    return grass_noise_read(&noise, message, UInt64(message.count), &text, UInt64(text.count), &length)
      == GRASS_NOISE_OK
  }

  /// The session that it makes.
  mutating func end() -> Client {
    var (send, receive) = (grass_cipher(), grass_cipher())
    require(grass_noise_split(&noise, &send, &receive) == GRASS_NOISE_OK, "a handshake's end")
    var keys = grass_session_keys()
    grass_session_keys_start(&keys, rawBytes(send.key), rawBytes(receive.key), rawBytes(noise.hash))
    return Client(
      person: person, keys: keys, request: rawBytes(send.key), response: rawBytes(receive.key),
      hash: rawBytes(noise.hash))
  }
}

/// A session as its client has it.
struct Client {
  let person: Int
  var keys: grass_session_keys
  /// What the handshake gave.
  let request, response, hash: [UInt8]
  /// Of the last record; the epoch comes to it.
  var number: UInt64 = 1000

  private func keys(of sequence: UInt64) -> grass_epoch_keys? {
    var keys = keys
    return grass_session_keys_of(&keys, UInt32(grass_epoch(sequence)))?.pointee
  }

  /// The number of a record that is sealed next, in this epoch.
  mutating func next() -> UInt64 {
    number += 1
    return number | UInt64(keys.epoch) << UInt64(GRASS_EPOCH_SHIFT)
  }

  /// A sealed record around a payload; its number's epoch is one that this end knows.
  func seal(_ text: [UInt8], slot: Int, sequence: UInt64) -> [UInt8] {
    guard let of = keys(of: sequence) else { fatalError("no keys of epoch \(grass_epoch(sequence))") }
    var (sealed, tag) = (text, [UInt8](repeating: 0, count: 16))
    grass_record_seal_payload(
      rawBytes(of.request), keys.token, UInt32(slot), sequence, text, UInt64(text.count), &sealed, &tag)
    let padding = [UInt8](repeating: 0, count: (8 - text.count % 8) % 8)
    return bytes(sequence, UInt64(text.count)) + tag + sealed + padding + bytes(sequence)
  }

  /// What an answer says; nil where it is none to this number, or not the device's.
  func open(_ record: [UInt8], slot: Int, sequence: UInt64) -> [UInt8]? {
    guard record.withUnsafeBytes({ $0.loadUnaligned(as: UInt64.self) }) == sequence, let of = keys(of: sequence) else {
      return nil
    }
    return opened(record, key: rawBytes(of.response), token: keys.token, slot: slot)
  }
}
