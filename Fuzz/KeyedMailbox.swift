import CFuzz
import CMailbox
import CRegion
import CRuntime
import CSeal
import Glibc
import Samples

/// A device with keys whose mailbox is stepped by hand, with an eye on all that must hold whatever lies in its slots.
///
/// All of it is kept and put back in a moment, random numbers too, so that each input begins alike. Used by one thread only.
final class KeyedMailbox: @unchecked Sendable {
  static let slotCount = 4
  static let requestSize = 512
  static let responseSize = 2048
  static let memorySize = 4096
  /// The device's clock where nothing was put back before, and what makes nanoseconds since 1970 of it.
  static let start: UInt64 = 1_000_000_000_000, offset: UInt64 = 1_700_000_000_000_000_000
  /// What a mailbox may take for a request, as its clock has it.
  static let tick: UInt64 = 1_000_000

  let header: grass_header
  let region: UnsafeMutableRawPointer
  let keyring: UnsafeMutablePointer<grass_keyring>
  let list: UnsafeMutablePointer<grass_key_list>
  let group: UnsafeMutablePointer<grass_group>
  let events: UnsafeMutablePointer<grass_key_events>
  let mailbox: UnsafeMutablePointer<grass_mailbox>
  let monitors: MonitorStorage
  let memory: [UInt8]
  private(set) var now = KeyedMailbox.start
  /// The region as it was last seen, so that each change of it is noticed.
  private let shadow: UnsafeMutableRawPointer
  private let scratch: UnsafeMutableRawPointer
  private let answer: UnsafeMutableRawPointer
  private let guest: UnsafeMutableRawPointer
  private let segments: UnsafeMutablePointer<grass_mapped_segment>
  /// What is put back for each input.
  private var pieces: [UnsafeMutableRawBufferPointer] = []
  private let size: Int

  /// A place that a record was sealed for.
  fileprivate struct Place: Hashable { let slot: Int, sequence: UInt64 }
  /// A record that a client made, what is in it, and of which session it is.
  struct Sent { let token: UInt64, record: [UInt8], text: [UInt8] }
  fileprivate struct Counted: Hashable { let token: UInt64, slot: Int }
  fileprivate struct Proof { let person: Int, request: KeyBytes }
  /// What clients know of the past: of sessions and of what they sent.
  fileprivate struct Ledger {
    var proofs: [UInt64: Proof] = [:]
    var sent: [Place: [Sent]] = [:]
    /// The number of the last record that was executed.
    var executed: [Counted: UInt64] = [:]
    /// Who began a handshake that proves his key by its first message.
    var began = Set<Int>()
    /// The keys of what is said to all, by generation.
    var groupKeys: [UInt64: [UInt8]] = [:]
    /// What answers say, as the device meant them.
    var answers: [Place: [[UInt8]]] = [:]
    var unknown = Set<Place>()
  }
  private var ledger = Ledger()
  private var releasing = Set<Int>()

  /// Everything as it is now.
  struct Snapshot {
    fileprivate let bytes: [UnsafeMutableRawPointer]
    fileprivate let ledger: Ledger
    fileprivate let now: UInt64
  }

