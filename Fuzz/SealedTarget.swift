import CMailbox
import CRegion
import CSeal
import Glibc
import Keys
import Records
import Remote
import Samples

/// One end of a session: in C, or the remote side's own.
private final class SealedEnd {
  var client: Client
  /// The remote side's, where it is that one.
  private let sealing: Sealing?
  /// Under which numbers something was asked in each slot.
  var asked: [Int: [UInt64]] = [:]
  /// The keys of what is said to all, as far as this end was told.
  var group: GroupKeys
  /// The newest line that the remote side opened, without its epoch, and its epoch.
  private var newestLine: UInt64 = 0
  private var epochOfLine: UInt64 = 1

  init(_ client: Client, sealing: Sealing?, group: GroupKeys) {
    self.client = client
    self.sealing = sealing
    self.group = group
  }

  var isRemote: Bool { sealing != nil }

  /// Seals a request under the next number; nil where there is no other number.
  func seal(_ text: [UInt8], slot: Int) -> (sequence: UInt64, record: [UInt8])? {
    guard let sealing else {
      guard client.number < KeyedMailbox.numbers else { return nil }
      let sequence = client.next()
      return (sequence, client.seal(text, slot: slot, sequence: sequence))
    }
    guard let sequence = sealing.next() else { return nil }
    var record = [UInt8](repeating: 0, count: Int(grass_record_size(UInt64(text.count))))
    record.withUnsafeMutableBytes { record in
      UnsafeMutableRawBufferPointer(rebasing: record[MemoryLayout<grass_record>.size...]).copyBytes(from: text)
      sealing.seal(record, slot: slot, sequence: sequence, length: text.count)
    }
    return (sequence, record)
  }

  /// Opens what may be an answer to something that was asked in this slot.
  func open(_ record: [UInt8], slot: Int) -> [UInt8]? {
    let expected = asked[slot] ?? []
    guard let sealing else {
      let sequence = record.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
      return expected.contains(sequence) && record.count == KeyedMailbox.responseSize
        ? client.open(record, slot: slot, sequence: sequence) : nil
    }
    var (record, length) = (record, UInt64(0))
    let verdict = record.withUnsafeMutableBytes {
      sealing.open(
        $0, slot: slot, slotSize: KeyedMailbox.responseSize, isExpected: { expected.contains($0) }, length: &length)
    }
    guard verdict == GRASS_RECORD_WHOLE else { return nil }
    return Array(record[MemoryLayout<grass_record>.size...].prefix(Int(length)))
  }

  /// Opens what may be this session's line; the remote side only.
  func open(_ line: grass_session_line) -> grass_session_line? {
    guard let open = sealing?.open(line) else { return nil }
    let (counter, epoch) = (line.counter & KeyedMailbox.numbers, grass_epoch(line.counter))
    require(epoch >= epochOfLine && counter >= newestLine, "an older line was taken")
    (newestLine, epochOfLine) = (counter, epoch)
    return open
  }

  /// Whether it has the keys of a number's epoch still.
  func isInReach(_ sequence: UInt64) -> Bool {
    // The remote side goes on by lines only, in no more time than this.
    guard sealing == nil else { return grass_epoch(sequence) + 1 >= epochOfLine }
    return grass_session_keys_of(&client.keys, UInt32(grass_epoch(sequence))) != nil
  }
}

/// What an input does to sessions: one thing after the other, each a byte that says what, with 128 for a round of the mailbox behind
/// it, and what that one needs.
private struct SealedAttack {
  private let device: KeyedMailbox
  private var input: FuzzInput
  private let ends: [SealedEnd]
  private let how: UInt8
  /// Records and answers as whoever listens has them.
  private var heard: [[UInt8]] = []
  private var heardAnswers: [[UInt8]] = []
  private var heardLines: [(end: Int, line: grass_session_line)] = []
  /// What was asked last in each slot.
  private var latest: [Int: (sequence: UInt64, record: [UInt8])] = [:]
  private var sent = 0
  private var renewals = 0
  private var plain: UInt64 = 1 << 20
  /// What findings say, by their kind, number and edition.
  private var findings: [[UInt64]: [UInt8]] = [:]
  private var editions: UInt64 = 0
  /// The newest last words.
  private var words: (sealed: [UInt8], head: [UInt8], body: [UInt8], generation: UInt64) = ([], [], [], 0)

