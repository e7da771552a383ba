import CRuntime
import Devices
import Host
import LLView
import Links
import Memory
import Paging
import Records
import Region
import Remote
import Synchronization
import Testing

/// All monitors as one program, on a device, asked over a link.
@Suite(.serialized) struct DeviceProgramTests {
  @Test func aProgramHasItsMonitorsAndTheirKernel() throws {
    let program = try Self.program([("one", "emit(run, 1);"), ("two", "emit(run, 2);")])
    #expect(program.names == ["one", "two"])
    // This kernel has no build ID.
    #expect(program.kernel == "9.9.9-test ")
    #expect(try Self.program([]).names == [])
  }

  @Test func aProgramsMonitorsDifferInNameAndShareTheirKernel() throws {
    let one = try SampleKernel.monitor("emit(run, 1);", name: "one")
    let other = try SampleKernel.monitor("emit(run, 1);", name: "other", release: "9.9.8-test")
    let long = try SampleKernel.monitor("emit(run, 1);", name: String(repeating: "n", count: 32))
    for (monitors, why) in [
      ([one, one], "has its name"), ([one, other], "different kernels"), ([long], "31 letters"),
    ] {
      for target in [Target.native, .nvidia(capability: 70)] {
        let error = try #require(throws: LLViewError.self) { _ = try DeviceProgram.code(monitors, for: target) }
        #expect("\(error)".contains(why), "\(error)")
      }
    }
  }

  /// What a monitor calls volatile, and vectors, go past a GPU's caches; all else it loads from watched memory need not.
  @Test func aGPUMayCacheWhatNoMonitorCallsVolatile() throws {
    func uncached(_ body: String) throws -> Int {
      let monitor = try SampleKernel.monitor(body, name: "loading")
      let text = String(decoding: try DeviceProgram.code([monitor], for: .nvidia(capability: 90)), as: UTF8.self)
      return text.split(separator: "\n").count { $0.contains("ld.volatile") }
    }
    // What walks page tables is in all of them.
    let plain = try uncached("emit(run, *(u64 *)(kernel_page + 8));")
    #expect(try uncached("emit(run, *(volatile u64 *)(kernel_page + 8));") == plain + 1)
    let vector = "typedef u64 pair __attribute__((vector_size(16))); pair p = *(pair *)(kernel_page + 16);"
    #expect(try uncached(vector + " emit(run, p[0] + p[1]);") == plain + 1)
  }

  @Test func filesThatAreNoProgramsAreRefused() throws {
    let folder = try TestFolder()
    try folder.write([1, 2, 3], to: "noise")
    try folder.write(Array("// grass program 3\n// kernel a b\n// target sm_70\n// monitors x\n".utf8), to: "newer")
    try folder.write(Array("// grass program 2\n// kernel a b\n// target native\n// monitors x\n".utf8), to: "native")
    // An ELF file without what it promises.
    try folder.write([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], to: "short")
    for name in ["noise", "newer", "native", "short", "absent"] {
      let error = try #require(throws: DeviceError.self) { _ = try MonitorProgram(path: folder.path + "/" + name) }
      #expect("\(error)".contains(name), "\(error)")
    }
    let error = try #require(throws: DeviceError.self) { _ = try MonitorProgram(path: "/lib64/ld-linux-x86-64.so.2") }
    #expect("\(error)".contains("grassd compile"))
  }

  @Test func lanesAndArgumentsReachTheMonitor() throws {
    let host = try ProgramHost(
      Self.program([
        ("lanes", "emit(run, grass_lane(run) << 8 | grass_lanes(run));"),
        ("sum", "for (u32 i = 0; i < 5; i++) emit(run, grass_argument(run, i));"),
      ]))
    let session = try host.session()
    #expect(try session.monitors() == ["lanes", "sum"])
    let lanes = try session.run("lanes", lanes: 5)
    #expect(lanes.lanes == 5)
    #expect(lanes.result.words == [0x005, 0x105, 0x205, 0x305, 0x405])
    #expect(try session.run("lanes").result.words == [0x001])
    // More than the device has.
    #expect(try session.run("lanes", lanes: 1 << 24).lanes == 1 << 16)
    #expect(try session.run("sum", arguments: [7, .max]).result.words == [7, .max, 0, 0, 0])
    let error = try #require(throws: SessionError.self) { _ = try session.run("none") }
    #expect(error.reason == .refused(.noMonitor))
    #expect(throws: SessionError.self) { _ = try session.run(String(repeating: "n", count: 32)) }
  }

