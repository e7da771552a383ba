import Detection
import Testing

@testable import Fleet

/// A host's state, made of what is seen of it.
struct StateMachineTests {
  /// A machine that expectations can step.
  private final class Machine {
    private var machine: HostStateMachine
    init(restored: Standing? = nil, found: [OpenFinding] = []) {
      machine = HostStateMachine(restored: restored, found: found)
    }

    var standing: Standing? { machine.standing }
    func take(_ event: HostStateMachine.Event, at moment: HostStateMachine.Moment) -> Standing? {
      machine.take(event, at: moment)
    }
  }

  private func at(_ seconds: Double) -> HostStateMachine.Moment { .init(clock: seconds, utc: 1_000_000 + seconds) }

  private func look(_ counter: UInt64, ticks: UInt64 = 7, isStopped: Bool = false) -> HostStateMachine.Event {
    .looked(.init(counter: counter, ticks: ticks, isStopped: isStopped))
  }

  private func finding(
    _ detector: String, attack: Bool = false, severe: Bool = true, sure: Bool = true, first: Double = 1_000_000
  ) -> OpenFinding {
    OpenFinding(
      id: "\(detector):1", detector: detector, kind: attack ? .attack : .fault, severity: severe ? .warning : .notice,
      confidence: sure ? .proven : .hint, title: "\(detector) was found", first: first)
  }

  @Test func aHostIsAliveOnceItsLineIsRead() throws {
    let machine = Machine()
    #expect(machine.standing == nil)
    let standing = try #require(machine.take(look(1), at: at(1)))
    #expect(standing.state == .alive && standing.since == 1_000_001 && standing.before == nil)
    #expect(machine.take(look(2, ticks: 8), at: at(2)) == nil)
    #expect(machine.standing == standing)
  }

  @Test func aDeviceThatLooksForNothingIsSaidToDoSo() throws {
    let machine = Machine()
    let standing = try #require(machine.take(look(1, ticks: 0), at: at(1)))
    #expect(standing.state == .alive && standing.cause.contains("--detectors"))
  }

  @Test func aHostThatWasLostKeepsItsLastStateAndItsFirstReason() throws {
    let machine = Machine()
    _ = machine.take(look(1), at: at(1))
    let panicked = try #require(machine.take(.found([finding("panic")]), at: at(2)))
    #expect(panicked.state == .panic && panicked.cause == "panic was found" && panicked.since == 1_000_000)
    let lost = try #require(machine.take(.lost("the link ended"), at: at(3)))
    #expect(lost.state == .unreachable && lost.cause == "the link ended" && lost.since == 1_000_003)
    #expect(lost.before == .init(state: .panic, since: 1_000_000, cause: "panic was found"))
    #expect(lost.rank == HostState.panic.rank, "a host that died comes first also where its device is gone")
    #expect(machine.take(.lost("connection refused"), at: at(4)) == nil)
    let back = try #require(machine.take(look(1), at: at(5)))
    #expect(back.state == .panic && back.before == nil && back.since == 1_000_000)
  }

  @Test func aLineThatStandsStillIsSilence() throws {
    let machine = Machine()
    _ = machine.take(look(5), at: at(0))
    #expect(machine.take(look(5), at: at(0.5)) == nil)
    let silent = try #require(machine.take(look(5), at: at(0.8)))
    #expect(silent.state == .silent && silent.before?.state == .alive)
    #expect(machine.take(look(5), at: at(9)) == nil, "the cause does not change with each look")
    #expect(machine.take(look(6), at: at(9.1))?.state == .alive)
  }

  @Test func detectorsThatDoNotLookAreSilenceToo() throws {
    let machine = Machine()
    for second in 0...9 { _ = machine.take(look(UInt64(second), ticks: 3), at: at(Double(second))) }
    #expect(machine.standing?.state == .alive)
    #expect(machine.take(look(11, ticks: 3), at: at(10.1))?.state == .silent)
    #expect(machine.take(look(12, ticks: 4), at: at(11))?.state == .alive)
  }

  @Test func aStoppedDeviceIsSilent() {
    let machine = Machine()
    #expect(machine.take(look(1, isStopped: true), at: at(1))?.state == .silent)
  }

