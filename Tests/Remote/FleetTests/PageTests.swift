import Detection
import Foundation
import Output
import Testing

@testable import Fleet

/// What is shown to people and programs, of hosts that would rather show something else.
struct PageTests {
  private static let nasty = "\"><script>alert(1)</script>\u{0301}'\u{0301} onload=x \u{202e}\u{7}&"

  private func report(_ name: String, _ state: HostState, labels: [String: String] = [:], cause: String = "so")
    -> HostReport
  {
    HostReport(
      name: name, url: "tcp://h:1", labels: labels, standing: Standing(state: state, since: 100, cause: cause),
      heartbeatAge: 0.1, heartbeats: HeartbeatHistory(),
      open: [
        OpenFinding(
          id: "x:1", detector: "panic", kind: .fault, severity: .critical, confidence: .proven, title: cause, first: 99)
      ], worstSeverity: 4, suspended: 0, missed: 0, seen: 100, taken: 3)
  }

  private var frame: Pages.Frame {
    .init(viewer: Viewer(name: "ann", isAdmin: true, token: "t0k", hasSession: true), problem: nil, now: 200)
  }

  @Test func whatCombinesWithAQuoteDoesNotHideIt() {
    // One character to Swift, a quote and an accent to a browser.
    #expect(PageText.escaped("\"\u{0301}") == "&quot;\u{0301}")
    #expect(PageText.escaped("<\u{0301}b>") == "&lt;\u{0301}b&gt;")
    #expect(PageText.escaped("a\u{202e}b\u{0}c") == "a\u{fffd}b\u{fffd}c")
  }

  @Test func nothingThatAHostSaysIsMarkup() throws {
    let pages = try Pages()
    let hostile = report("db1", .panic, labels: ["rack": Self.nasty], cause: Self.nasty)
    let finding = KeptFinding(
      number: 1, host: "db1", id: "x:1", boot: "", state: "open", kind: "fault", severity: "critical",
      confidence: "hint",
      detector: "panic", title: Self.nasty, first: 1, last: 2,
      json: FleetJSON.bytes(
        .object([
          (
            "evidence", .array([.object([("what", .string(Self.nasty)), ("seen", .bytes([0xff, 0x3c, 0x69, 0x3e]))])])
          ),
          ("remedy", .string(Self.nasty)),
        ])),
      acknowledgement: .init(who: Self.nasty, comment: Self.nasty, at: 1, until: nil))
    let texts = [
      pages.fleet([hostile], .init(state: nil, text: "db"), frame),
      pages.host(
        hostile, findings: [finding], words: (Self.nasty, Self.nasty),
        history: [.init(at: 1, state: "panic", cause: Self.nasty)],
        images: [
          ImageRequest(
            number: 1, host: "db1", who: Self.nasty, reason: Self.nasty, rule: "", level: 0, state: .running, asked: 1,
            image: Self.nasty, problem: Self.nasty)
        ], takesImages: 0,
        maintenance: [.init(number: 1, host: "db1", who: Self.nasty, comment: Self.nasty, from: 1, until: 300)], frame),
      pages.maintenance(
        [.init(number: 1, host: "db1", who: Self.nasty, comment: Self.nasty, from: 1, until: 300)], hosts: [Self.nasty],
        frame),
      pages.findings([finding], isOpenOnly: true, frame), pages.logIn(error: Self.nasty, frame),
      pages.visits([(1, Self.nasty, Self.nasty, Self.nasty)], frame),
    ]
    for text in texts {
      #expect(!text.contains("<script>alert") && !text.contains("\u{202e}") && !text.contains("\u{7}"))
      #expect(!text.contains("<i>") && !text.contains("{{"))
      // No quote of it stands in the page as one.
      #expect(!text.unicodeScalars.contains("\u{0301}") || !text.contains("\"\u{0301}"))
      #expect(text.contains("&lt;script&gt;"))
    }
    #expect(texts[1].contains("\u{fffd}&lt;i&gt;"), "evidence that is no UTF-8 is shown all the same")
  }

