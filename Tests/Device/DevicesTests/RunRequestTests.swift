import CMailbox
import CRegion
import CRuntime
import Region
import Testing

/// Requests that concern monitors, of every wrong shape and in every unlucky order; the test is the worker.
struct RunRequestTests {
  private static let monitors = words(5, 0, 0, 0)

  /// A request for a run.
  private static func run(
    _ name: String, padding: UInt8 = 0, flags: UInt32 = 0, lanes: UInt32 = 0, budget: UInt64 = 0
  ) -> [UInt8] {
    var bytes = words(4, 0, 0, 0) + Array(name.utf8)
    bytes += [UInt8](repeating: padding, count: 16 + 32 - bytes.count)
    return bytes + words(UInt32(truncatingIfNeeded: budget), UInt32(budget >> 32), lanes, flags)
      + [UInt8](repeating: 0, count: 32)
  }

  /// A bench whose device has monitors of these names.
  private final class RunBench {
    let bench: Bench
    let monitors: UnsafeMutablePointer<grass_monitors>
    private let names: UnsafeMutablePointer<grass_monitor_answer>
    private let output: UnsafeMutablePointer<UInt64>

    init(_ names: [String], responseSize: Int = 8192) throws {
      bench = try Bench(responseSize: responseSize)
      self.names = .allocate(capacity: max(1, names.count))
      for (index, name) in names.enumerated() {
        var answer = grass_monitor_answer()
        withUnsafeMutableBytes(of: &answer) { $0.copyBytes(from: Array(name.utf8)) }
        (self.names + index).initialize(to: answer)
      }
      output = .allocate(capacity: responseSize / 8)
      output.initialize(repeating: 0, count: responseSize / 8)
      monitors = .allocate(capacity: 1)
      monitors.initialize(to: grass_monitors())
      monitors.pointee.names = UnsafePointer(self.names)
      monitors.pointee.count = UInt32(names.count)
      monitors.pointee.most_workers = 2
      monitors.pointee.lanes_per_worker = 8
      monitors.pointee.default_lanes = 3
      monitors.pointee.most_budget = 1000
      grass_mailbox_set_monitors(
        bench.mailbox, monitors, UnsafeMutableRawPointer(output).assumingMemoryBound(to: UInt8.self))
    }

    deinit {
      monitors.deallocate()
      names.deallocate()
      output.deallocate()
    }

    /// Ends the run at work, with one record of `value`.
    func work(_ value: UInt64, faults: Int = 0) {
      output[0] = 8 << 32 | 1
      output[1] = value
      monitors.pointee.job.output.used = 16
      var state = grass_lane_state()
      state.fault = GRASS_FAULT_WILD.rawValue
      for _ in 0..<faults { grass_job_note(&monitors.pointee.job, &state) }
      for _ in 0..<monitors.pointee.job.workers { grass_job_finish(&monitors.pointee.job) }
    }
  }

  @Test func wrongShapesAreAnsweredWithAnError() throws {
    let bench = try RunBench(["ps", "life"])
    let cases: [(String, [UInt8], grass_status)] = [
      ("a long question for monitors", Self.monitors + [0], GRASS_BAD_LENGTH),
      ("a short question for monitors", Array(Self.monitors.dropLast()), GRASS_BAD_LENGTH),
      ("a run of nothing", words(4, 0, 0, 0), GRASS_BAD_LENGTH),
      ("a short run", Array(Self.run("ps").dropLast()), GRASS_BAD_LENGTH),
      ("a long run", Self.run("ps") + [0], GRASS_BAD_LENGTH),
      ("no name", Self.run(""), GRASS_NO_MONITOR),
      ("another name", Self.run("pt"), GRASS_NO_MONITOR),
      ("a name's start", Self.run("beaco"), GRASS_NO_MONITOR),
      ("a name with more behind it", Self.run("ps", padding: 1), GRASS_NO_MONITOR),
      ("a name without end", Self.run(String(repeating: "p", count: 32)), GRASS_NO_MONITOR),
      ("unknown flags", Self.run("ps", flags: 2), GRASS_BAD_RUN),
      ("all flags", Self.run("ps", flags: .max), GRASS_BAD_RUN),
    ]
    for (name, payload, expected) in cases {
      #expect(bench.bench.status(payload) == expected.rawValue, "\(name)")
      #expect(!bench.monitors.pointee.is_running, "\(name)")
      #expect(bench.bench.status(Self.monitors) == GRASS_OK.rawValue, "after: \(name)")
    }
    #expect(bench.bench.mailbox.pointee.refused == cases.count)
  }

