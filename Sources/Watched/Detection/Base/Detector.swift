public import LinuxKernel
public import Memory

/// Finds one kind of thing that may be wrong with a host, from its memory.
///
/// From a type like this, and its line in ``Detectors/all``, follow the check of live hosts and of images, its findings as text
/// and as JSON, its page of the documentation, and its part of the tests on quiet and on hostile memory.
///
/// ```swift
/// struct OutOfMemoryKill: Detector {
///   static let name = "oom-kill", kind = Finding.Kind.fault
///   static let summary = "The kernel killed a process because memory ran out."
///   static let looksLike = "A control group at its own limit is said to be one."
///   static let remedy = "See who took the memory: grassctl ps --sort=-rss, grassctl slabtop."
///   static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings { … }
/// }
/// ```
public protocol Detector: Sendable {
  /// Short, of small letters and hyphens, and kept for ever: findings are known by it.
  static var name: String { get }
  static var kind: Finding.Kind { get }
  /// What is wrong where it finds something: one sentence.
  static var summary: String { get }
  /// What the memory shows, and by which rule.
  static var rule: String { get }
  /// What else looks like it, and how that is ruled out.
  static var looksLike: String { get }
  /// What to do next, and what not.
  static var remedy: String { get }
  /// Techniques of MITRE ATT&CK.
  static var techniques: [String] { get }
  static var baseline: Finding.Baseline { get }

  /// Whether one look is proof: of an invariant, or of what stays once it was. Otherwise two looks have to agree.
  static var needsOneLook: Bool { get }
  /// Whether what it finds is only that something takes long, as everything does on a host that is dead.
  static var goesByTime: Bool { get }

  /// What it sees in a look.
  ///
  /// `before` is the look before of the same boot, nil for the first.
  ///
  /// - Throws: ``KernelError`` where it cannot look at all. What it cannot see of something is in the sightings' faults.
  static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings

  /// The same things seen in another way, where so many are seen that a mistake of the reader is as likely.
  ///
  /// - Returns: what is seen so; nil where there is no other way.
  static func secondWay(_ look: Look) throws(KernelError) -> Sightings?

  /// Whether what it found is why `effect` is so.
  static func explains(_ finding: Finding, effect: Finding) -> Bool

  /// What is to be learned of a host that is well: of what, and how it is. ``Look/baseline`` has it in later looks.
  ///
  /// - Throws: ``KernelError`` where it cannot be read.
  static func facts(_ look: Look) throws(KernelError) -> [String: String]

  /// Whether what it learns holds until the next boot only.
  static var factsAreOfBoot: Bool { get }
}

extension Detector {
  public static var techniques: [String] { [] }
  public static var baseline: Finding.Baseline { .tables }
  public static var needsOneLook: Bool { false }
  public static var goesByTime: Bool { false }
  public static func secondWay(_ look: Look) throws(KernelError) -> Sightings? { nil }
  public static func explains(_ finding: Finding, effect: Finding) -> Bool { false }
  public static func facts(_ look: Look) throws(KernelError) -> [String: String] { [:] }
  public static var factsAreOfBoot: Bool { false }
}

/// What a detector saw in one look.
public struct Sightings: Sendable {
  public var sightings: [Sighting]
  /// How many things there were that might have been seen to be wrong; nil where they are of no table.
  public var outOf: Int?
  /// What could not be read.
  public var faults: [MemoryFault]

  public init(_ sightings: [Sighting] = [], outOf: Int? = nil, faults: [MemoryFault] = []) {
    self.sightings = sightings
    self.outOf = outOf
    self.faults = faults
  }
}

/// One thing that seems wrong in one look.
public struct Sighting: Sendable {
  public var subjects: [Subject]
  public var severity: Finding.Severity
  public var confidence: Finding.Confidence
  /// What is wrong, on what, since when: one sentence without a full stop.
  public var title: String
  public var evidence: [Finding.Evidence]
  /// What has to be the same in two looks beside the subjects, lest two different things be taken for one that lasts.
  public var persists: [UInt64]
  /// What else it has to do with: what it waits for, what belongs to it.
  public var related: Set<Subject>
  /// Whether it was seen by comparing with the look before, so that a first look cannot have seen it.
  public var needsBothLooks = false
  /// What it was compared with, where that is not what the detector says.
  public var baseline: Finding.Baseline?

  public init(
    _ subjects: [Subject], _ severity: Finding.Severity, _ confidence: Finding.Confidence, _ title: String,
    evidence: [Finding.Evidence] = [], persists: [UInt64] = [], related: Set<Subject> = []
  ) {
    self.subjects = subjects
    self.severity = severity
    self.confidence = confidence
    self.title = title
    self.evidence = evidence
    self.persists = persists
    self.related = related
  }
}
