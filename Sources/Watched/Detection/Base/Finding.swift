public import Memory
public import Views

/// A rank: the cases ascend in the order of their declaration.
public protocol Ranked: CaseIterable, Comparable, Sendable {}

extension Ranked {
  public static func < (one: Self, other: Self) -> Bool {
    // The cases before `other` are those that are less.
    allCases.prefix { $0 != other }.contains(one)
  }
}

/// Something that is wrong with a host: what, on what, since when, and proven by what.
public struct Finding: Sendable, Identifiable {
  public enum Kind: String, Sendable, CaseIterable {
    /// Something is broken, exhausted or stuck.
    case fault
    /// Somebody made the kernel or a process do what its owner does not want.
    case attack
    /// Something is not as it was, and that may be right.
    case change
  }

  /// How soon a human has to look.
  public enum Severity: String, Ranked {
    case info, notice, warning
    /// Somebody must act now.
    case critical

  }

  /// How sure it is.
  public enum Confidence: String, Ranked {
    /// It may be so.
    case hint
    /// What else looks like it was ruled out as far as the memory tells.
    case strong
    /// An invariant is broken that the kernel never breaks.
    case proven

  }

  public enum State: String, Sendable, CaseIterable {
    /// Seen, and to be seen again before it is believed.
    case open
    case confirmed
    /// Seen no more.
    case closed
  }

  /// What was there when: by the watched kernel's clock, and by the watcher's.
  public struct Moment: Hashable, Sendable {
    /// Nanoseconds since the watched kernel booted, as of its last tick; nil where its clock cannot be read.
    public var guest: UInt64?
    /// Seconds since 1970, by the clock of who looks.
    public var utc: Double

    public init(guest: UInt64?, utc: Double) {
      self.guest = guest
      self.utc = utc
    }
  }

  /// One thing that was seen.
  public struct Evidence: Hashable, Sendable {
    /// What it is.
    public var what: String
    public var address: VirtualAddress?
    /// The symbol that the address belongs to.
    public var symbol: String?
    public var seen: String?
    public var expected: String?

    public init(
      _ what: String, at address: VirtualAddress? = nil, symbol: String? = nil, seen: String? = nil,
      expected: String? = nil
    ) {
      self.what = what
      self.address = address
      self.symbol = symbol
      self.seen = seen
      self.expected = expected
    }
  }

  /// The detector and the subjects: the same as long as it is the same finding, also on another look or connection.
  public var id: String
  public var detector: String
  public var kind: Kind
  public var severity: Severity
  public var confidence: Confidence
  public var state: State
  public var first: Moment
  public var last: Moment
  /// In how many looks it was seen.
  public var count: Int
  public var subjects: [Subject]
  /// What else it has to do with: what it waits for, what belongs to it.
  public var related: Set<Subject> = []
  /// What is wrong, on what, since when: one sentence without a full stop.
  public var title: String
  public var evidence: [Evidence]
  /// The findings that it follows from, and those that follow from it, by their ids.
  public var causes: [String] = []
  public var effects: [String] = []
  /// Techniques of MITRE ATT&CK: T1014.
  public var techniques: [String]
  /// What to do next, and what not.
  public var remedy: String
  /// The watched kernel's release, and the id of its boot where it has one.
  public var kernel: String
  public var boot: String?
  /// What it was compared with.
  public var baseline: Baseline

  /// What says how things ought to be.
  public enum Baseline: String, Sendable, CaseIterable {
    /// The kernel's own rules: what it never does.
    case invariant
    /// The kernel's own tables, as they are now.
    case tables
    /// The vendor's image of this build.
    case vendor
    /// What was learned when watching began.
    case learned
    /// A number that an operator may set.
    case threshold
  }
}

extension Finding {
  /// As JSON has it.
  public var value: ViewValue {
    func moment(_ moment: Moment) -> ViewValue {
      .object([
        .init("guest", moment.guest.map { Double($0) / 1e9 }), .init("utc", moment.utc),
      ])
    }
    func texts(_ texts: [String]) -> ViewValue { .list(texts.map { .text($0) }) }
    return .object([
      .init("id", id), .init("detector", detector), .init("kind", kind.rawValue), .init("severity", severity.rawValue),
      .init("confidence", confidence.rawValue), .init("state", state.rawValue), .init("title", title),
      .init("subjects", ViewValue.list(subjects.map(\.value))), .init("first", moment(first)),
      .init("last", moment(last)), .init("count", count),
      .init("evidence", ViewValue.list(evidence.map(\.value))), .init("causes", texts(causes)),
      .init("effects", texts(effects)), .init("attack", texts(techniques)), .init("baseline", baseline.rawValue),
      .init("remedy", remedy), .init("kernel", kernel), .init("boot", boot),
    ])
  }
}

extension Finding.Evidence {
  var value: ViewValue {
    .object([
      .init("what", what), .init("address", address.orAbsent), .init("symbol", symbol.orAbsent),
      .init("seen", seen.orAbsent), .init("expected", expected.orAbsent),
    ])
  }

  /// As people read it.
  public var text: String {
    var text = what
    if let address { text += " at \(address)" }
    if let symbol { text += " (\(symbol))" }
    if let seen { text += ": \(seen)" }
    if let expected { text += ", expected \(expected)" }
    return text
  }
}