  @Test func aDeviceWithoutModulesSaysSo() throws {
    let bench = try Bench()
    #expect(bench.ask(Self.monitors) == words(5, 0, 0, 0))
    #expect(bench.status(Self.run("ps")) == GRASS_NO_MONITOR.rawValue)
  }

  @Test func answersThatDoNotFitTheirSlotAreRefused() throws {
    // Behind the answer's head there is room for two names.
    let bench = try RunBench(["a", "b", "c"], responseSize: 128)
    #expect(bench.bench.status(Self.monitors) == GRASS_TOO_LARGE.rawValue)
    #expect(bench.bench.status(Self.run("a")) == GRASS_TOO_LARGE.rawValue)
    let smaller = try RunBench(["a", "b"], responseSize: 128)
    defer { withExtendedLifetime(smaller) {} }
    #expect(smaller.bench.status(Self.monitors) == GRASS_OK.rawValue)
  }

  @Test func aRunIsBoundedByTheDevice() throws {
    let bench = try RunBench(["ps"])
    for (lanes, budget, expected) in [
      (0, 0, (3, 1000, 1)), (8, 7, (8, 7, 1)), (9, 1000, (9, 1000, 2)), (UInt32.max, UInt64.max, (16, 1000, 2)),
    ] as [(UInt32, UInt64, (UInt32, UInt64, UInt32))] {
      #expect(bench.bench.ask(Self.run("ps", lanes: lanes, budget: budget)) == nil)
      let job = bench.monitors.pointee.job
      #expect((job.lanes, job.budget, job.workers) == expected)
      bench.work(1)
      #expect(grass_mailbox_step(bench.bench.mailbox, bench.bench.now) == 1)
    }
  }

  @Test func aRunsAnswerHasRecordsAndTheFirstFaults() throws {
    let bench = try RunBench(["ps"])
    for faults in [0, 1, 8, 9, 1000] {
      #expect(bench.bench.ask(Self.run("ps", lanes: 12)) == nil)
      // While it is at work, all else is answered from the other slots.
      bench.work(0x1122_3344_5566_7788, faults: faults)
      _ = grass_mailbox_step(bench.bench.mailbox, bench.bench.now)
      let answer = try #require(bench.bench.answer())
      let listed = min(faults, 8)
      #expect(answer.count == 16 + 24 + 16 + listed * 32)
      #expect(answer.prefix(16).elementsEqual(words(4, 0, UInt32(listed), 0)))
      #expect(answer[24..<40].elementsEqual(words(16, 0, 12, UInt32(faults))))
      #expect(answer[40..<56].elementsEqual(words(1, 8, 0x5566_7788, 0x1122_3344)))
    }
  }

  @Test func runsWaitForOneAnotherAndRequestersMayGiveUp() throws {
    let bench = try RunBench(["ps", "cpu"])
    // Slot 0 asks for a run, slot 1 for another, which waits; heartbeats go on in slot 1's place later.
    #expect(bench.bench.ask(Self.run("ps")) == nil)
    let first = bench.bench.sequence
    #expect(bench.bench.ask(Self.run("cpu"), slot: 1) == nil)
    let second = bench.bench.sequence
    #expect(bench.monitors.pointee.job.monitor == 0)
    // The first gives up and asks for something else: that is answered at once, and its run's answer goes nowhere.
    #expect(bench.bench.status(Self.monitors) == GRASS_OK.rawValue)
    let monitors = bench.bench.sequence
    bench.work(1)
    _ = grass_mailbox_step(bench.bench.mailbox, bench.bench.now)
    #expect(bench.bench.answer(sequence: monitors) != nil)
    #expect(bench.bench.answer(sequence: first) == nil)
    // Now it is the second one's turn.
    #expect(bench.monitors.pointee.is_running)
    #expect(bench.monitors.pointee.job.monitor == 1)
    bench.work(2)
    _ = grass_mailbox_step(bench.bench.mailbox, bench.bench.now)
    #expect(bench.bench.answer(slot: 1, sequence: second) != nil)
    #expect(!bench.monitors.pointee.is_running)
  }
}