  @Test(arguments: [
    ("emit(run, *(volatile u64 *)0x1000);", GRASS_FAULT_WILD),
    ("emit(run, *(volatile u64 *)0x9000000000000000);", GRASS_FAULT_NOT_CANONICAL),
    ("emit(run, *(volatile u64 *)0xffffaaaaaaaa0000);", GRASS_FAULT_NOT_PRESENT),
    // A list whose members never lead back to its head.
    (
      """
      struct link { struct link *next; } *head = (struct link *)(kernel_page + 0x200);
      u64 count = 0;
      for (struct link *link = head->next; link != head; link = link->next) count++;
      emit(run, count);
      """, GRASS_FAULT_BUDGET
    ),
    ("for (;;) emit(run, 1);", GRASS_FAULT_FULL),
  ])
  func whatGoesWrongMarksTheAnswerAndNothingElse(_ body: String, _ fault: grass_fault) throws {
    let host = try ProgramHost(
      Self.program([("wrong", "emit(run, 1); if (grass_lane(run) == 2) { \(body) }"), ("right", "emit(run, 2);")]))
    let session = try host.session()
    let run = try session.run("wrong", lanes: 3)
    #expect(run.faulted == 1)
    #expect(run.result.faults.map(\.code) == [fault.rawValue])
    #expect(run.result.faults.first?.lane == 2)
    // What came before stays, and so do the other lanes' records.
    #expect(run.result.words.prefix(3) == [1, 1, 1])
    #expect(try session.run("right").result.words == [2])
  }

  @Test func aBudgetThatIsUsedUpMarksTheAnswer() throws {
    let body = "u64 n = 0; for (u32 i = 0; i < 100000; i++) n += *(volatile u64 *)(kernel_page + 8); emit(run, n);"
    let host = try ProgramHost(Self.program([("count", body)]))
    let session = try host.session()
    #expect(try session.run("count").result.words == [100_000 * 0x1234])
    let short = try session.run("count", budget: 50_000)
    #expect(short.result.words == [])
    #expect(short.result.faults.map(\.code) == [GRASS_FAULT_BUDGET.rawValue])
    #expect(try session.run("count", budget: 200_000).result.isPartial == false)
  }

  @Test func heartbeatsGoOnWhileAnEndlessLoopIsEnded() throws {
    let host = try ProgramHost(
      Self.program([
        ("forever", "emit(run, 1); for (;;) (void)*(volatile u64 *)(kernel_page + 8);"), ("two", "emit(run, 2);"),
      ]))
    let (one, two, beats) = (try host.session(), try host.session(), try host.session())
    let ended = Atomic<Int>(0)
    let runs = try [("forever", one), ("two", two)].map { name, session in
      try DedicatedThread(name: name) {
        let run = try? session.run(name, within: .seconds(60))
        #expect(run?.result.words == (name == "two" ? [2] : [1]))
        #expect(run?.result.isPartial == (name == "forever"))
        ended.add(1, ordering: .releasing)
      }
    }
    var answered = 0
    while ended.load(ordering: .acquiring) < 2 {
      try beats.heartbeat()
      answered += 1
    }
    for run in runs { run.join() }
    // The loop takes tens of milliseconds at the least, a heartbeat some microseconds.
    #expect(answered > 20)
  }

  @Test func newProgramsTakeOverWithoutLosingARequest() throws {
    let host = try ProgramHost(Self.program([("name", "emit(run, 1);")]))
    let programs = try [2, 3].map { try Self.program([("name", "emit(run, \($0));")]) }
    let isDone = Atomic<Bool>(false)
    let runs = Atomic<Int>(0)
    let threads = try (0..<2).map { number in
      let session = try host.session()
      return try DedicatedThread(name: "runs-\(number)") {
        while !isDone.load(ordering: .acquiring) {
          let run = try? session.run("name", within: .seconds(10))
          #expect([[1], [2], [3]].contains(run?.result.words))
          runs.add(1, ordering: .relaxed)
        }
      }
    }
    for _ in 0..<10 {
      for program in programs {
        let before = runs.load(ordering: .relaxed)
        try host.device.load(program, for: host.mapping)
        while runs.load(ordering: .relaxed) < before + 4 { SystemCall.sleep(nanoseconds: 100_000) }
      }
    }
    isDone.store(true, ordering: .releasing)
    for thread in threads { thread.join() }
    #expect(try host.session().run("name").result.words == [3])
  }

  // MARK: Detectors

  /// Sees something about what it remembers: when it looked first.
  ///
  /// `more` is other code that does nothing.
  private static func since(_ more: String = "") -> (name: String, body: String) {
    (
      "detect_since",
      """
      \(more)
      if (grass_argument(run, 1) == 0) grass_remember(run, 5, grass_argument(run, 0));
      u8 *sighting = grass_emit(run, 1, 328);
      *(u32 *)sighting = 3;
      sighting[4] = 1; sighting[5] = 3; sighting[6] = 2; sighting[7] = 1;
      *(u32 *)(sighting + 24) = 3;
      *(u64 *)(sighting + 32) = grass_recall(run, 5);
      """
    )
  }

