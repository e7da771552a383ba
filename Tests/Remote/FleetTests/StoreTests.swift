import Detection
import Foundation
import GRDB
import Scratch
import Testing

@testable import Fleet

/// What lasts.
struct StoreTests {
  private func change(
    _ number: UInt64, _ id: String = "panic:1", state: String = "confirmed", severity: Finding.Severity = .critical,
    boot: String = "b1", at utc: Double = 1000
  ) -> FindingChange {
    FindingChange(
      number: number, id: id, boot: boot, state: state, kind: "fault", severity: severity.rawValue,
      confidence: "proven",
      detector: String(id.prefix { $0 != ":" }), title: "\(id) <b>", first: utc, last: utc,
      json: Array("{\"n\": \(number)}".utf8),
      open: OpenFinding(
        id: id, detector: "panic", kind: .fault, severity: severity, confidence: .proven, title: id, first: utc),
      mark: Int64(number) * 7)
  }

  @Test func aLogIsKeptOnceHoweverOftenItIsTaken() throws {
    let scratch = try Scratch()
    let path = scratch.file("fleet.db")
    do {
      let store = try FleetStore(path: path)
      #expect(try store.host("a") == KeptHost())
      #expect(
        try store.keep([change(1), change(2, "oops:2")], of: "a", epoch: 1, taken: 2, mark: 14, at: 1000).count == 2)
      #expect(
        try store.keep(
          [change(2, "oops:2"), change(3, "oops:2", state: "closed")], of: "a", epoch: 1, taken: 3, mark: 21, at: 1000
        )
        .map(\.number) == [3])
      // The same numbers of another host, and of a later log, are others.
      #expect(try store.keep([change(1)], of: "b", epoch: 1, taken: 1, mark: 7, at: 1000).count == 1)
    }
    let store = try FleetStore(path: path)
    #expect(try store.changeCount(of: "a") == 3)
    let kept = try store.host("a")
    #expect(kept.epoch == 1 && kept.taken == 3 && kept.mark == 21 && kept.open.map(\.id) == ["panic:1"])
    let findings = try store.findings(of: "a", now: 2000)
    #expect(findings.map(\.id) == ["panic:1", "oops:2"] && findings.map(\.isOpen) == [true, false])
    #expect(findings[1].json == Array("{\"n\": 3}".utf8))
    #expect(try store.findings(isOpen: true, now: 2000).count == 2)
  }

  /// What the service finds itself is kept beside what devices find, and no log of theirs ends it.
  @Test func whatChecksFindHasALogOfItsOwn() throws {
    let scratch = try Scratch()
    let path = scratch.file("fleet.db")
    do {
      let store = try FleetStore(path: path)
      _ = try store.keep([change(1)], of: "a", epoch: 1, taken: 1, mark: 7, at: 1000)
      var hidden = change(0, "hidden-process:1")
      hidden.json = Array("{\"id\": \"x\", \"state\": \"confirmed\", \"title\": \"\\\"state\\\": \"}".utf8)
      #expect(try store.keepChecked([hidden, change(0, "ownerless-code:2")], over: [], of: "a", at: 1001).isEmpty)
      // Another log of its device ends what the device had found.
      _ = try store.keep([], of: "a", epoch: 2, taken: 0, mark: nil, at: 1002)
    }
    let store = try FleetStore(path: path)
    let kept = try store.host("a")
    #expect(kept.open.isEmpty && kept.checked.map(\.id).sorted() == ["hidden-process:1", "ownerless-code:2"])
    // Of what it has not found itself it ends nothing.
    let closed = try store.keepChecked([], over: ["hidden-process:1", "panic:1", "none:1"], of: "a", at: 1003)
    #expect(closed.map(\.id) == ["hidden-process:1"] && closed[0].last == 1003 && !closed[0].isOpen)
    #expect(
      String(decoding: closed[0].json, as: UTF8.self)
        == "{\"id\": \"x\", \"state\": \"closed\", \"title\": \"\\\"state\\\": \"}")
    #expect(try store.host("a").checked.map(\.id) == ["ownerless-code:2"])
    #expect(try store.changeCount(of: "a") == 4)
    // Found by the device, it is the device's.
    _ = try store.keep([change(1, "ownerless-code:2")], of: "a", epoch: 2, taken: 1, mark: 7, at: 1004)
    let now = try store.host("a")
    #expect(now.checked.isEmpty && now.open.map(\.id) == ["ownerless-code:2"])
  }

  @Test func aLaterLogEndsWhatTheOneBeforeHadOpen() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    _ = try store.keep([change(1), change(2, "oops:2")], of: "a", epoch: 1, taken: 2, mark: 14, at: 1000)
    #expect(
      try store.keep([change(1, "oops:2", boot: "b2")], of: "a", epoch: 2, taken: 1, mark: 7, at: 1000).count == 1)
    #expect(try store.findings(of: "a", isOpen: true, now: 2000).map(\.boot) == ["b2"])
    #expect(try store.changeCount(of: "a") == 3)
  }

  @Test func whereAHostStandsIsKnownAfterARestart() throws {
    let scratch = try Scratch()
    let path = scratch.file("fleet.db")
    let standing = Standing(
      state: .unreachable, since: 50, cause: "no \"way\"", before: .init(state: .panic, since: 40, cause: "it panicked")
    )
    do {
      let store = try FleetStore(path: path)
      try store.keep(Standing(state: .panic, since: 40, cause: "it panicked"), of: "a", at: 41)
      try store.keep(standing, of: "a", at: 50)
    }
    let store = try FleetStore(path: path)
    #expect(try store.host("a").standing == standing)
    #expect(try store.states(of: "a").map(\.state) == ["unreachable", "panic"])
  }

  @Test func anAcknowledgementHoldsAsLongAsItSays() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    _ = try store.keep([change(1), change(2, "oops:2")], of: "a", epoch: 1, taken: 2, mark: 14, at: 1000)
    let number = try #require(store.findings(now: 0).first { $0.id == "panic:1" }).number
    let seen = Acknowledgement(who: "ann", comment: "it's <known>", at: 100, until: 200)
    #expect(try store.acknowledge(number, seen))
    #expect(try !store.acknowledge(number + 99, seen))
    #expect(try store.finding(number, now: 150)?.acknowledgement == seen)
    #expect(try store.findings(now: 150).map(\.id) == ["oops:2", "panic:1"], "what somebody sees to comes later")
    #expect(try store.finding(number, now: 201)?.acknowledgement == nil)
    // When it is over and comes again, nobody has seen to it yet.
    #expect(try store.acknowledge(number, .init(who: "ann", comment: "", at: 300, until: nil)))
    _ = try store.keep(
      [change(3, state: "closed"), change(4, at: 5000)], of: "a", epoch: 1, taken: 4, mark: 28, at: 1000)
    let again = try #require(try store.finding(number, now: 6000))
    #expect(again.isOpen && again.acknowledgement == nil && again.first == 5000)
  }

  @Test func whatIsOverAndOldIsForgotten() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    let day = 86400.0
    _ = try store.keep(
      [change(1, "a:1"), change(2, "a:1", state: "closed"), change(3, "b:1")], of: "a", epoch: 1, taken: 3, mark: 21,
      at: day)
    // What a device takes for the time does not count.
    _ = try store.keep([change(4, "c:1", state: "closed", at: 0)], of: "a", epoch: 1, taken: 4, mark: 28, at: 100 * day)
    try store.keep(Standing(state: .alive, since: day, cause: ""), of: "a", at: day)
    try store.note("looked", by: "ann", from: "::1", at: day)
    try store.forget(olderThan: 30, now: 101 * day)
    #expect(Set(try store.findings(now: 0).map(\.id)) == ["b:1", "c:1"], "what is open stays, however old")
    #expect(try store.changeCount(of: "a") == 2)
    #expect(try store.states(of: "a").isEmpty && store.visits().isEmpty)
    #expect(try store.host("a").taken == 4, "up to where its log was taken is not forgotten")
  }

  @Test func whatIsNoDatabaseIsRefusedInWords() throws {
    let scratch = try Scratch()
    let path = scratch.file("fleet.db")
    try Data(repeating: 0x5a, count: 8192).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: StoreError.self) { try FleetStore(path: path) }
    #expect(error.map { "\($0)".contains("not a database") } == true, "\(String(describing: error))")
  }

  /// What a full disk does to SQLite, by its own limit: it says that it is full, and takes more when there is room again.
  @Test func aFullDiskIsSaidAndOver() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    try store.limitPages(40)
    var kept: UInt64 = 0
    var error: StoreError?
    for number in 1...2000 as ClosedRange<UInt64> where error == nil {
      do throws(StoreError) {
        _ = try store.keep([change(number, "a:\(number)")], of: "a", epoch: 1, taken: number, mark: nil, at: 1000)
        kept = number
      } catch let failure {
        error = failure
      }
    }
    #expect(error?.reason == .full && store.problem?.reason == .full)
    #expect(try store.host("a").taken == kept, "what was not kept is not taken for kept")
    #expect(try store.changeCount(of: "a") == Int(kept))
    try store.limitPages(1_000_000)
    #expect(
      try store.keep([change(kept + 1, "a:\(kept + 1)")], of: "a", epoch: 1, taken: kept + 1, mark: nil, at: 1000).count
        == 1)
    #expect(store.problem == nil)
  }

  @Test func imagesThatWereAskedForAreKept() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    var request = ImageRequest(
      number: 0, host: "a", who: "ann", reason: "why", rule: "states panic", level: 31, state: .waiting, asked: 1000)
    request.number = try store.keep(request)
    #expect(try request.number == 1 && store.images() == [request])
    (request.state, request.ended, request.image) = (.done, 1010, "ab")
    (request.done, request.total, request.stored) = (4096, 4096, 100)
    _ = try store.keep(request)
    let second = try store.keep(
      ImageRequest(
        number: 0, host: "b", who: "grass-fleet", reason: "", rule: "", level: 0, state: .running, asked: 1001))
    #expect(try store.images(of: "a") == [request] && store.images().map(\.number) == [second, 1])
    #expect(try store.imageCount(of: "a", rule: "states panic", since: 999) == 1)
    #expect(try store.imageCount(of: "a", rule: "states panic", since: 1000) == 0)
    try store.endImages(problem: "killed", at: 1020)
    let ended = try #require(try store.images(of: "b").first)
    #expect(ended.state == .failed && ended.problem == "killed" && ended.ended == 1020)
    #expect(try store.images(of: "a").first?.state == .done)
  }

  @Test func maintenanceEndsBeforeItsTime() throws {
    let scratch = try Scratch()
    let store = try FleetStore(path: scratch.file("fleet.db"))
    try store.plan("a", from: 100, until: 200, who: "ann", comment: "")
    try store.plan("b", from: 300, until: 400, who: "ann", comment: "later")
    let numbers = try store.maintenance(now: 150).map(\.number)
    #expect(try numbers.count == 2 && store.endMaintenance(numbers[0], now: 150) == "a")
    #expect(try store.endMaintenance(numbers[0], now: 151) == nil && store.endMaintenance(99, now: 150) == nil)
    #expect(try store.endMaintenance(numbers[1], now: 150) == "b")
    #expect(try store.maintenance(now: 150).isEmpty)
  }
}