  @Test(arguments: [
    ("panic", false, true, true, HostState.panic), ("stopped", false, true, true, .still),
    ("paused", false, false, true, .still), ("hard-lockup", false, true, true, .stuck),
    ("hung-task", false, true, true, .stuck), ("hung-task", false, false, true, .alive),
    ("hidden-process", true, true, true, .lying), ("hidden-process", true, true, false, .alive),
    ("hidden-process", true, false, true, .alive), ("device-silent", true, true, true, .alive),
    ("fs-full", false, true, true, .alive),
  ]) func whatIsFoundMakesTheState(_ detector: String, _ attack: Bool, _ severe: Bool, _ sure: Bool, _ state: HostState)
  {
    let machine = Machine()
    _ = machine.take(look(1), at: at(1))
    _ = machine.take(.found([finding(detector, attack: attack, severe: severe, sure: sure)]), at: at(2))
    #expect(machine.standing?.state == state)
  }

  @Test func theWorstOfSeveralCountsAndThenTheNext() {
    let machine = Machine()
    _ = machine.take(look(1), at: at(1))
    _ = machine.take(
      .found([finding("soft-lockup"), finding("hidden-process", attack: true), finding("panic")]), at: at(2))
    #expect(machine.standing?.state == .panic)
    _ = machine.take(.found([finding("soft-lockup"), finding("hidden-process", attack: true)]), at: at(3))
    #expect(machine.standing?.state == .lying)
    _ = machine.take(.found([]), at: at(4))
    #expect(machine.standing?.state == .alive && machine.standing?.since == 1_000_004)
  }

  @Test func aDevicesClockMakesNoStateOfTheFuture() {
    let machine = Machine()
    _ = machine.take(look(1), at: at(1))
    _ = machine.take(.found([finding("panic", first: 9e9)]), at: at(2))
    #expect(machine.standing?.since == 1_000_002)
  }

  @Test func whatWasKnownGoesOnAfterARestart() {
    let old = Standing(state: .panic, since: 999, cause: "panic was found")
    let machine = Machine(restored: old, found: [finding("panic", first: 999)])
    #expect(machine.take(.found([finding("panic", first: 999)]), at: at(0)) == nil, "nobody has heard its device yet")
    #expect(machine.take(look(1), at: at(1)) == nil)
    #expect(machine.standing == old)
    let other = Machine(restored: old, found: [finding("panic", first: 999)])
    let lost = other.take(.lost("no route"), at: at(1))
    #expect(lost?.state == .unreachable && lost?.before?.state == .panic && lost?.before?.since == 999)
  }

  @Test func everyStateHasARankOfItsOwn() {
    #expect(Set(HostState.allCases.map(\.rank)).count == HostState.allCases.count)
  }

  /// Prometheus is the second witness: where the two do not agree, that is a state of its own; where nobody knows, nothing changes.
  @Test func twoWitnessesTellADeadAgentFromADeadHost() throws {
    let machine = Machine()
    #expect(
      machine.take(.agent(isUp: false), at: at(0)) == nil, "of a host that nobody has looked at an agent tells nothing")
    let first = try #require(machine.take(look(1), at: at(1)))
    #expect(first.state == .agentDead && first.cause.contains("does not answer Prometheus"))
    let well = try #require(machine.take(.agent(isUp: true), at: at(2)))
    #expect(well.state == .alive && well.since == 1_000_002)
    #expect(machine.take(.agent(isUp: true), at: at(3)) == nil && machine.take(.agent(isUp: nil), at: at(3)) == nil)
    _ = machine.take(.agent(isUp: true), at: at(4))
    let unseen = try #require(machine.take(.lost("the link ended"), at: at(5)))
    #expect(unseen.state == .unseen && unseen.cause == "its own agent answers, but the link ended")
    #expect(unseen.before?.state == .alive)
    let gone = try #require(machine.take(.agent(isUp: false), at: at(6)))
    #expect(gone.state == .unreachable && gone.cause == "the link ended" && gone.before?.state == .alive)
    // What was found weighs more than that an agent is dead.
    _ = machine.take(look(2), at: at(7))
    #expect(machine.standing?.state == .agentDead)
    #expect(machine.take(.found([finding("panic")]), at: at(8))?.state == .panic)
    #expect(machine.take(.agent(isUp: true), at: at(9)) == nil && machine.standing?.state == .panic)
    // A device that is silent, of a host that lives.
    _ = machine.take(.found([]), at: at(10))
    let silent = try #require(machine.take(look(2, isStopped: true), at: at(11)))
    #expect(silent.state == .unseen && silent.cause.hasPrefix("its own agent answers, but the device was stopped"))
    #expect(machine.take(.agent(isUp: nil), at: at(12))?.state == .silent)
  }
}
