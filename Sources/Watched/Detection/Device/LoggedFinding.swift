package import CRegion
import Memory
import Records

/// A finding of a check as a device's log holds it, and back: typed subjects and values, no words.
///
/// An entry has room for two subjects, for six pieces of evidence, each an address and two numbers or 16 bytes of words, and for
/// two causes. What is more is left out, and the entry says so. Words come from ``LoggedWords``.
package enum LoggedFinding {
  // MARK: Identities

  /// What stands for a finding's id in the log: its digest of subjects, told apart by the detector.
  ///
  /// - Returns: nil for what is no id.
  package static func identity(ofID id: String) -> UInt64? {
    guard let colon = id.lastIndex(of: ":"), let digest = UInt64(id[id.index(after: colon)...], radix: 16) else {
      return nil
    }
    return digest ^ digestOfName(String(id[..<colon]))
  }

  static func id(_ identity: UInt64, _ detector: String) -> String {
    let digits = String(identity ^ digestOfName(detector), radix: 16)
    return "\(detector):\(String(repeating: "0", count: 16 - digits.count))\(digits)"
  }

  /// FNV-1a.
  private static func digestOfName(_ name: String) -> UInt64 {
    name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// Whether the log's readers have words for a detector.
  package static func hasWords(for detector: String) -> Bool { LoggedWords.all[detector] != nil }

  // MARK: To the log

  /// A finding as a device takes it.
  ///
  /// `identities` has those of findings that the device made itself, by their ids. Times of the device and the number of its entry
  /// before are the device's to fill in.
  package static func content(_ finding: Finding, identities: [String: UInt64] = [:]) -> grass_finding_content {
    var content = grass_finding_content()
    content.identity = identities[finding.id] ?? identity(ofID: finding.id) ?? 0
    content.detector = GRASS_DETECTOR_NAMED.rawValue
    content.kind = UInt8(truncatingIfNeeded: kinds.first { $0.value == finding.kind }?.key ?? 0)
    content.severity = UInt8(truncatingIfNeeded: severities.first { $0.value == finding.severity }?.key ?? 0)
    content.confidence = UInt8(truncatingIfNeeded: confidences.first { $0.value == finding.confidence }?.key ?? 0)
    content.state = UInt8(truncatingIfNeeded: states.first { $0.value == finding.state }?.key ?? 0)
    content.count = UInt32(clamping: finding.count)
    content.first_guest = finding.first.guest ?? 0
    content.last_guest = finding.last.guest ?? 0
    content.first_utc = nanoseconds(finding.first.utc)
    content.last_utc = nanoseconds(finding.last.utc)
    var isCut = finding.subjects.count > Int(GRASS_FINDING_SUBJECTS)
    isCut = isCut || finding.evidence.count > Int(GRASS_FINDING_EVIDENCE) || finding.causes.count > 2
    isCut = !store(finding.detector, in: &content.name) || isCut
    if let boot = finding.boot { store(boot: boot, in: &content.boot) }
    let causes = finding.causes.compactMap { identities[$0] ?? identity(ofID: $0) }
    withUnsafeMutableBytes(of: &content.causes) { places in
      for (index, cause) in causes.prefix(2).enumerated() {
        places.storeBytes(of: cause, toByteOffset: index * 8, as: UInt64.self)
      }
    }
    withUnsafeMutableBytes(of: &content.subjects) { places in
      for (index, subject) in finding.subjects.prefix(Int(GRASS_FINDING_SUBJECTS)).enumerated() {
        let (raw, isWhole) = raw(subject)
        isCut = isCut || !isWhole
        places.storeBytes(of: raw, toByteOffset: index * MemoryLayout<grass_subject>.stride, as: grass_subject.self)
      }
    }
    let words = LoggedWords.all[finding.detector]
    withUnsafeMutableBytes(of: &content.evidence) { places in
      for (index, evidence) in finding.evidence.prefix(Int(GRASS_FINDING_EVIDENCE)).enumerated() {
        let (raw, isWhole) = raw(evidence, words)
        isCut = isCut || !isWhole
        places.storeBytes(of: raw, toByteOffset: index * MemoryLayout<grass_evidence>.stride, as: grass_evidence.self)
      }
    }
    if isCut { content.flags = GRASS_FINDING_CUT.rawValue }
    return content
  }

  private static let kinds: [UInt32: Finding.Kind] = [
    GRASS_FINDING_FAULT.rawValue: .fault, GRASS_FINDING_ATTACK.rawValue: .attack,
    GRASS_FINDING_CHANGE.rawValue: .change,
  ]
  private static let severities: [UInt32: Finding.Severity] = [
    GRASS_SEVERITY_INFO.rawValue: .info, GRASS_SEVERITY_NOTICE.rawValue: .notice,
    GRASS_SEVERITY_WARNING.rawValue: .warning, GRASS_SEVERITY_CRITICAL.rawValue: .critical,
  ]
  private static let confidences: [UInt32: Finding.Confidence] = [
    GRASS_CONFIDENCE_HINT.rawValue: .hint, GRASS_CONFIDENCE_STRONG.rawValue: .strong,
    GRASS_CONFIDENCE_PROVEN.rawValue: .proven,
  ]
  private static let states: [UInt32: Finding.State] = [
    GRASS_FINDING_OPEN.rawValue: .open, GRASS_FINDING_CONFIRMED.rawValue: .confirmed,
    GRASS_FINDING_CLOSED.rawValue: .closed,
  ]

  private static func nanoseconds(_ seconds: Double) -> UInt64 {
    seconds.isFinite && seconds > 0 && seconds < 1e10 ? UInt64(seconds * 1e9) : 0
  }

  /// Stores as much of a text as there is room for, zero padded; false where that is not all of it.
  private static func store<Place>(_ text: String, in place: inout Place) -> Bool {
    withUnsafeMutableBytes(of: &place) { bytes in
      let text = Array(text.utf8)
      bytes.copyBytes(from: text.prefix(bytes.count))
      return text.count <= bytes.count
    }
  }

  private static func store<Place>(boot: String, in place: inout Place) {
    let digits = boot.filter(\.isHexDigit)
    guard digits.utf8.count == 32 else { return }
    withUnsafeMutableBytes(of: &place) { bytes in
      for index in 0..<min(16, bytes.count) {
        let start = digits.index(digits.startIndex, offsetBy: index * 2)
        bytes[index] = UInt8(digits[start..<digits.index(start, offsetBy: 2)], radix: 16) ?? 0
      }
    }
  }

  private static func raw(_ subject: Subject) -> (subject: grass_subject, isWhole: Bool) {
    var raw = grass_subject()
    var isWhole = true
    func set(_ kind: grass_subject_kind, _ values: [UInt64] = [], name: [UInt8] = []) {
      raw.kind = kind.rawValue
      withUnsafeMutableBytes(of: &raw.values) { places in
        for (index, value) in values.prefix(4).enumerated() {
          places.storeBytes(of: value, toByteOffset: index * 8, as: UInt64.self)
        }
      }
      withUnsafeMutableBytes(of: &raw.name) { $0.copyBytes(from: name.prefix($0.count)) }
      isWhole = name.count <= 16
    }
    /// A name over the values and the place for names.
    func set(_ kind: grass_subject_kind, long name: String, entry: UInt64? = nil) {
      let room = entry == nil ? 32 : 24
      let bytes = Array(name.utf8)
      set(kind, name: Array(bytes.dropFirst(room)))
      withUnsafeMutableBytes(of: &raw.values) { places in
        places.copyBytes(from: bytes.prefix(room))
        if let entry { places.storeBytes(of: entry, toByteOffset: 24, as: UInt64.self) }
      }
    }
    switch subject {
    case .host: set(GRASS_SUBJECT_HOST)
    case .cpu(let number): set(GRASS_SUBJECT_CPU, [UInt64(clamping: number)])
    case .task(let tid, let start, let comm):
      set(GRASS_SUBJECT_TASK, [UInt64(bitPattern: Int64(tid)), start], name: comm)
    case .lock(let address, let name):
      set(GRASS_SUBJECT_LOCK, [address.rawValue], name: Array((name ?? "").utf8))
    case .module(let address, let name): set(GRASS_SUBJECT_MODULE, [address.rawValue], name: name)
    case .function(let name): set(GRASS_SUBJECT_NAMED_FUNCTION, long: name)
    case .code(let address): set(GRASS_SUBJECT_CODE, [address.rawValue])
    case .disk(let name): set(GRASS_SUBJECT_DISK, name: name)
    case .interface(let name, let namespace): set(GRASS_SUBJECT_INTERFACE, [0, namespace], name: name)
    case .file(let device, let inode, let name): set(GRASS_SUBJECT_FILE, [device, inode], name: name)
    case .table(let name, let entry):
      set(GRASS_SUBJECT_NAMED_TABLE, long: name, entry: entry.map { UInt64(clamping: $0) &+ 1 } ?? 0)
    case .workQueue(let name): set(GRASS_SUBJECT_WORK_QUEUE, long: name)
    case .program(let id, let name): set(GRASS_SUBJECT_PROGRAM, [UInt64(id)], name: name)
    case .socket(let address, let name): set(GRASS_SUBJECT_SOCKET, [address.rawValue], name: Array(name.utf8))
    case .observer(let name): set(GRASS_SUBJECT_OBSERVER, long: name)
    }
    return (raw, isWhole)
  }

  /// The number that a text begins with, and whether it is written in hexadecimal digits; nil where it begins with none.
  private static func number(_ text: String?) -> (value: UInt64, isHexadecimal: Bool, isAll: Bool)? {
    guard let text else { return nil }
    if text.hasPrefix("0x") {
      let digits = text.dropFirst(2).prefix { $0.isHexDigit }
      return UInt64(digits, radix: 16).map { ($0, true, digits.count + 2 == text.count) }
    }
    let sign = text.hasPrefix("-") ? 1 : 0
    let digits = text.prefix(sign) + text.dropFirst(sign).prefix { $0.isASCII && $0.isNumber }
    return Int64(digits).map { (UInt64(bitPattern: $0), false, digits.count == text.count) }
  }

  private static func raw(
    _ evidence: Finding.Evidence, _ words: LoggedWords?
  ) -> (evidence: grass_evidence, isWhole: Bool) {
    var raw = grass_evidence()
    raw.kind = GRASS_EVIDENCE_SAID.rawValue
    let piece = words?.piece(for: evidence.what)
    raw.number = piece?.digest ?? 0
    raw.address = evidence.address?.rawValue ?? 0
    let (seen, expected) = (number(evidence.seen), number(evidence.expected))
    var isWhole = piece.map { evidence.what == $0.what } ?? false
    if let seen {
      raw.kind |= GRASS_EVIDENCE_SEEN.rawValue
      raw.seen = seen.value
      if seen.isHexadecimal { raw.kind |= GRASS_EVIDENCE_HEXADECIMAL.rawValue }
      isWhole = isWhole && (seen.isAll || evidence.seen.map { $0.hasSuffix(piece?.unit ?? "") } == true)
      if let expected {
        raw.kind |= GRASS_EVIDENCE_EXPECTED.rawValue
        raw.expected = expected.value
      }
    } else if let text = evidence.seen {
      raw.kind |= GRASS_EVIDENCE_WORDS.rawValue
      let bytes = Array(text.utf8)
      withUnsafeMutableBytes(of: &raw.seen) { $0.copyBytes(from: bytes.prefix(8)) }
      withUnsafeMutableBytes(of: &raw.expected) { $0.copyBytes(from: bytes.dropFirst(8).prefix(8)) }
      isWhole = isWhole && bytes.count <= 16
    }
    isWhole = isWhole && (expected?.isAll == true || evidence.expected == piece?.expected)
    return (raw, isWhole)
  }

  // MARK: From the log

  /// What a record of a detector says that is known by its name.
  static func finding(_ record: FindingRecord, _ kernel: String, _ causes: [String]) -> Finding {
    let name = String(decoding: record.name, as: UTF8.self)
    let detector = Detectors.detector(named: name)
    let words = LoggedWords.all[name]
    let subjects = record.subjects.map(subject)
    let evidence = record.evidence.map { self.evidence($0, words) }
    let seen = record.evidence.lazy.filter { $0.kind & GRASS_EVIDENCE_SEEN.rawValue != 0 }.first.map {
      text($0.seen, isHexadecimal: $0.kind & GRASS_EVIDENCE_HEXADECIMAL.rawValue != 0)
    }
    var title: String
    switch subjects.first {
    case .table(name, entry: nil): title = "much of what \(name) looks at is not as it ought to be"
    case .observer(name):
      title = "\(name) sees more than it can believe: the reader does not understand this kernel, or is being misled"
    default:
      title =
        words?.text(subjects, seen: seen, isCut: record.isCut && subjects.count > 1)
        ?? "\(name), a detector that this version does not know, found something about "
        + Text.list(subjects.map(\.text))
    }
    if record.isCut { title += " (more than the log holds)" }
    func moment(_ moment: FindingRecord.Moment) -> Finding.Moment {
      .init(guest: moment.guest == 0 ? nil : moment.guest, utc: Double(moment.utc) / 1e9)
    }
    return Finding(
      id: id(record.identity, name), detector: name, kind: kinds[UInt32(record.kind)] ?? .fault,
      severity: severities[UInt32(record.severity)] ?? .info,
      confidence: confidences[UInt32(record.confidence)] ?? .hint, state: states[UInt32(record.state)] ?? .open,
      first: moment(record.first), last: moment(record.last), count: Int(record.count), subjects: subjects,
      title: title, evidence: evidence, causes: causes, techniques: detector?.techniques ?? [],
      remedy: detector?.remedy ?? "Use a newer grassctl.", kernel: kernel, boot: Text.bootID(record.boot),
      baseline: detector?.baseline ?? .invariant)
  }

  private static func text(_ number: UInt64, isHexadecimal: Bool) -> String {
    isHexadecimal ? "0x\(String(number, radix: 16))" : "\(Int64(bitPattern: number))"
  }

  private static func evidence(_ raw: FindingRecord.Evidence, _ words: LoggedWords?) -> Finding.Evidence {
    let piece = words?.evidence.first { $0.digest == raw.number && raw.number != 0 }
    let isHexadecimal = raw.kind & GRASS_EVIDENCE_HEXADECIMAL.rawValue != 0
    var seen: String?
    if raw.kind & GRASS_EVIDENCE_SEEN.rawValue != 0 {
      seen = text(raw.seen, isHexadecimal: isHexadecimal) + (piece?.unit ?? "")
    } else if raw.kind & GRASS_EVIDENCE_WORDS.rawValue != 0 {
      seen = Array(bytes(of: [raw.seen, raw.expected]).prefix { $0 != 0 }).printable
    }
    let expected =
      raw.kind & GRASS_EVIDENCE_EXPECTED.rawValue != 0
      ? text(raw.expected, isHexadecimal: isHexadecimal) : piece?.expected
    return .init(
      piece.map { $0.what.isEmpty ? "what points there" : $0.what } ?? "what was seen",
      at: raw.address.rawValue == 0 ? nil : raw.address, seen: seen, expected: expected)
  }

  private static func bytes(of words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) } }
  }

  private static func subject(_ raw: FindingRecord.Subject) -> Subject {
    func address(_ index: Int) -> VirtualAddress { VirtualAddress(raw.values[index]) }
    /// A name that begins in the values.
    func long(_ count: Int) -> String {
      let start = Array(bytes(of: Array(raw.values.prefix(count))).prefix { $0 != 0 })
      return (start.count == count * 8 ? start + raw.name : start).printable
    }
    return switch raw.kind {
    case GRASS_SUBJECT_CPU.rawValue: .cpu(Int(truncatingIfNeeded: raw.values[0]))
    case GRASS_SUBJECT_TASK.rawValue:
      .task(tid: Int32(truncatingIfNeeded: raw.values[0]), start: raw.values[1], comm: raw.name)
    case GRASS_SUBJECT_LOCK.rawValue: .lock(address(0), name: raw.name.isEmpty ? nil : raw.name.printable)
    case GRASS_SUBJECT_MODULE.rawValue: .module(address(0), name: raw.name)
    case GRASS_SUBJECT_CODE.rawValue: .code(address(0))
    case GRASS_SUBJECT_DISK.rawValue: .disk(raw.name)
    case GRASS_SUBJECT_INTERFACE.rawValue: .interface(raw.name, namespace: raw.values[1])
    case GRASS_SUBJECT_FILE.rawValue: .file(device: raw.values[0], inode: raw.values[1], name: raw.name)
    case GRASS_SUBJECT_PROGRAM.rawValue: .program(id: UInt32(truncatingIfNeeded: raw.values[0]), name: raw.name)
    case GRASS_SUBJECT_SOCKET.rawValue: .socket(address(0), name: raw.name.printable)
    case GRASS_SUBJECT_NAMED_FUNCTION.rawValue: .function(long(4))
    case GRASS_SUBJECT_WORK_QUEUE.rawValue: .workQueue(long(4))
    case GRASS_SUBJECT_OBSERVER.rawValue: .observer(long(4))
    case GRASS_SUBJECT_NAMED_TABLE.rawValue:
      .table(long(3), entry: raw.values[3] == 0 ? nil : Int(truncatingIfNeeded: raw.values[3] &- 1))
    default: .host
    }
  }
}
