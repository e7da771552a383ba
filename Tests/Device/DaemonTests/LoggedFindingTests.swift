import CRegion
import Memory
import Records
import Testing

@testable import Detection

/// What a device's log keeps of a finding of a check, and what a reader makes of it.
struct LoggedFindingTests {
  /// An entry of the log with this content, read.
  private func record(_ content: grass_finding_content) -> FindingRecord? {
    var entry = grass_finding()
    entry.content = content
    entry.record.sequence = 9
    entry.number_end = 9
    entry.record.length = UInt64(MemoryLayout<grass_finding_content>.size)
    withUnsafeMutableBytes(of: &entry.record.check) { check in
      withUnsafeBytes(of: content) {
        grass_check(
          check.baseAddress?.assumingMemoryBound(to: UInt64.self), 9, $0.baseAddress, entry.record.length)
      }
    }
    return withUnsafeBytes(of: entry) { FindingRecord($0) }
  }

  private func finding(
    _ detector: String, _ subjects: [Subject], _ evidence: [Finding.Evidence] = [], id: String? = nil
  ) -> Finding {
    let moment = Finding.Moment(guest: 5_000_000_000, utc: 1_000_000)
    return Finding(
      id: id ?? "\(detector):00000000000000ff", detector: detector, kind: .attack, severity: .critical,
      confidence: .strong,
      state: .confirmed, first: moment, last: moment, count: 2, subjects: subjects, title: "as a check says it",
      evidence: evidence, techniques: [], remedy: "", kernel: "6.1", boot: "01020304-0506-0708-090a-0b0c0d0e0f10",
      baseline: .tables)
  }

  @Test func everyDetectorOfAHostHasWordsForTheLog() {
    for detector in Detectors.all where !(detector is any DeviceOnly.Type) {
      #expect(LoggedFinding.hasWords(for: detector.name), "\(detector.name) has no words in LoggedWords")
      #expect(detector.name.utf8.count <= 32)
    }
  }

  @Test(
    arguments: [
      .host, .cpu(3), .task(tid: 7, start: 99, comm: Array("sh".utf8)),
      .lock(VirtualAddress(0xffff_8000_0000_1000), name: "a"),
      .module(VirtualAddress(0xffff_ffff_c000_0000), name: Array("hide".utf8)), .function("do_sys_open"),
      .function("a_function_whose_name_has_48_bytes_of_small_type"), .code(VirtualAddress(0xffff_ffff_c123_4000)),
      .disk(Array("sda".utf8)), .interface(Array("eth0".utf8), namespace: 4026),
      .file(device: 8, inode: 5, name: Array("su".utf8)),
      .table("sys_call_table", entry: 0), .table("sys_call_table", entry: 59), .table("modprobe_path", entry: nil),
      .workQueue("events"), .program(id: 5, name: Array("drop".utf8)),
      .socket(VirtualAddress(0xffff_8000_0000_2000), name: "port 22"), .observer("the detector hidden-module"),
    ] as [Subject])
  func subjectsComeBackAsTheyWere(_ subject: Subject) throws {
    let read = try #require(record(LoggedFinding.content(finding("hidden-module", [subject]))))
    #expect(!read.isCut && DeviceDetectors.finding(read).subjects == [subject])
  }

  @Test func aHiddenModuleIsToldAsACheckTellsIt() throws {
    let module = Subject.module(VirtualAddress(0xffff_ffff_c000_0000), name: Array("hide".utf8))
    var told = finding(
      "hidden-module", [module],
      [
        .init(
          "memory that load_module asked for", at: VirtualAddress(0xffff_ffff_c000_0000), seen: "4096 bytes",
          expected: "the memory of a module of the list"),
        .init("functions that ftrace knows there", seen: "3", expected: "none"),
      ])
    told.causes = ["changed-text:0000000000000001"]
    let read = try #require(record(LoggedFinding.content(told)))
    let cause = try #require(LoggedFinding.identity(ofID: told.causes[0]))
    let seen = DeviceDetectors.finding(read, kernel: "6.1", others: [cause: told.causes[0]])
    #expect(seen.id == told.id && seen.detector == told.detector && seen.kind == .attack && seen.severity == .critical)
    #expect(seen.confidence == .strong && seen.state == .confirmed && seen.count == 2 && seen.boot == told.boot)
    #expect(seen.title == "module hide is loaded and not in the list of modules: it hides")
    #expect(seen.evidence == told.evidence && seen.causes == told.causes && seen.first == told.first)
    #expect(seen.techniques == HiddenModule.techniques && seen.remedy == HiddenModule.remedy)
  }

  @Test func whatDoesNotFitIsSaidNotToFit() throws {
    let tasks = (1...3).map { Subject.task(tid: $0, start: 1, comm: Array("t\($0)".utf8)) }
    let many = try #require(record(LoggedFinding.content(finding("deadlock", tasks))))
    #expect(many.isCut)
    #expect(
      DeviceDetectors.finding(many).title
        == "t1 (1), t2 (2) and more wait for each other's locks in a circle (more than the log holds)")
    let words = try #require(
      record(
        LoggedFinding.content(
          finding("oops", [.host], [.init("the log", seen: "BUG: kernel NULL pointer dereference")]))))
    let seen = DeviceDetectors.finding(words)
    #expect(words.isCut && seen.evidence == [.init("the log", seen: "BUG: kernel NULL")])
    // Of what this version has no words for, it says that.
    let unknown = try #require(record(LoggedFinding.content(finding("of-tomorrow", [.host]))))
    #expect(DeviceDetectors.finding(unknown).title.contains("of-tomorrow, a detector that this version does not know"))
  }

  @Test func identitiesTellDetectorsAndSubjectsApart() {
    #expect(
      LoggedFinding.identity(ofID: "oops:00000000000000ff") != LoggedFinding.identity(ofID: "panic:00000000000000ff"))
    #expect(LoggedFinding.identity(ofID: "oops") == nil)
    #expect(LoggedFinding.identity(ofID: "oops:xyz") == nil)
  }
}