  init(_ ground: SealedGround, _ bytes: [UInt8]) {
    device = ground.device
    var input = FuzzInput(bytes)
    let how = input.next(UInt8.self)
    self.input = input
    self.how = how
    let group = GroupKeys(device.groupKeys)
    ends = ground.clients.enumerated().map { index, client in
      var client = client
      let state = ground.device.session(index * 2)
      // Near the last epoch: what is sealed under is as good as any.
      if how & 1 != 0 {
        client.keys.epoch = GRASS_LAST_EPOCH - 1
        state.pointee.keys.epoch = GRASS_LAST_EPOCH - 1
      }
      // Near an epoch's last record, and near the last numbers.
      if how & 2 != 0 { state.pointee.records = GRASS_EPOCH_RECORDS - 3 }
      client.number =
        how & 4 != 0 ? KeyedMailbox.numbers - 20 - UInt64(index) * 60 : client.number + UInt64(index) << 20
      let isRemote = how & 8 != 0 && how & 5 == 0
      return SealedEnd(client, sealing: isRemote ? ground.sealing(index) : nil, group: group)
    }
  }

  private mutating func slot() -> Int { Int(input.next(UInt8.self)) % KeyedMailbox.slotCount }

  mutating func run() {
    for _ in 0..<64 where !input.isEmpty {
      let operation = input.next(UInt8.self)
      perform(operation & 15)
      if operation & 128 != 0 { device.step() }
    }
    device.monitors.work()
    device.step(2_000_000)
    for index in ends.indices { goOn(index) }
  }

  /// A session is as it was before, and if it had a reason to end, another one can be made.
  private mutating func goOn(_ index: Int) {
    let (end, slot) = (ends[index], index * 2)
    let session = device.session(slot).pointee
    if session.is_live != 0, session.keys.token == end.client.keys.token {
      // Whoever did not ask for long reads its line first, and is in its epoch then.
      if end.isRemote { _ = end.open(device.line(slot)) }
      guard let (sequence, record) = end.seal(requestBytes(GRASS_HEARTBEAT), slot: slot) else { return }
      let (own, its) = (grass_epoch(sequence), UInt64(session.keys.epoch))
      if own == its || own == its + 1 || own + 1 == its && session.keys.has_before != 0 {
        note(end, requestBytes(GRASS_HEARTBEAT), slot, sequence, record)
        device.write(record, slot: slot)
        for _ in 0..<50 where device.served(slot) != sequence { device.step() }
        require(device.served(slot) == sequence, "a session did not go on after an attack")
        if device.session(slot).pointee.is_live != 0 {
          require(end.open(device.response(slot), slot: slot) != nil, "an answer did not open after an attack")
          return
        }
      }
    }
    device.setKey(index, Person.all[index].rights)
    device.requireSession(
      index, pattern: GRASS_NOISE_IK, slot: slot, sequence: 1 << 30 + UInt64(slot) << 10, ephemeral: 0x80)
  }

  /// `again` says that it is the same as before, under another number: an answer to the earlier ones counts, too.
  private mutating func note(
    _ end: SealedEnd, _ text: [UInt8], _ slot: Int, _ sequence: UInt64, _ record: [UInt8], again: Bool = false
  ) {
    device.note(.init(token: end.client.keys.token, record: record, text: text), slot: slot, sequence: sequence)
    end.asked[slot] = (again ? (end.asked[slot] ?? []).suffix(7) : []) + [sequence]
    latest[slot] = (sequence, record)
    if heard.count < 48 { heard.append(record) }
  }

