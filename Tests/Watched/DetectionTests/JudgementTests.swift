import KernelViews
import Memory
import Samples
import Testing

@testable import Detection

/// What becomes of findings that would name more than a tenth of a table, and of those that somebody allows.
struct JudgementTests {
  private static func sightings(_ tids: Range<Int32>, outOf: Int) -> Sightings {
    Sightings(
      tids.map { tid in
        Sighting(
          [.task(tid: tid, start: 1, comm: Array("t".utf8))], tid == 3 ? .critical : .warning, .strong,
          "task \(tid) is odd",
          evidence: [.init("its oddity", seen: "\(tid)")])
      }, outOf: outOf)
  }

  /// Ten of twenty, in both ways.
  private struct Agreed: OddDetector {
    static let name = "agreed"
    static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
      JudgementTests.sightings(0..<10, outOf: 20)
    }
    static func secondWay(_ look: Look) throws(KernelError) -> Sightings? {
      JudgementTests.sightings(0..<11, outOf: 20)
    }
  }

  /// Ten of twenty, of which the other way knows three.
  private struct Decoys: OddDetector {
    static let name = "decoys"
    static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
      JudgementTests.sightings(0..<10, outOf: 20)
    }
    static func secondWay(_ look: Look) throws(KernelError) -> Sightings? { JudgementTests.sightings(2..<5, outOf: 20) }
  }

  /// Ten of twenty, and the other way fails.
  private struct Blinded: OddDetector {
    static let name = "blinded"
    static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
      JudgementTests.sightings(0..<10, outOf: 20)
    }
    static func secondWay(_ look: Look) throws(KernelError) -> Sightings? {
      throw KernelError("the other way", .missingSymbol("it"))
    }
  }

  /// Ten of twenty by addition, and nothing by the page tables; it has no way of its own.
  private struct Misled: OddDetector {
    static let name = "misled"
    static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
      JudgementTests.sightings(0..<(look.kernel.addressSpace.linearRanges.isEmpty ? 0 : 10), outOf: 20)
    }
  }

  /// Four of twenty.
  private struct Few: OddDetector {
    static let name = "few"
    static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
      JudgementTests.sightings(0..<4, outOf: 20)
    }
    static func secondWay(_ look: Look) throws(KernelError) -> Sightings? { Sightings() }
  }

  private func findings(_ detector: any Detector.Type) throws -> [Finding] {
    let kernel = try Kernel(memory: SyntheticLinux().memory)
    return Check(detectors: [detector], pause: .zero).run(on: kernel) { _ in }.findings
  }

  @Test func whereTwoWaysAgreeItIsOneFindingOfFullSeverity() throws {
    let found = try findings(Agreed.self)
    #expect(found.count == 1 && found[0].subjects == [.table("agreed", entry: nil)])
    #expect(found[0].severity == .critical && found[0].confidence == .strong)
    #expect(found[0].title.hasPrefix("10 of 20 are not as they ought to be, seen in two ways"))
    #expect(found[0].evidence.count == 6)
  }

  /// Who adds seven false ones hides none of the three true ones.
  @Test func decoysHideNothing() throws {
    let found = try findings(Decoys.self)
    #expect(found.count == 4)
    #expect(found[0].severity == .critical && found[0].title == "task 3 is odd")
    let reader = try #require(found.first { $0.subjects == [.observer("decoys")] })
    #expect(reader.severity == .warning && reader.title.contains("and 3 of them in another way"))
  }

  @Test func whereTheOtherWayFailsNothingIsDropped() throws {
    let found = try findings(Blinded.self)
    #expect(found.count == 1 && found[0].severity == .critical && found[0].confidence == .hint)
    #expect(found[0].title.contains("the other fails"))
  }

  @Test func withoutAWayOfItsOwnThePageTablesAreTheOther() throws {
    let found = try findings(Misled.self)
    #expect(found.map(\.subjects) == [[.observer("misled")]])
  }

  @Test func fewAreTakenAsTheyAre() throws {
    #expect(try findings(Few.self).count == 4)
  }

  // MARK: Allowances

  @Test func aRuleNamesWhatAnIntruderCannotGive() {
    func problem(_ rule: Allowance) -> String? { rule.problem }
    #expect(problem(Allowance(moduleBuildID: "ab", moduleTextDigest: "cd", expires: "2027-01-31")) == nil)
    #expect(problem(Allowance(programTag: "ab", expires: "2027-01-31")) == nil)
    #expect(problem(Allowance(device: "8:1", inode: 5, buildID: "ab", expires: "2027-01-31")) == nil)
    // A build id can be copied, an inode alone be written to.
    #expect(problem(Allowance(moduleBuildID: "ab", expires: "2027-01-31")) != nil)
    #expect(problem(Allowance(device: "8:1", inode: 5, expires: "2027-01-31")) != nil)
    #expect(problem(Allowance(expires: "2027-01-31")) != nil)
    #expect(problem(Allowance(programTag: "ab", expires: "for ever")) != nil)
  }

  /// As a module lies in two boots: addresses differ, a tracer's place is a nop or a call, a jump label is taken or not.
  @Test func theDigestOfCodeIsThatOfEveryBoot() {
    //   call __fentry__; push %rbp; mov 0x12345(%rip),%rax; jmp +2 (a label); call helper; ret
    let one: [UInt8] = [
      0xe8, 1, 2, 3, 4, 0x55, 0x48, 0x8b, 0x05, 0x45, 0x23, 1, 0, 0xeb, 2, 0xe8, 9, 8, 7, 6, 0xc3,
    ]
    //   nop; push %rbp; mov 0x54321(%rip),%rax; nop; call helper; ret
    let other: [UInt8] = [
      0x0f, 0x1f, 0x44, 0, 0, 0x55, 0x48, 0x8b, 0x05, 0x21, 0x43, 5, 0, 0x66, 0x90, 0xe8, 1, 1, 1, 1, 0xc3,
    ]
    #expect(Look.digest(ofCode: one) == Look.digest(ofCode: other))
    // Another instruction is other code: pop instead of push, and one instruction less.
    var changed = other
    changed[5] = 0x5d
    #expect(Look.digest(ofCode: changed) != Look.digest(ofCode: other))
    #expect(Look.digest(ofCode: Array(other.dropFirst(5))) != Look.digest(ofCode: other))
  }
}

/// A detector of tests.
private protocol OddDetector: Detector {}

extension OddDetector {
  static var kind: Finding.Kind { .attack }
  static var summary: String { "" }
  static var rule: String { "" }
  static var looksLike: String { "" }
  static var remedy: String { "" }
}
