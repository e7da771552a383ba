import CRegion
public import Memory

/// A finding as a device's log or its table of open findings has it: ids, subjects and values.
///
/// What sentences they make, the
/// detector's declaration says.
public struct FindingRecord: Hashable, Sendable {
  /// Its number: that of its newest change in the log.
  public let number: UInt64
  /// Number of the log's entry before about the same finding, 0 for the first.
  public let previous: UInt64
  /// The same as long as it is the same finding.
  public let identity: UInt64
  /// `enum grass_detector`.
  public let detector: UInt32
  /// Its name, where its number is that of all that are known by their names; else empty.
  public let name: [UInt8]
  /// Whether more was seen of it than an entry holds.
  public let isCut: Bool
  /// `enum grass_finding_kind`, `grass_severity`, `grass_confidence`, `grass_finding_state`.
  public let kind, severity, confidence, state: UInt8
  /// In how many ticks it was seen.
  public let count: UInt32
  /// When it was first and last seen, in nanoseconds.
  public let first, last: Moment
  /// The id of the host's boot; zeros where the kernel had none yet.
  public let boot: [UInt8]
  /// Identities of what it follows from.
  public let causes: [UInt64]
  public let subjects: [Subject]
  public let evidence: [Evidence]

  /// By the device's clock, by the guest's since its boot, and since 1970, in nanoseconds.
  public struct Moment: Hashable, Sendable {
    public let device, guest, utc: UInt64
  }

  /// What it is about: `struct grass_subject`.
  public struct Subject: Hashable, Sendable {
    public let kind: UInt32
    public let values: [UInt64]
    /// Any bytes but zero.
    public let name: [UInt8]
  }

  /// What was seen: `struct grass_evidence`.
  public struct Evidence: Hashable, Sendable {
    public let kind: UInt32
    /// Which one, where there are several of a kind; 0 for none.
    public let number: UInt32
    public let address: VirtualAddress
    public let seen: UInt64
    public let expected: UInt64
  }

  /// Bytes of one entry.
  public static let size = MemoryLayout<grass_finding>.size

  /// Takes an entry apart; nil where it is torn, false, or none.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count == Self.size else { return nil }
    let finding = bytes.loadUnaligned(as: grass_finding.self)
    let number = finding.record.sequence
    guard number != 0, number == finding.number_end,
      finding.record.length == UInt64(MemoryLayout<grass_finding_content>.size)
    else { return nil }
    let content = finding.content
    var check: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &check) { check in
      withUnsafeBytes(of: content) {
        grass_check(
          check.baseAddress?.assumingMemoryBound(to: UInt64.self), number, $0.baseAddress, finding.record.length)
      }
    }
    guard check == finding.record.check else { return nil }
    self.number = number
    previous = content.previous
    identity = content.identity
    detector = content.detector
    name = withUnsafeBytes(of: content.name) { Array($0.prefix { $0 != 0 }) }
    isCut = content.flags & GRASS_FINDING_CUT.rawValue != 0
    kind = content.kind
    severity = content.severity
    confidence = content.confidence
    state = content.state
    count = content.count
    first = Moment(device: content.first_device, guest: content.first_guest, utc: content.first_utc)
    last = Moment(device: content.last_device, guest: content.last_guest, utc: content.last_utc)
    boot = withUnsafeBytes(of: content.boot) { Array($0) }
    causes = [content.causes.0, content.causes.1].filter { $0 != 0 }
    subjects = [content.subjects.0, content.subjects.1].filter { $0.kind != 0 }.map { subject in
      Subject(
        kind: subject.kind,
        values: [subject.values.0, subject.values.1, subject.values.2, subject.values.3],
        name: withUnsafeBytes(of: subject.name) { Array($0.prefix { $0 != 0 }) })
    }
    let all = content.evidence
    evidence = [all.0, all.1, all.2, all.3, all.4, all.5].filter { $0.kind != 0 }.map { one in
      Evidence(
        kind: one.kind, number: one.number, address: VirtualAddress(one.address), seen: one.seen, expected: one.expected
      )
    }
  }
}