  private mutating func perform(_ operation: UInt8) {
    switch operation {
    case 0, 1: ask(alters: operation == 1)
    case 2:
      // In its place.
      let (slot, place, change) = (
        slot(), Int(input.next(UInt16.self)) % KeyedMailbox.requestSize, input.next(UInt8.self)
      )
      device.write([device.request(slot)[place] ^ change], slot: slot, offset: place)
    case 3:
      // Something heard before, in any slot.
      guard !heard.isEmpty else { return }
      let record = heard[Int(input.next(UInt8.self)) % heard.count]
      device.write(record, slot: slot())
    case 4:
      // The beginning of one over another, or another length.
      guard !heard.isEmpty else { return }
      let (record, count, slot) = (
        heard[Int(input.next(UInt8.self)) % heard.count], Int(input.next(UInt8.self)), slot()
      )
      if count & 1 == 0 {
        device.write(Array(record.prefix(count)), slot: slot)
      } else {
        var record = record
        record.replaceSubrange(8..<16, with: bytes(UInt64(count >> 1)))
        let end = Int(grass_record_size(UInt64(count >> 1))) - 8
        record += [UInt8](repeating: 0, count: max(0, end + 8 - record.count))
        record.replaceSubrange(end..<end + 8, with: record[..<8])
        device.write(record, slot: slot)
      }
    case 5:
      // Another number, or another epoch, around the same.
      guard !heard.isEmpty else { return }
      var record = heard[Int(input.next(UInt8.self)) % heard.count]
      let (change, slot) = (input.next(UInt8.self), slot())
      let by = UInt64(bitPattern: Int64(Int8(bitPattern: change | 1) >> 1) << (change & 1 == 0 ? 0 : 48))
      let sequence = record.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } &+ by
      record.replaceSubrange(0..<8, with: bytes(sequence))
      record.replaceSubrange(record.count - 8..<record.count, with: bytes(sequence))
      device.write(record, slot: slot)
    case 6: device.step(Self.jumps[Int(input.next(UInt8.self)) % Self.jumps.count])
    case 7: read()
    case 8: readLine()
    case 9: find()
    case 10:
      let (person, rights) = (Int(input.next(UInt8.self)) % Person.all.count, input.next(UInt8.self))
      device.setKey(person, UInt32(rights & 31))
      // So that keys are made anew often enough to come around, but not for ever.
      for _ in 0..<Int(rights >> 5) * 5 where renewals < 80 {
        renewals += 1
        device.setKey(5, GRASS_RIGHT_WATCH.rawValue)
        device.setKey(5, 0)
        device.step()
      }
    case 11: device.release(slot())
    case 12:
      // A handshake that is left half done, or garbage for one.
      let (person, slot) = (Int(input.next(UInt8.self)), slot())
      var message = requestBytes(GRASS_HANDSHAKE, count: UInt32(person & 1), format: UInt32(person & 2))
      if person & 4 != 0 {
        var handshake = Handshake(
          person >> 3 % Person.all.count, pattern: person & 1 == 0 ? GRASS_NOISE_XX : GRASS_NOISE_IK, ephemeral: 0x40,
          header: device.header)
        device.noteBeginning(handshake.person)
        message = handshake.write()
      } else {
        message += input.bytes(96)
      }
      plain += 1
      device.write(plainRecord(message, sequence: plain), slot: slot)
    case 13: repeatLatest()
    case 14:
      let index = Int(input.next(UInt8.self)) % ends.count
      let (end, session) = (ends[index], device.session(index * 2).pointee)
      // As who asks does before the device would by itself.
      if !end.isRemote, end.client.keys.epoch <= session.keys.epoch { grass_session_keys_next(&end.client.keys) }
      device.takeEvents(8)
    default: device.monitors.work()
    }
  }

  /// Jumps of the clock, in nanoseconds.
  private static let jumps: [Int64] = [
    0, 10_000, 1_000_000, 200_000_000, 2_000_000_000, 121_000_000_000, 242_000_000_000, 901_000_000_000, -500_000,
  ]

  private mutating func ask(alters: Bool) {
    let (index, place, kind) = (Int(input.next(UInt8.self)) % ends.count, slot(), input.next(UInt8.self))
    // A session joins slots above its own.
    let (end, slot) = (ends[index], index == 0 ? place : 2 + place % 2)
    let text = sealedRequest(kind, &input)
    guard sent < 32, let (sequence, record) = end.seal(text, slot: slot) else { return }
    sent += 1
    note(end, text, slot, sequence, record, again: kind & 128 != 0)
    guard alters else { return device.write(record, slot: slot) }
    var altered = record
    let (at, change) = (Int(input.next(UInt16.self)) % record.count, input.next(UInt8.self))
    altered[at] ^= change
    device.write(altered, slot: slot)
  }

  /// The same request once more, which is answered already: nothing changes.
  private mutating func repeatLatest() {
    let slot = slot()
    guard let (sequence, record) = latest[slot] else { return }
    let runs = device.monitors.monitors.pointee.is_running && Int(device.monitors.monitors.pointee.slot) == slot
    let (isAnswered, before) = (device.served(slot) == sequence && !runs, device.response(slot))
    device.write(record, slot: slot)
    guard isAnswered else { return }
    device.step()
    device.step()
    require(device.response(slot) == before, "a request that came again was answered otherwise")
  }

  /// Somebody takes an answer, which whoever is between may have altered.
  private mutating func read() {
    let (index, slot, attack) = (Int(input.next(UInt8.self)) % ends.count, slot(), input.next(UInt8.self))
    let end = ends[index]
    var record = device.response(slot)
    let truth = record
    if heardAnswers.count < 32 { heardAnswers.append(record) }
    switch attack % 6 {
    case 1: record[Int(input.next(UInt16.self)) % 256] ^= input.next(UInt8.self)
    case 2: record = device.response(Int(input.next(UInt8.self)) % KeyedMailbox.slotCount)
    case 3: record = heardAnswers[Int(input.next(UInt8.self)) % heardAnswers.count]
    case 4 where end.isRemote: record = Array(record.prefix(Int(input.next(UInt16.self)) % (record.count + 1)))
    case 5:
      // Another answer under the number that is waited for.
      record = heardAnswers[Int(input.next(UInt8.self)) % heardAnswers.count]
      let length = record.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self) }
      guard let sequence = end.asked[slot]?.last, length <= grass_record_capacity(UInt64(record.count)) else { return }
      let last = Int(grass_record_size(length)) - 8
      record.replaceSubrange(0..<8, with: bytes(sequence))
      record.replaceSubrange(last..<last + 8, with: bytes(sequence))
    default: break
    }
    let sequence = record.count < 8 ? 0 : record.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    let answers = device.answers(slot: slot, sequence: sequence)
    guard let text = end.open(record, slot: slot) else {
      let isKnown = (end.asked[slot] ?? []).contains(sequence) && end.isInReach(sequence)
      require(record != truth || answers.isEmpty || !isKnown, "a true answer was not taken")
      return
    }
    require((end.asked[slot] ?? []).contains(sequence), "an answer was taken that nobody waits for")
    require(answers.contains(text) || !device.isKnown(slot: slot, sequence: sequence), "a false answer was taken")
    takeGroup(end, text)
  }

  /// Takes the keys of what is said to all out of an answer, where it is that one.
  private func takeGroup(_ end: SealedEnd, _ text: [UInt8]) {
    let response = text.withUnsafeBytes { $0.loadUnaligned(as: grass_response.self) }
    guard response.operation == GRASS_SESSION.rawValue, response.status == GRASS_OK.rawValue else { return }
    let size = MemoryLayout<grass_group_key>.size
    require(text.count == 40 + Int(response.count) * size, "an answer of \(text.count) bytes")
    var keys: [UInt64: [UInt8]] = [:]
    for start in stride(from: 40, to: text.count, by: size) {
      let generation = text.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: start, as: UInt64.self) }
      keys[generation] = Array(text[(start + 8)..<(start + size)])
    }
    // Those that the device has still are the same.
    for (generation, key) in device.groupKeys where keys[generation] != nil {
      require(keys[generation] == key, "the key of generation \(generation)")
    }
    require(response.count <= UInt32(GRASS_GROUP_KEYS), "\(response.count) keys")
    end.group = GroupKeys(keys)
  }

  /// The remote side takes its line, which whoever is between may have altered, kept back, or taken from another.
  private mutating func readLine() {
    let (index, attack, place) = (
      Int(input.next(UInt8.self)) % ends.count, input.next(UInt8.self), input.next(UInt8.self)
    )
    let end = ends[index]
    guard end.isRemote else { return }
    if heardLines.count < 32 { heardLines.append((index, device.line(index * 2))) }
    var (of, line) = (index, device.line(index * 2))
    if attack & 2 != 0 { (of, line) = heardLines[Int(place) % heardLines.count] }
    let truth = rawBytes(line)
    if attack & 1 != 0 { withUnsafeMutableBytes(of: &line) { $0[Int(place) % $0.count] ^= max(1, attack >> 3) } }
    guard let open = end.open(line) else { return }
    require(rawBytes(line) == truth && of == index, "a false line was taken")
    // Clocks are read in another order than they are used, a little.
    require(open.clock <= device.now &+ 100_000_000, "a line of the future")
  }

  /// Something is said to all, and read by somebody.
  private mutating func find() {
    let (how, place, change) = (input.next(UInt8.self), Int(input.next(UInt16.self)), input.next(UInt8.self))
    let kind = how & 1 == 0 ? GRASS_GROUP_FINDING : GRASS_GROUP_OPEN
    let index = Int(how >> 5)
    guard how & 16 == 0 else { return findWords(how, place, change, ends[index % ends.count]) }
    let length = MemoryLayout<grass_finding_content>.size
    if how & 2 != 0 {
      let number = UInt64(change) + 1
      var text = [UInt8](repeating: change, count: length - 16)
      text[0] = UInt8(truncatingIfNeeded: editions)
      let group = grass_group_next(device.group, &editions)
      var (sealed, check) = (text, (UInt64(0), UInt64(0)))
      withUnsafeMutableBytes(of: &check) {
        grass_group_seal(
          device.group, group, kind.rawValue, number, &sealed, UInt64(sealed.count),
          $0.baseAddress?.assumingMemoryBound(to: UInt64.self))
      }
      findings[[UInt64(kind.rawValue), number, group.generation, group.edition]] = text
      device.writeFinding(
        bytes(number, UInt64(length), check.0, check.1) + sealed + rawBytes(group) + bytes(number), kind: kind,
        index: index)
    }
    let end = ends[index % ends.count]
    let truth = device.finding(kind: kind, index: index)
    var entry = truth
    if how & 4 != 0 { entry[place % entry.count] ^= change }
    // Or as what it is not.
    let asked = how & 8 != 0 ? (kind == GRASS_GROUP_OPEN ? GRASS_GROUP_FINDING : GRASS_GROUP_OPEN) : kind
    let sealed = entry
    let verdict = entry.withUnsafeMutableBytes { end.group.openFinding($0, kind: asked) }
    func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    }
    let generation = word(sealed, 32 + length - 16)
    let key = [UInt64(asked.rawValue), word(sealed, 0), generation, word(sealed, 32 + length - 8)]
    switch verdict {
    case .open:
      require(
        findings[key].map { entry[32..<32 + length - 16].elementsEqual($0) } ?? false, "a false finding was taken")
      require(entry[(32 + length - 16)..<(32 + length)].allSatisfy { $0 == 0 }, "what it was sealed under is left")
    case .newer: require(generation > end.group.keys.keys.max() ?? 0, "a finding under a key of later is none")
    case .none:
      require(sealed == entry, "what does not open was changed")
      let isTrue = sealed == truth && asked == kind && word(sealed, 0) != 0
      require(!isTrue || end.group.keys[generation] == nil, "a true finding was not taken")
    }
  }

  /// The same with last words: a head that is sealed by itself, and what follows it.
  private mutating func findWords(_ how: UInt8, _ place: Int, _ change: UInt8, _ end: SealedEnd) {
    let (size, start) = (MemoryLayout<grass_words_head>.size, MemoryLayout<grass_record>.size)
    // Of the head, before it says under what it is sealed.
    let clear = size - 32
    if how & 2 != 0 || words.sealed.isEmpty {
      let number = UInt64(change) + 1
      let head = bytes(number) + [UInt8](repeating: change, count: clear - 8)
      let body = [UInt8](repeating: change ^ 0x55, count: Int(change))
      let group = grass_group_next(device.group, &editions)
      func seal(_ text: [UInt8], _ kind: grass_group_kind) -> (text: [UInt8], check: [UInt8]) {
        var (sealed, check) = (text, (UInt64(0), UInt64(0)))
        withUnsafeMutableBytes(of: &check) {
          grass_group_seal(
            device.group, group, kind.rawValue, number, &sealed, UInt64(sealed.count),
            $0.baseAddress?.assumingMemoryBound(to: UInt64.self))
        }
        return (sealed, bytes(check.0, check.1))
      }
      let (first, rest) = (seal(head, GRASS_GROUP_WORDS_HEAD), seal(body, GRASS_GROUP_WORDS))
      let payload = first.text + rawBytes(group) + first.check + rest.text
      let padding = [UInt8](repeating: 0, count: (8 - payload.count % 8) % 8)
      let record = bytes(number, UInt64(payload.count)) + rest.check + payload + padding + bytes(number)
      words = (record, head, body, group.generation)
    }
    var record = words.sealed
    if how & 4 != 0 { record[place % record.count] ^= change }
    if how & 1 != 0 { record = Array(record.prefix(place % (record.count + 1))) }
    let isTrue = record == words.sealed
    let verdict = record.withUnsafeMutableBytes {
      how & 8 == 0 ? end.group.openWords($0) : end.group.openWordsHead($0)
    }
    guard verdict == .open else {
      require(!isTrue || end.group.keys[words.generation] == nil, "true last words were not taken")
      return
    }
    require(record[start..<start + clear].elementsEqual(words.head), "a false head was taken")
    guard how & 8 == 0 else { return }
    require(
      record[(start + size)..<(start + size + words.body.count)].elementsEqual(words.body), "false words were taken")
    require(record[8..<16].elementsEqual(bytes(UInt64(size + words.body.count))), "words of another length were taken")
  }
}

