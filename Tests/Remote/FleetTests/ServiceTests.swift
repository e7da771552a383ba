import CRegion
import Foundation
import GRDB
import Glibc
import Host
import Logging
import Scratch
import Testing

@testable import Fleet

/// The service as it is, over devices that a test writes, and servers that are none.
@Suite(.serialized) struct ServiceTests {
  /// Killed again and again while its hosts' logs grow, it keeps each change once.
  @Test func whoeverKillsItLosesNothingAndDoublesNothing() throws {
    let scratch = try Scratch()
    let devices = try (0..<3).map { try StandInDevice(path: scratch.file("r\($0)"), findings: 16384) }
    defer { for device in devices { device.stop() } }
    let database = scratch.file("fleet.db")
    let hosts = devices.indices.map { "  - {name: h\($0), url: \"shm://\(devices[$0].path)\", period: 0.02}" }
    let file = try scratch.write(
      "listen: 127.0.0.1:0\nhosts:\n\(hosts.joined(separator: "\n"))\n", to: "fleet.yaml")
    let isDone = Locked(false)
    let logging = try DedicatedThread(name: "log") {
      while !isDone.withLock({ $0 }) {
        for device in devices {
          device.log()
          if Bool.random() { device.log(isClosing: true) }
        }
        usleep(4000)
      }
    }
    for round in 0..<50 {
      let service = try RunningService(file)
      // Every other time at any point of its beginning, else once it answers, however long a busy machine takes for that.
      if round % 2 == 1 { try service.ready() }
      usleep(.random(in: 0...120_000))
      // Now and then it comes to work, however long that takes here.
      if round % 10 == 9 {
        let before = try FleetStore(path: database).changeCount(of: "h0")
        let start = ContinuousClock.now
        while try FleetStore(path: database).changeCount(of: "h0") == before, ContinuousClock.now - start < .seconds(30)
        {
          usleep(20_000)
        }
      }
      service.kill()
    }
    #expect(try FleetStore(path: database).changeCount(of: "h0") > 0, "it came to work between two deaths")
    isDone.withLock { $0 = true }
    logging.join()
    let last = try RunningService(file)
    let counts = devices.map { Int($0.count) }
    let store = try FleetStore(path: database)
    let start = ContinuousClock.now
    while try devices.indices.contains(where: { try store.changeCount(of: "h\($0)") < counts[$0] }),
      ContinuousClock.now - start < .seconds(60)
    { usleep(50_000) }
    last.stop()
    #expect(last.status == 0)
    let queue = try DatabaseQueue(path: database)
    try queue.read { db in
      #expect(try String.fetchAll(db, sql: "PRAGMA integrity_check") == ["ok"])
      for (index, count) in counts.enumerated() {
        let row = try #require(
          try Row.fetchOne(
            db, sql: "SELECT count(*), min(entry), max(entry), max(epoch) FROM finding_change WHERE host = ?",
            arguments: ["h\(index)"]))
        #expect((0..<4).map { row[$0] as Int } == [count, 1, count, 1], "\(row) of \(count)")
      }
    }
  }

  /// A server that takes connections and does as `body` says with each, on threads that end with it.
  private func server(_ body: @escaping @Sendable (Int32) -> Void) throws -> (port: UInt16, socket: Int32) {
    let (listener, port) = try loopbackListener()
    try DedicatedThread(name: "server") {
      while true {
        let connection = accept(listener, nil, nil)
        if connection < 0 { return }
        body(connection)
      }
    }.detach()
    return (port, listener)
  }

  /// Hosts that hang, talk nonsense or hang up hold up nobody: of the one that is true each look comes in time, and its finding at once.
  @Test func hostsThatHangOrTalkNonsenseAreNotNoticedByOthers() async throws {
    let scratch = try Scratch()
    let device = try StandInDevice(path: scratch.file("region"))
    defer { device.stop() }
    let silent = try server { _ in }
    let babbling = try server { connection in
      var noise = (0..<4096).map { _ in UInt8.random(in: 0...255) }
      for _ in 0..<4 { _ = send(connection, &noise, noise.count, Int32(MSG_NOSIGNAL)) }
    }
    let rude = try server { connection in close(connection) }
    defer {
      for one in [silent, babbling, rude] {
        shutdown(one.socket, Int32(SHUT_RDWR))
        close(one.socket)
      }
    }
    var configuration = FleetConfiguration()
    // How long one that hangs is waited for: who had to wait for one would be as late.
    let hang = 6.0
    configuration.timeout = hang
    configuration.keys = scratch.path
    configuration.hosts = [.init(name: "true", url: "shm://\(device.path)", labels: [:], period: 0.05)]
    for (kind, port) in [("silent", silent.port), ("babbling", babbling.port), ("rude", rude.port)] {
      for number in 0..<20 {
        configuration.hosts.append(
          .init(name: "\(kind)\(number)", url: "tcp://127.0.0.1:\(port)", labels: [:], period: 0.05))
      }
    }
    let watch = try FleetWatch(
      configuration, store: FleetStore(path: scratch.file("fleet.db")),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let stream = try #require(watch.events.follow())
    try watch.start()
    /// Waits, however busy this machine is.
    func wait(until isSo: () -> Bool) async throws {
      for _ in 0..<1200 where !isSo() { try await Task.sleep(for: .milliseconds(50)) }
    }
    try await wait { watch.report("true")?.standing.state == .alive }
    try await Task.sleep(for: .seconds(2))
    #expect(watch.report("true")?.standing.state == .alive)
    let logged = ContinuousClock.now
    device.log()
    // Without a suspension: the tests that run beside this one may hold all of the pool's threads for seconds.
    while watch.report("true")?.open.isEmpty != false, ContinuousClock.now - logged < .seconds(60) { usleep(2000) }
    #expect(ContinuousClock.now - logged < .seconds(hang / 2))
    let report = try #require(watch.report("true"))
    for await event in stream where event.kind == .finding {
      #expect(event.host == "true")
      break
    }
    #expect(
      report.heartbeats.count >= 25 && watch.steps.late < hang / 2, "\(report.heartbeats.count) looks, \(watch.steps)")
    try await wait { watch.reports().allSatisfy { $0.name == "true" || $0.standing.state == .unreachable } }
    let others = watch.reports().filter { $0.name != "true" }
    #expect(others.count == 60 && others.allSatisfy { $0.standing.state == .unreachable })
    watch.stop()
  }

  /// Who scrapes waits no longer than they say, however many hosts hang; and a host that is none says so at once.
  @Test func scrapesOfHostsThatHangEndWhenTheirTimeIsUp() async throws {
    let scratch = try Scratch()
    let silent = try server { _ in }
    defer {
      shutdown(silent.socket, Int32(SHUT_RDWR))
      close(silent.socket)
    }
    var configuration = FleetConfiguration()
    // Each of them holds a thread for so long, and there are more of them than threads.
    configuration.timeout = 15
    configuration.keys = scratch.path
    configuration.hosts = (0..<20).map {
      .init(name: "h\($0)", url: "tcp://127.0.0.1:\(silent.port)", labels: [:], period: 1)
    }
    let watch = try FleetWatch(
      configuration, store: FleetStore(path: scratch.file("fleet.db")),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try watch.start()
    defer { watch.stop() }
    let kernels = OpenKernels(watch, most: 4)
    let reader = try NodeReader(kernels)
    let start = ContinuousClock.now
    let scrapes = await withTaskGroup(of: NodeReader.Scrape.self) { group in
      for host in 0..<20 { group.addTask { await reader.scrape("h\(host)", within: 0.3) } }
      // Two more who ask for the same host get the same look.
      for _ in 0..<2 { group.addTask { await reader.scrape("h0", within: 0.4) } }
      return await group.reduce(into: []) { $0.append($1) }
    }
    // However long this task waited for a thread of its own pool.
    #expect(ContinuousClock.now - start < .seconds(12), "nobody waited for a host's own time")
    #expect(scrapes.count == 22 && scrapes.allSatisfy { $0.text.isEmpty && $0.age == nil })
    #expect(scrapes.allSatisfy { $0.problem?.contains("was not read within 0.") == true })
    #expect(throws: OpenKernels.NoSuchHost.self) { try kernels.kernel(of: "nobody") }
    reader.finish()
  }

  /// Changes of state at a period of a tenth of a second come to who follows the events over HTTP, each and in order.
  ///
  /// How long after the look is printed; what is promised, 100 ms, is no bound here, since a busy machine may take longer.
  @Test func eachChangeOfStateComesToWhoFollows() throws {
    let scratch = try Scratch()
    let device = try StandInDevice(path: scratch.file("region"))
    defer { device.stop() }
    let file = try scratch.write(
      "listen: 127.0.0.1:0\ndetectors_every: 0\nhosts: [{name: a, url: \"shm://\(device.path)\", period: 0.1}]\n",
      to: "fleet.yaml")
    let service = try RunningService(file)
    defer { service.stop() }
    let url = try service.ready()
    let follower = Process()
    follower.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    follower.arguments = ["curl", "-sN", "\(url)/events"]
    let events = Pipe()
    follower.standardOutput = events
    try follower.run()
    // It ends with the service, whose end closes what it reads.
    defer { kill(follower.processIdentifier, SIGKILL) }
    var text = ""
    var delays: [Double] = []
    var states: [String] = []
    /// Reads on until a host has another state.
    func next() throws {
      while true {
        if let end = text.range(of: "\n\n") {
          let event = text[..<end.lowerBound]
          text.removeSubrange(..<end.upperBound)
          guard event.hasPrefix("event: state\ndata: ") else { continue }
          let object = try JSONSerialization.jsonObject(with: Data(event.dropFirst(19).utf8)) as? [String: Any]
          states.append(try #require(object?["state"] as? String))
          delays.append(Moments.utc - (try #require(object?["at"] as? Double)))
          return
        }
        let data = events.fileHandleForReading.availableData
        try #require(!data.isEmpty, "the events are over")
        text += String(decoding: data, as: UTF8.self)
      }
    }
    // The stream has begun once it says when to come again.
    while !text.contains("retry:") {
      text += String(decoding: events.fileHandleForReading.availableData, as: UTF8.self)
    }
    // Whether it was seen alive before or after, it is not stuck yet.
    device.log(severity: GRASS_SEVERITY_WARNING)
    repeat { try next() } while states.last != "stuck"
    (states, delays) = ([], [])
    for round in 0..<40 {
      device.log(isClosing: round % 2 == 0, severity: GRASS_SEVERITY_WARNING)
      try next()
    }
    #expect(states == (0..<40).map { $0 % 2 == 0 ? "alive" : "stuck" })
    delays.sort()
    print(
      "events: a change of state comes \(Int(delays[20] * 1e6)) µs after its look (median of 40), \(Int(delays[39] * 1e6)) µs at the worst"
    )
  }
}