  /// Waits for ticks of detectors, and for what is true then.
  private func wait(_ session: Session, ticks: UInt64 = 3, until isDone: () throws -> Bool = { true }) throws {
    let first = try session.line().detectorTick
    while try session.line().detectorTick < first + ticks || !isDone() { SystemCall.sleep(nanoseconds: 1_000_000) }
  }

  /// What a detector remembers lasts as long as its code and its kernel do.
  @Test(.timeLimit(.minutes(5))) func aTakeOverKeepsWhatADetectorThatIsTheSameRemembers() throws {
    let host = try ProgramHost(Self.program([Self.since()]), period: .milliseconds(5))
    let session = try host.session()
    func remembered() throws -> UInt64? {
      try wait(session)
      let open = try session.openFindings()
      return open.count == 1 ? open.first?.subjects.first?.values.first : nil
    }
    let first = try #require(try remembered())
    // It has another number now, and stays itself.
    let beside = try Self.program([("detect_nothing", "(void)run;"), Self.since()])
    try host.device.load(beside, for: host.mapping)
    #expect(try remembered() == first)
    #expect(try session.findings(after: 0, upTo: try session.line().newestFinding).findings.count == 1)
    try host.device.load(
      try Self.program([Self.since("if (grass_argument(run, 2) == 1) emit(run, 7);")]), for: host.mapping)
    try wait(session, until: { try session.openFindings().count == 1 })
    let other = try #require(try remembered())
    #expect(other != first, "another detector of the name has what the first one remembered")
    try host.device.load(beside, for: host.mapping)
    try wait(session, until: { try session.openFindings().count == 1 })
    let again = try #require(try remembered())
    #expect(again != other)
    // The kernel is gone, and with it what was remembered of it.
    host.device.withdrawMonitors()
    try host.device.load(beside, for: host.mapping)
    try wait(session, until: { try session.openFindings().count == 1 })
    #expect(try remembered() != again)
  }

  /// One that takes more than its budget, or faults, is named and not run any more; the others go on.
  @Test(
    .timeLimit(.minutes(5)),
    arguments: [
      "for (;;) (void)*(volatile u64 *)(kernel_page + 8);", "emit(run, *(volatile u64 *)0x1000);",
    ])
  func aDetectorThatEndsEarlyAgainAndAgainIsNamedAndSuspended(_ body: String) throws {
    let program = try Self.program([("detect_broken", body), Self.since()])
    let host = try ProgramHost(program, period: .milliseconds(5))
    let session = try host.session()
    try wait(session, until: { try session.line().suspended == 1 })
    try wait(session, ticks: 20)
    let open = try session.openFindings()
    let observer = try #require(open.first { $0.detector == 1 })
    #expect(String(decoding: observer.subjects.first?.name ?? [], as: UTF8.self) == "broken")
    #expect(observer.evidence.first?.seen != 0)
    #expect(open.contains { $0.detector == 3 && $0.count > 20 } || open.count == 2)
    #expect(try session.line().suspended == 1 && session.line().open == 2)
    // Loaded anew, it has another chance.
    try host.device.load(try Self.program([("detect_broken", "(void)run;"), Self.since()]), for: host.mapping)
    try wait(session, until: { try session.line().suspended == 0 })
    #expect(try session.openFindings().allSatisfy { $0.detector != 1 })
  }

  // MARK: What they share

  private static func program(_ monitors: [(name: String, body: String)]) throws -> MonitorProgram {
    let bound = try monitors.map { try SampleKernel.monitor($0.body, name: $0.name) }
    let folder = try TestFolder()
    try folder.write(try DeviceProgram.code(bound, for: .native), to: "program.so")
    return try MonitorProgram(path: folder.path + "/program.so")
  }
}

/// The sample kernel's memory in this process, a CPU device with a program over it, and a region to ask it by.
private final class ProgramHost {
  let device: CPUDevice
  let mapping: KernelMapping
  private let region: SharedRegion
  private let address: LinkAddress

  init(_ program: MonitorProgram, period: Duration = .seconds(1)) throws {
    let folder = try TestFolder()
    try folder.write(SampleKernel.memory, to: "memory.raw")
    let memory = try #require(try MemoryImage.open(folder.path + "/memory.raw").first)
    mapping = KernelMapping(
      AddressSpace(memory: memory, format: .x86_64FourLevel, root: SampleKernel.root), slide: 0)
    let path = "/tmp/grass-test-\(UInt64.random(in: 0 ... .max))"
    address = .sharedMemory(path: path)
    region = try SharedRegion(path: path, layout: RegionLayout(slots: 4, requestSize: 4096, responseSize: 4096))
    device = try CPUDevice(region: region, segments: memory.mappedSegments, owner: memory, period: period)
    try device.load(program, for: mapping)
  }

  deinit { device.stop() }

  /// Patient: a budget of steps that is used up takes sanitized code long.
  func session() throws -> Session { try Session(to: address, slots: 1, timeout: .seconds(60)) }
}