/// Sessions of two people: one of all rights that has the first two slots, and one that may watch, in the third.
private final class SealedGround: @unchecked Sendable {
  let device = KeyedMailbox()
  let start: KeyedMailbox.Snapshot
  let clients: [Client]
  private let secrets: [(request: SecretBytes, response: SecretBytes)]
  static let shared = SealedGround()

  private init() {
    var first = device.requireSession(0, pattern: GRASS_NOISE_IK, slot: 0, sequence: 1, ephemeral: 1)
    device.requireAnswer(&first, requestBytes(GRASS_HEARTBEAT), slot: 1)
    let second = device.requireSession(1, pattern: GRASS_NOISE_XX, slot: 2, sequence: 1, ephemeral: 1)
    clients = [first, second]
    secrets = clients.map { client in
      (
        client.request.withUnsafeBytes { SecretBytes(copying: $0) },
        client.response.withUnsafeBytes { SecretBytes(copying: $0) }
      )
    }
    start = device.save()
  }

  func sealing(_ index: Int) -> Sealing {
    Sealing(request: secrets[index].request, response: secrets[index].response, hash: clients[index].hash)
  }
}

extension FuzzTarget {
  /// Sessions, and somebody between who alters, repeats, moves and cuts all that they send and are sent, and what is said to all.
  ///
  /// Nothing is executed but what a client sealed, once and in order, and no answer, line or finding is taken but the device's. The
  /// first byte says: 1 for the last epochs, 2 for an epoch's last records, 4 for the last numbers, 8 for the remote side's own code
  /// at the clients' end.
  static let sealed = FuzzTarget(
    name: "sealed",
    seeds: {
      func ask(_ end: UInt8, _ slot: UInt8, _ kind: UInt8) -> [UInt8] { [0 | 128, end, slot, kind] }
      func read(_ end: UInt8, _ slot: UInt8, _ attack: UInt8) -> [UInt8] { [7, end, slot, attack] }
      let gather = ask(0, 1, 2) + [0x10, 0, 64] + read(0, 1, 0)
      let key: [UInt8] = [2, 1, 0]
      return [
        [0] + ask(0, 0, 0) + read(0, 0, 0) + gather + ask(1, 2, 2) + [0, 0, 9] + read(1, 2, 0) + [13, 0, 13, 1],
        [8] + ask(0, 0, 1) + read(0, 0, 0) + [8, 0, 0, 0, 8, 0, 1, 12, 6, 5, 8, 0, 0, 0] + gather,
        [8] + [8, 0, 0, 0, 6, 3, 8, 0, 0, 0, 8, 0, 2, 0] + gather + ask(0, 1, 0) + read(0, 1, 3) + [0],
        [8] + gather + read(0, 1, 1) + [40, 0, 1] + read(0, 1, 2) + [0] + read(0, 1, 3) + [0] + read(0, 1, 4) + [
          64, 0,
        ],
        [1] + ask(0, 0, 0) + [14, 0] + ask(0, 0, 0) + [14, 0] + ask(0, 1, 0) + [6, 5, 6, 5] + ask(0, 0, 0),
        [2] + ask(0, 0, 0) + ask(0, 0, 0) + ask(0, 0, 0) + ask(0, 1, 0) + read(0, 1, 0),
        [4] + ask(0, 0, 0) + ask(0, 0, 3) + [15 | 128] + read(0, 0, 0) + ask(0, 3, 0) + ask(1, 3, 0),
        [0] + [1 | 128, 0, 0, 0, 40, 0, 1, 13 | 128, 0] + read(0, 0, 0) + [
          3 | 128, 0, 1, 4 | 128, 0, 33, 0, 5 | 128, 0, 2, 0,
        ],
        [0] + [
          9, 2, 0, 0, 1, 9, 4, 40, 0, 1, 9, 8, 0, 0, 0, 9, 18, 0, 0, 3, 9, 20, 60, 0, 1, 10 | 128, 5, 0xe1, 9, 2, 0, 0,
          2,
        ] + ask(0, 0, 1)
          + read(0, 0, 0)
          + [9, 0, 0, 0, 0],
        [0] + ask(0, 0, 5) + key + [11 | 128, 1, 12 | 128, 4, 0, 12 | 128, 5, 2, 2, 40, 0, 1] + ask(0, 2, 4),
      ]
    },
    prepare: { _ = SealedGround.shared },
    run: { bytes in
      let ground = SealedGround.shared
      ground.device.restore(ground.start)
      var attack = SealedAttack(ground, bytes)
      attack.run()
    })
}