  @Test func theWorstIsFirstAndFiltersHold() throws {
    let pages = try Pages()
    let reports = [report("a", .panic, cause: "first"), report("b", .alive, labels: ["rack": "r9"])]
    let all = pages.fleet(reports, .init(), frame)
    let (a, b) = (try #require(all.range(of: "id=\"host-a\"")), try #require(all.range(of: "id=\"host-b\"")))
    #expect(a.lowerBound < b.lowerBound && all.contains("1 of 2 hosts need a look"))
    #expect(!pages.fleet(reports, .init(state: .panic), frame).contains("host-b"))
    #expect(!pages.fleet(reports, .init(text: "RACK=R9"), frame).contains("host-a"))
    #expect(pages.fleet(reports, .init(text: "nothing"), frame).contains("No host is as you ask for."))
  }

  @Test func whoMayOnlyReadGetsNoForms() throws {
    let pages = try Pages()
    let finding = KeptFinding(
      number: 1, host: "a", id: "x:1", boot: "", state: "open", kind: "fault", severity: "critical", confidence: "hint",
      detector: "panic", title: "t", first: 1, last: 2, json: Array("{}".utf8))
    var frame = frame
    #expect(pages.findings([finding], isOpenOnly: true, frame).contains("value=\"t0k\""))
    frame.viewer = Viewer(name: "bob", isAdmin: false, token: "t0k", hasSession: false)
    #expect(!pages.findings([finding], isOpenOnly: true, frame).contains("acknowledge"))
  }

  @Test func metricsEscapeWhatEndsThem() {
    #expect(MetricsText.escaped("a\"b\\c\nd\"\u{0301}") == "a\\\"b\\\\c\\nd\\\"\u{0301}")
    var heartbeats = HeartbeatHistory()
    for seconds in [0.000_005, 0.000_5, 0.02, 3] { heartbeats.add(seconds: seconds) }
    var one = report("a", .panic, labels: ["rack": "x\"\n"])
    one.heartbeats = heartbeats
    let text = MetricsText.fleet(
      [one], version: "1", followers: 0, steps: (5, 0.25), failedWrites: 0, hasProblem: false)
    #expect(text.contains("grass_host_state{host=\"a\",state=\"panic\"} 1\n"))
    #expect(text.contains("grass_host_state{host=\"a\",state=\"alive\"} 0\n"))
    #expect(text.contains("grass_host_info{host=\"a\",url=\"tcp://h:1\",rack=\"x\\\"\\n\"} 1\n"))
    #expect(text.contains("grass_heartbeat_seconds_bucket{host=\"a\",le=\"0.001\"} 2\n"))
    #expect(text.contains("grass_heartbeat_seconds_bucket{host=\"a\",le=\"+Inf\"} 4\n"))
    #expect(text.contains("grass_panic_timestamp_seconds{host=\"a\"} 99\n"))
    #expect(text.contains("grass_findings{host=\"a\",kind=\"fault\",severity=\"critical\"} 1\n"))
  }

  @Test func queriesAreReadAsFormsWriteThem() {
    let query = Query("q=a+b%2Bc%zz&state=panic&flag&x=1=2")
    #expect(query["q"] == "a b+c%zz" && query["state"] == "panic" && query["flag"] == "" && query["x"] == "1=2")
    #expect(query["none"] == nil && Query(nil).items.isEmpty)
  }

  @Test func timesReadAsPeopleSayThem() {
    #expect(Moments.text(1_795_992_227.7) == "2026-11-29T22:43:47Z")
    #expect(
      [0, 59, 61, 3600, 7800, 90000, 180_000].map { Moments.span($0) } == [
        "0 s", "59 s", "1 min", "1 h", "2 h 10 min", "1 d 1 h", "2 d 2 h",
      ])
  }
}