  init() {
    var header = grass_header()
    require(
      grass_layout(
        &header, UInt32(Self.slotCount), UInt64(Self.requestSize), UInt64(Self.responseSize), 0, 8, 0), "the layout")
    header.features |= UInt64(GRASS_FEATURE_KEYS.rawValue)
    self.header = header
    size = Int(header.region_size)
    // What surrounds each of them is found by the address sanitizer.
    func room(_ size: Int) -> UnsafeMutableRawPointer {
      let room = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
      memset(room, 0, size)
      return room
    }
    (region, shadow) = (room(size), room(size))
    (scratch, answer) = (room(Self.requestSize), room(Self.responseSize))
    func place<Value>(_ type: Value.Type) -> UnsafeMutablePointer<Value> {
      room(MemoryLayout<Value>.size).bindMemory(to: type, capacity: 1)
    }
    keyring = place(grass_keyring.self)
    list = place(grass_key_list.self)
    group = place(grass_group.self)
    events = place(grass_key_events.self)
    mailbox = place(grass_mailbox.self)
    segments = place(grass_mapped_segment.self)
    memory = (0..<Self.memorySize).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 5) }
    guest = room(Self.memorySize)
    guest.copyMemory(from: memory, byteCount: memory.count)
    segments.pointee = grass_mapped_segment(
      segment: grass_segment(start: 0, count: UInt64(Self.memorySize)),
      bytes: guest.assumingMemoryBound(to: UInt8.self),
      lost: nil)
    monitors = MonitorStorage(outputSize: Self.responseSize)
    pieces = [
      .init(start: region, count: size), Self.raw(keyring), Self.raw(list), Self.raw(group), Self.raw(events),
      Self.raw(mailbox), Self.raw(monitors.monitors),
    ]
    memcpy(region, rawBytes(header), MemoryLayout<grass_header>.size)
    require(grass_mailbox_start(mailbox, region, &header, segments, 1, scratch, now), "the mailbox's start")
    grass_mailbox_set_monitors(mailbox, monitors.monitors, monitors.output)
    grass_keyring_start(
      keyring, grass_keyring_places(list: list, group: group, events: events), &header, Person.device.privateKey,
      [UInt8](repeating: 0x5e, count: 64), Self.offset, now)
    grass_mailbox_set_keyring(mailbox, keyring, answer.assumingMemoryBound(to: UInt8.self))
    for (index, person) in Person.all.enumerated() where person.rights != 0 { setKey(index, person.rights) }
    memcpy(shadow, region, size)
  }

  private static func raw<Value>(_ place: UnsafeMutablePointer<Value>) -> UnsafeMutableRawBufferPointer {
    .init(start: place, count: MemoryLayout<Value>.size)
  }

  /// Keeps everything, for good.
  func save() -> Snapshot {
    let copies = pieces.map { piece in
      let copy = UnsafeMutableRawPointer.allocate(byteCount: piece.count, alignment: 64)
      if let base = piece.baseAddress { memcpy(copy, base, piece.count) }
      return copy
    }
    return Snapshot(bytes: copies, ledger: ledger, now: now)
  }

  func restore(_ snapshot: Snapshot) {
    for (piece, copy) in zip(pieces, snapshot.bytes) {
      if let base = piece.baseAddress { memcpy(base, copy, piece.count) }
    }
    memcpy(shadow, region, size)
    (ledger, now, releasing) = (snapshot.ledger, snapshot.now, [])
  }

  // MARK: - What others do

  /// Changes the list as the machine does that the device is in; without rights the key is removed.
  func setKey(_ person: Int, _ rights: UInt32, expiry: UInt64 = 0) {
    var line = grass_key_line()
    line.rights = rights
    line.expiry = expiry
    withUnsafeMutableBytes(of: &line.key) { $0.copyBytes(from: Person.all[person].publicKey) }
    withUnsafeMutableBytes(of: &line.comment) { $0.copyBytes(from: "person \(person)".utf8) }
    let before = group.pointee.generation
    _ = grass_keyring_set(
      keyring, (rights == 0 ? GRASS_KEY_REMOVE : GRASS_KEY_ADD).rawValue, &line, nil)
    require(group.pointee.generation == before, "a list's change made a key by itself")
    checkState()
  }

  /// Makes the list one of these people, with the rights that they have at first.
  func replaceKeys(_ people: UInt8) {
    let list = UnsafeMutablePointer<grass_key_list>.allocate(capacity: 1)
    defer { list.deallocate() }
    list.initialize(to: grass_key_list())
    for (index, person) in Person.all.enumerated() where people >> UInt8(index) & 1 == 1 && person.rights != 0 {
      var line = grass_key_line()
      line.rights = person.rights
      withUnsafeMutableBytes(of: &line.key) { $0.copyBytes(from: person.publicKey) }
      withUnsafeMutableBytes(of: &list.pointee.lines) {
        $0.storeBytes(
          of: line, toByteOffset: Int(list.pointee.count) * MemoryLayout<grass_key_line>.stride, as: grass_key_line.self
        )
      }
      list.pointee.count += 1
    }
    grass_keyring_replace(keyring, list)
    checkState()
  }

  func release(_ slot: Int) {
    grass_mailbox_release(mailbox, UInt32(slot))
    releasing.insert(slot)
  }

  /// Takes events, as who logs them does.
  func takeEvents(_ count: Int) {
    var event = grass_key_event()
    for _ in 0..<count where grass_key_events_take(events, &event) {
      require(event.kind >= 1 && event.kind <= GRASS_KEY_EVENT_CERTIFIED.rawValue, "an event of kind \(event.kind)")
    }
  }

  private func requestOffset(_ slot: Int) -> Int { Int(header.request_offset) + slot * Self.requestSize }
  private func responseOffset(_ slot: Int) -> Int { Int(header.response_offset) + slot * Self.responseSize }
  private func lineOffset(_ slot: Int) -> Int {
    Int(header.lines_offset) + slot * MemoryLayout<grass_session_line>.size
  }

  /// Writes into a slot's request, from byte `offset` of it on, what fits there.
  func write(_ bytes: [UInt8], slot: Int, offset: Int = 0) {
    let count = min(bytes.count, Self.requestSize - offset)
    guard count > 0 else { return }
    memcpy(region + requestOffset(slot) + offset, bytes, count)
    memcpy(shadow + requestOffset(slot) + offset, bytes, count)
  }

  func request(_ slot: Int) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: region + requestOffset(slot), count: Self.requestSize))
  }
  func response(_ slot: Int) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: region + responseOffset(slot), count: Self.responseSize))
  }
  func line(_ slot: Int) -> grass_session_line {
    (region + lineOffset(slot)).loadUnaligned(as: grass_session_line.self)
  }

  /// Notes a record that a client made: no other is ever executed.
  func note(_ sent: Sent, slot: Int, sequence: UInt64) {
    ledger.sent[Place(slot: slot, sequence: sequence), default: []].append(sent)
  }
  func noteBeginning(_ person: Int) { ledger.began.insert(person) }
  /// Notes a handshake that its client has ended: no other makes a session.
  func note(_ client: Client) {
    ledger.proofs[client.keys.token] = Proof(
      person: client.person, request: KeyBytes(of: client.keys.now.request))
  }

  /// Whether the device's answer under this number could be looked at.
  func isKnown(slot: Int, sequence: UInt64) -> Bool { !ledger.unknown.contains(Place(slot: slot, sequence: sequence)) }
  /// What the device answered under this number in this slot, in clear; several where sessions had the same number.
  func answers(slot: Int, sequence: UInt64) -> [[UInt8]] { ledger.answers[Place(slot: slot, sequence: sequence)] ?? [] }

  /// Writes an entry of the log of findings, or of the open ones, as who keeps them does.
  func writeFinding(_ entry: [UInt8], kind: grass_group_kind, index: Int) {
    let offset = findingOffset(kind, index)
    memcpy(region + offset, entry, min(entry.count, MemoryLayout<grass_finding>.size))
    memcpy(shadow + offset, entry, min(entry.count, MemoryLayout<grass_finding>.size))
  }
  func finding(kind: grass_group_kind, index: Int) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: region + findingOffset(kind, index), count: MemoryLayout<grass_finding>.size))
  }
  private func findingOffset(_ kind: grass_group_kind, _ index: Int) -> Int {
    let (start, count) =
      kind == GRASS_GROUP_OPEN
      ? (header.open_offset, header.open_count) : (header.findings_offset, header.finding_count)
    return Int(start) + index % Int(count) * MemoryLayout<grass_finding>.size
  }

  /// The keys of what is said to all that there are now, by generation.
  var groupKeys: [UInt64: [UInt8]] {
    let (newest, count) = (group.pointee.generation, UInt64(GRASS_GROUP_KEYS))
    let first = UnsafeRawPointer(group) + (MemoryLayout<grass_group>.offset(of: \.keys) ?? 0)
    return Dictionary(
      uniqueKeysWithValues: (newest - min(newest, count) + 1...newest).map { generation in
        (generation, Array(UnsafeRawBufferPointer(start: first + Int(generation % count) * 32, count: 32)))
      })
  }

  // MARK: - What the device does

  func session(_ slot: Int) -> UnsafeMutablePointer<grass_session_state> {
    let first = UnsafeMutableRawPointer(keyring) + (MemoryLayout<grass_keyring>.offset(of: \.sessions) ?? 0)
    return first.assumingMemoryBound(to: grass_session_state.self) + slot
  }
  private func door(_ slot: Int) -> UnsafeMutablePointer<grass_door> {
    let first = UnsafeMutableRawPointer(keyring) + (MemoryLayout<grass_keyring>.offset(of: \.doors) ?? 0)
    return first.assumingMemoryBound(to: grass_door.self) + slot
  }
  func owner(_ slot: Int) -> UInt32 {
    (UnsafeRawPointer(keyring) + (MemoryLayout<grass_keyring>.offset(of: \.owners) ?? 0) + 4 * slot)
      .load(as: UInt32.self)
  }
  private func state(_ slot: Int) -> UnsafeMutablePointer<grass_slot_state> {
    let first = UnsafeMutableRawPointer(mailbox) + (MemoryLayout<grass_mailbox>.offset(of: \.slots) ?? 0)
    return first.assumingMemoryBound(to: grass_slot_state.self) + slot
  }
  func served(_ slot: Int) -> UInt64 { state(slot).pointee.served }

  /// What the list says that a key may do; nil where it is not there.
  func rights(of key: KeyBytes) -> UInt32? {
    let first = UnsafeRawPointer(list) + (MemoryLayout<grass_key_list>.offset(of: \.lines) ?? 0)
    for index in 0..<Int(list.pointee.count) {
      let line = first + index * MemoryLayout<grass_key_line>.stride
      if KeyBytes(line) == key { return line.loadUnaligned(as: grass_key_line.self).rights }
    }
    return nil
  }

  /// A session before a step.
  private struct Before {
    var token: UInt64 = 0
    var keys = grass_session_keys()
    var used: UInt64 = 0
    var epoch: UInt32 = 0
    var rights: UInt32 = 0
    var key = KeyBytes.zero
    var served: UInt64 = 0
    var sequence: UInt64 = 0
  }

  /// One round of the mailbox, so many nanoseconds later, and everything that must hold then.
  func step(_ nanoseconds: Int64 = Int64(KeyedMailbox.tick)) {
    now = UInt64(truncatingIfNeeded: Int64(truncatingIfNeeded: now) &+ nanoseconds)
    let before = (0..<Self.slotCount).map { slot in
      let session = session(slot).pointee
      return Before(
        token: session.is_live != 0 ? session.keys.token : 0, keys: session.keys, used: session.used,
        epoch: session.keys.epoch,
        rights: session.rights, key: KeyBytes(of: session.key), served: served(slot),
        sequence: (region + requestOffset(slot)).load(as: UInt64.self))
    }
    let ran = monitors.monitors.pointee.is_running ? Int(monitors.monitors.pointee.slot) : -1
    let (turn, swept) = (monitors.monitors.pointee.job.turn, keyring.pointee.swept)
    let (generation, linesTime) = (group.pointee.generation, mailbox.pointee.lines_time)
    grass_mailbox_step(mailbox, now)

    require(
      (generation...generation + 1).contains(group.pointee.generation), "a generation of \(group.pointee.generation)")
    checkGroup()
    if keyring.pointee.swept != swept { checkExpiries() }
    var executed: [(slot: Int, sent: Sent)] = []
    var handshakes = 0
    for slot in 0..<Self.slotCount where served(slot) != before[slot].served {
      require(served(slot) == before[slot].sequence, "it served what was not asked")
      if grass_epoch(served(slot)) == 0 { handshakes += 1 } else { executed.append((slot, execution(slot))) }
    }
    require(handshakes <= 1, "\(handshakes) handshakes at once")
    let runs = executed.count { $0.sent.text.starts(with: bytes(GRASS_RUN.rawValue)) }
    require(monitors.monitors.pointee.job.turn &- turn <= UInt64(runs), "a run that nobody asked for")
    let hasEnded = !monitors.monitors.pointee.is_running || monitors.monitors.pointee.job.turn != turn
    for slot in 0..<Self.slotCount {
      let offset = responseOffset(slot)
      guard memcmp(region + offset, shadow + offset, Self.responseSize) != 0 else { continue }
      require(
        served(slot) != before[slot].served || slot == ran && hasEnded,
        "an answer changed that nobody asked for")
      checkAnswer(slot, before)
    }
    for (slot, sent) in executed { check(sent, slot, before, isOnly: executed.count == 1) }
    checkEnds(before, executed)
    checkPlaces()
    checkState()
    // A session that was confirmed is told in the middle of a round.
    if mailbox.pointee.lines_time == now, linesTime != now,
      executed.allSatisfy({ one in before.contains { $0.token == one.sent.token } })
    {
      checkLines()
    }
    memcpy(shadow, region, Int(header.requests_part_offset))
    releasing = []
  }

  /// What is over has gone by now.
  private func checkExpiries() {
    let first = UnsafeRawPointer(list) + (MemoryLayout<grass_key_list>.offset(of: \.lines) ?? 0)
    for index in 0..<Int(list.pointee.count) {
      let line = (first + index * MemoryLayout<grass_key_line>.stride).loadUnaligned(as: grass_key_line.self)
      let time = (now &+ Self.offset) / 1_000_000_000
      require(line.expiry == 0 || line.expiry > time, "a key that expired is in the list")
    }
  }

  /// Each generation has a key of its own, which stays as long as it is told.
  private func checkGroup() {
    guard ledger.groupKeys[group.pointee.generation] == nil else { return }
    let keys = groupKeys
    require(keys.allSatisfy { key in key.value.contains { $0 != 0 } }, "a generation without a key")
    require(Set(keys.values).count == keys.count, "a key of two generations")
    require(
      ledger.groupKeys.allSatisfy { keys[$0.key] == nil || keys[$0.key] == $0.value }, "a generation's key changed")
    ledger.groupKeys = keys
  }

  /// The record that a slot's served number says was executed, which must be as its client made it, and new.
  private func execution(_ slot: Int) -> Sent {
    let place = Place(slot: slot, sequence: served(slot))
    let start = region + requestOffset(slot)
    // All but the padding.
    let found = (ledger.sent[place] ?? []).filter { sent in
      let end = sent.record.count - 8
      return memcmp(start, sent.record, MemoryLayout<grass_record>.size + sent.text.count) == 0
        && memcmp(start + end, sent.record, 8) == 0
    }
    guard let sent = found.first else { fatalError("a record was executed that nobody sent, or not so") }
    let (counted, number) = (Counted(token: sent.token, slot: slot), place.sequence & Self.numbers)
    require(number > ledger.executed[counted] ?? 0, "a record was executed again, or after a later one")
    ledger.executed[counted] = number
    return sent
  }

  /// A number without its epoch.
  static let numbers = (1 << UInt64(GRASS_EPOCH_SHIFT)) - 1 as UInt64

  /// Looks at an answer that is new: no secret is in it, and what is in clear is of a handshake.
  private func checkAnswer(_ slot: Int, _ before: [Before]) {
    let record = response(slot)
    let head = record.withUnsafeBytes { $0.loadUnaligned(as: grass_record.self) }
    // Withdrawn, and its session over meanwhile.
    guard head.sequence != 0 else { return }
    require(head.length <= grass_record_capacity(UInt64(Self.responseSize)), "an answer of \(head.length) bytes")
    let size = Int(grass_record_size(head.length))
    requireNoSecrets(record.prefix(size))
    require(record[(size - 8)..<size].elementsEqual(rawBytes(head.sequence)), "an answer's end")
    if grass_epoch(head.sequence) == 0 {
      var length: UInt64 = 0
      require(
        grass_record_judge(record, UInt64(size), UInt64(Self.responseSize), head.sequence, nil, &length)
          == GRASS_RECORD_WHOLE, "the check of a handshake's answer")
      let response = record.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 32, as: grass_response.self) }
      require(
        response.operation == GRASS_HANDSHAKE.rawValue && response.reserved == 0
          && Int(response.count) == Int(length) - MemoryLayout<grass_response>.size
          && (response.status == GRASS_OK.rawValue
            || response.status == GRASS_BAD_HANDSHAKE.rawValue && response.count == 0),
        "a handshake's answer: \(response)")
      return
    }
    let place = Place(slot: slot, sequence: head.sequence)
    var token: UInt64 = 0
    if let key = grass_keyring_response_key(keyring, UInt32(slot), head.sequence, &token) {
      guard let text = opened(record, key: key, token: token, slot: slot) else {
        fatalError("an answer that does not open")
      }
      ledger.answers[place, default: []].append(text)
      return
    }
    // Its session came to its end in the same round.
    for session in before {
      var keys = session.keys
      guard let of = grass_session_keys_of(&keys, UInt32(grass_epoch(head.sequence)))?.pointee,
        let text = opened(record, key: rawBytes(of.response), token: keys.token, slot: slot)
      else { continue }
      ledger.answers[place, default: []].append(text)
      return
    }
    // One that began in it, too: what it was told nobody knows.
    ledger.unknown.insert(place)
  }

  /// Judges what was answered to a request that was executed.
  private func check(_ sent: Sent, _ slot: Int, _ before: [Before], isOnly: Bool) {
    let owner = owner(slot)
    guard owner != GRASS_NO_SESSION else { return }
    let session = session(Int(owner)).pointee
    require(session.keys.token == sent.token, "a record was executed for another's session")
    let operation = sent.text.count >= 4 ? sent.text.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } : 0
    // Lists that change in the middle of a round are another test's.
    let wasThere = before.contains { $0.token == sent.token && $0.rights == session.rights }
    let isNew = before.allSatisfy { $0.token != sent.token } && operation != GRASS_SET_KEY.rawValue
    guard isOnly, wasThere || isNew else { return }
    let sequence = served(slot)
    guard let answer = answers(slot: slot, sequence: sequence).last else { return }
    let response = answer.withUnsafeBytes { $0.loadUnaligned(as: grass_response.self) }
    let isShort = sent.text.count < MemoryLayout<grass_request>.size
    let right = grass_right_of(isShort ? 0 : operation)
    guard session.rights & right == right else {
      require(
        response.status == GRASS_NOT_ALLOWED.rawValue && answer.count == 16, "rights \(session.rights) gave \(response)"
      )
      return
    }
    require(response.status != GRASS_NOT_ALLOWED.rawValue || operation >= GRASS_SESSION.rawValue, "refused what it may")
    guard response.status == GRASS_OK.rawValue else { return }
    switch operation {
    case GRASS_HEARTBEAT.rawValue:
      let clock = answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self) }
      require(clock == now, "a heartbeat at \(clock)")
    case GRASS_SESSION.rawValue:
      let isTold = session.rights & GRASS_RIGHT_WATCH.rawValue != 0
      require(
        Int(response.count) == (isTold ? groupKeys.count : 0), "\(response.count) keys for rights \(session.rights)")
    case GRASS_GATHER.rawValue where response.count == 1:
      let range = sent.text.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: grass_range.self) }
      guard range.flags == 0, range.length > 0, answer[16..<20].allSatisfy({ $0 == 0 }) else { break }
      let (start, count) = (Int(range.address), Int(range.length))
      require(answer.suffix(count).elementsEqual(memory[start..<start + count]), "a gather of other bytes")
    default: break
    }
  }

  /// Sessions end for their reasons only: nothing that is false or comes again is one.
  private func checkEnds(_ before: [Before], _ executed: [(slot: Int, sent: Sent)]) {
    let changesList = executed.contains { $0.sent.text.starts(with: bytes(GRASS_SET_KEY.rawValue)) }
    for slot in 0..<Self.slotCount where before[slot].token != 0 {
      let (session, old) = (session(slot).pointee, before[slot])
      let isLive = session.is_live != 0
      if isLive, session.keys.token == old.token {
        require(!releasing.contains(slot), "a session lives whose slot was lent anew")
        require(session.keys.epoch &- old.epoch <= 2, "epochs \(old.epoch) and \(session.keys.epoch)")
        continue
      }
      let isSilent = Int64(bitPattern: now &- old.used) > Int64(GRASS_SESSION_NS)
      let isTaken = executed.contains { $0.slot == slot && $0.sent.token != old.token }
      require(
        isSilent || isTaken || changesList || releasing.contains(slot) || old.epoch >= GRASS_LAST_EPOCH - 1
          || rights(of: old.key) == nil, "a session ended for no reason")
      // Whoever nobody lets in takes no slot of one who was there a moment ago.
      let isFresh = Int64(bitPattern: now &- old.used) < 1_000_000_000
      require(
        !isLive || session.rights != 0 || old.rights == 0 || !isFresh || changesList || releasing.contains(slot)
          || rights(of: old.key) == nil, "somebody without rights took a slot")
    }
  }

  /// Nothing was written but where the device writes.
  private func checkPlaces() {
    func same(_ start: UInt64, _ end: UInt64, _ what: String) {
      require(memcmp(region + Int(start), shadow + Int(start), Int(end - start)) == 0, "it wrote over \(what)")
    }
    same(0, header.beacon_offset, "the header")
    same(
      header.lines_offset + UInt64(Self.slotCount * MemoryLayout<grass_session_line>.size), header.response_offset,
      "findings")
    same(
      header.response_offset + UInt64(Self.slotCount * Self.responseSize), header.region_size, "where requests come in")
    let beacon = (region + Int(header.beacon_offset)).loadUnaligned(as: grass_beacon.self)
    require(
      withUnsafePointer(to: beacon, grass_beacon_is_whole) && beacon.newest_finding == 0 && beacon.served == 0,
      "the beacon: \(beacon)")
  }

  /// Sessions are of people who proved their keys, with the rights that the list gives them; counts have their bounds.
  private func checkState() {
    for slot in 0..<Self.slotCount {
      let owner = owner(slot)
      require(
        owner == GRASS_NO_SESSION || owner < Self.slotCount && session(Int(owner)).pointee.is_live != 0,
        "slot \(slot) is of \(owner), which is no session")
      let session = session(slot).pointee
      if session.is_live != 0 {
        guard let proof = ledger.proofs[session.keys.token] else { fatalError("a session without a proof") }
        let key = KeyBytes(of: session.key)
        require(key == KeyBytes(Person.all[proof.person].publicKey), "a session of another key than was proved")
        require(session.keys.epoch != 1 || KeyBytes(of: session.keys.now.request) == proof.request, "other keys")
        require(session.keys.epoch > 0 && session.keys.epoch <= GRASS_LAST_EPOCH, "epoch \(session.keys.epoch)")
        require(session.rights == 0 || session.rights == rights(of: key), "rights that the list does not give")
        require(session.records < GRASS_EPOCH_RECORDS, "\(session.records) records in an epoch")
      }
      let waiting = door(slot).pointee.waiting
      guard waiting.keys.epoch != 0 else { continue }
      require(waiting.is_live == 0, "what waits is no session")
      let key = KeyBytes(of: waiting.key)
      let people = ledger.proofs[waiting.keys.token].map { [$0.person] } ?? Array(ledger.began)
      require(people.contains { KeyBytes(Person.all[$0].publicKey) == key }, "what waits is of nobody who began")
      require(waiting.rights == 0 || waiting.rights == rights(of: key), "rights that the list does not give")
    }
    require(events.pointee.put &- events.pointee.taken <= UInt64(GRASS_KEY_EVENTS), "too many events")
    require(events.pointee.put == keyring.pointee.event_put, "events that are not its own")
    require(list.pointee.count <= Person.all.count, "\(list.pointee.count) keys")
  }

  /// Each session with rights has a line that opens under its keys, and no other slot has any.
  private func checkLines() {
    for slot in 0..<Self.slotCount {
      let (session, line) = (session(slot).pointee, line(slot))
      let raw = rawBytes(line)
      guard session.is_live != 0, session.rights != 0 else {
        require(raw.allSatisfy { $0 == 0 }, "a line without a session")
        continue
      }
      requireNoSecrets(raw[...])
      require(
        line.counter == line.counter_end && grass_epoch(line.counter) == UInt64(session.keys.epoch), "a line's epoch")
      var text = [UInt8](repeating: 0, count: 32)
      let isOpen = grass_record_open_payload(
        rawBytes(session.keys.now.line), session.keys.token, UInt32(GRASS_LINE_SLOT), line.counter, Array(raw[8..<40]),
        32,
        Array(raw[40..<56]), &text)
      require(isOpen, "a line that does not open")
      require(
        session.rights & UInt32(GRASS_RIGHT_WATCH.rawValue) != 0 || text[8...].allSatisfy { $0 == 0 },
        "a line says more than its session may know")
    }
  }

  /// Nothing that the device keeps to itself is in what everybody can read.
  private func requireNoSecrets(_ bytes: ArraySlice<UInt8>) {
    func seek<Secret>(_ secret: Secret) {
      let isThere = withUnsafeBytes(of: secret) { secret in
        guard let sought = secret.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
        return KeyBytes(sought) != .zero
          && bytes.withUnsafeBufferPointer { grass_fuzz_holds($0.baseAddress, UInt64($0.count), sought) }
      }
      require(!isThere, "a secret lies in the region")
    }
    seek(keyring.pointee.identity.private_key)
    seek(keyring.pointee.random.key)
    let newest = group.pointee.generation % UInt64(GRASS_GROUP_KEYS)
    let groupKeys = UnsafeRawPointer(group) + (MemoryLayout<grass_group>.offset(of: \.keys) ?? 0)
    seek((groupKeys + Int(newest) * 32).loadUnaligned(as: SIMD4<UInt64>.self))
    for slot in 0..<Self.slotCount {
      let (session, door) = (session(slot), door(slot))
      for keys in [session.pointee.keys.now, door.pointee.waiting.keys.now] {
        seek(keys.request)
        seek(keys.response)
        seek(keys.line)
      }
      seek(door.pointee.noise.ephemeral_pair.private_key)
      seek(door.pointee.noise.chaining_key)
    }
  }

  // MARK: - Somebody honest

  /// Makes a session, as whoever has a key of the list can whatever happened before, and asks something.
  ///
  /// `disturb` is somebody between: called when the device has to answer, and for XX before each message.
  @discardableResult
  func requireSession(
    _ person: Int, pattern: grass_noise_pattern, slot: Int, sequence: UInt64, ephemeral: UInt8,
    disturb: (_ sequence: UInt64) -> Void = { _ in }
  ) -> Client {
    var handshake = Handshake(person, pattern: pattern, ephemeral: ephemeral, header: header)
    noteBeginning(person)
    var sequence = sequence
    func say(_ payload: [UInt8]) -> [UInt8] {
      sequence += 1
      write(plainRecord(payload, sequence: sequence), slot: slot)
      for _ in 0..<200 where served(slot) != sequence { step() }
      guard let answer = plainAnswer(response(slot), sequence: sequence) else {
        fatalError("an honest handshake was not answered")
      }
      return answer
    }
    let answer = say(handshake.write())
    require(handshake.read(answer), "an honest handshake failed")
    if !handshake.hasEnded {
      sequence += 1
      disturb(sequence)
      let last = handshake.write()
      let client = handshake.end()
      note(client)
      _ = say(last)
      return confirm(client, slot)
    }
    let client = handshake.end()
    note(client)
    return confirm(client, slot)
  }

  private func confirm(_ client: Client, _ slot: Int) -> Client {
    var client = client
    let text = requireAnswer(&client, requestBytes(GRASS_SESSION), slot: slot)
    let rights = text.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: UInt32.self) }
    require(rights == self.rights(of: KeyBytes(Person.all[client.person].publicKey)), "an honest session's rights")
    return client
  }

  /// Asks something, and has it answered.
  @discardableResult
  func requireAnswer(_ client: inout Client, _ text: [UInt8], slot: Int) -> [UInt8] {
    let sequence = client.next()
    let record = client.seal(text, slot: slot, sequence: sequence)
    note(Sent(token: client.keys.token, record: record, text: text), slot: slot, sequence: sequence)
    write(record, slot: slot)
    for _ in 0..<50 where served(slot) != sequence {
      step()
      monitors.work()
    }
    guard let answer = client.open(response(slot), slot: slot, sequence: sequence) else {
      fatalError("an honest session was not answered")
    }
    return answer
  }
}
