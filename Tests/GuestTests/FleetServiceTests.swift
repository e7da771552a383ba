import Foundation
import Glibc
import Lab
import Testing

extension OwnGuestTests {
  /// A fleet of two real guests, behind real devices, watched by a real grass-fleet.
  @Suite(.serialized, .guests(2)) struct FleetServiceTests {
    func wait<Value>(_ time: Duration, until condition: () throws -> Value?) rethrows -> Value? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < time {
        if let value = try condition() { return value }
        usleep(50_000)
      }
      return nil
    }

    @Test func whoPanicsAndWhoLiesIsFirstAndItsFindingsAreKeptOnce() throws {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-fleet-\(UUID().uuidString)")
        .path
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      var options = GuestOptions(kernel: "6.12", memory: 512)
      options.isBreakable = true
      options.programs = try [#require(KernelStore().kernel("6.12").module("break")).path]
      let (first, second) = (try Guest(options), try Guest(options))
      defer {
        first.shutDown()
        second.shutDown()
      }
      let detectors = ["--detectors", "--detector-period", "0.2", "--no-known"]
      let firstDevice = try GrassDaemon(memory: first.memoryPath, options: detectors)
      defer { firstDevice.stop() }
      let secondDevice = try GrassDaemon(memory: second.memoryPath, options: detectors)
      // It is killed in the end, and leaves its region behind.
      defer { secondDevice.bury() }
      let fleet = try FleetService(
        """
        listen: 127.0.0.1:0
        period: 0.2
        hosts:
          - {name: able, url: "\(firstDevice.urls[1])", labels: {rack: a1}}
          - {name: baker, url: "\(secondDevice.urls[0])", labels: {rack: a2}}
          - {name: zero, url: "tcp://127.0.0.1:1"}
        """, in: folder)
      defer { fleet.stop() }
      let alive = try wait(.seconds(30)) { () -> Bool? in
        let states = try fleet.states()
        return states.map(\.host) == ["zero", "able", "baker"]
          && states.map(\.state) == ["unreachable", "alive", "alive"] ? true : nil
      }
      #expect(alive != nil, "\(fleet.told)")

      // One panics: who follows hears of it, and it is first.
      let follower = Process()
      follower.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
      follower.arguments = [
        "--pdeathsig", "KILL", "--", "curl", "-sN", "\(fleet.url)/events", "-o", "\(folder)/events",
      ]
      try Spawner.shared.start(follower)
      defer {
        follower.terminate()
        follower.waitUntilExit()
      }
      try #require(
        wait(.seconds(10)) { FileManager.default.fileExists(atPath: "\(folder)/events") ? true : nil } != nil)
      let shown = try whoWatchesThePageSeesIt(fleet) { try second.send("echo c > /proc/sysrq-trigger") }
      #expect((shown["order"] as? [String])?.first == "host-baker panic", "\(shown)")
      #expect((shown["cause"] as? String)?.hasPrefix("the kernel panicked on CPU") == true)
      #expect(
        (shown["faults"] as? [String]) == [] && (shown["complaints"] as? [String]) == []
          && shown["skip"] as? String == "skip")
      let heard = wait(.seconds(30)) { () -> String? in
        let text = (try? String(contentsOfFile: "\(folder)/events", encoding: .utf8)) ?? ""
        return text.contains("event: finding") ? text : nil
      }
      let events = try #require(heard, "\(fleet.said)")
      #expect(events.contains("\"state\": \"panic\"") && events.contains("the kernel panicked on CPU"))
      let states = try fleet.states()
      #expect(states.first?.host == "baker" && states.first?.state == "panic")
      #expect(states.first?.cause.hasPrefix("the kernel panicked on CPU") == true)
      let found =
        try #require(
          try fleet.object("/api/v1/hosts/baker")["history"] as? [[String: Any]]
        ).first?["at"] as? Double
      let delay = try #require(shown["seen"] as? Double) - #require(found)
      print("fleet page: a panic is shown \(Int(delay * 1000)) ms after the service found it")
      #expect(delay < FleetService.longestDelay)

      // Killed, and while it is away somebody takes root's rights on the other: nothing is lost, and nothing is there twice.
      fleet.kill()
      try first.perform(Breaks.named("cred-written"))
      sleep(3)
      try fleet.start()
      let lying = try wait(.seconds(30)) { () -> Bool? in
        try fleet.states().prefix(2).map { "\($0.host) \($0.state)" } == ["baker panic", "able lying"] ? true : nil
      }
      #expect(lying != nil, "\(fleet.told) \(fleet.said)")
      try whatIsKeptIsWhole(fleet)
      try theInterfacesAnswer(fleet)

      // The device of the dead host goes, and what it was last stays known.
      secondDevice.signal(SIGKILL)
      let lost = try wait(.seconds(20)) { () -> [String: Any]? in
        let host = try fleet.object("/api/v1/hosts/baker")
        return host["state"] as? String == "unreachable" ? host : nil
      }
      #expect((lost?["before"] as? [String: Any])?["state"] as? String == "panic", "\(String(describing: lost))")
      #expect(
        try fleet.get("/hosts/baker").contains("end Kernel panic"), "the last words are kept by the service itself")
    }

    /// What a real browser does: it has the page open while the host dies, and sees it come first by itself; then axe-core looks
    /// for what keeps people from using the pages, and pictures are taken.
    ///
    /// Prints a line `ready` once the page is open, and one of JSON at its end.
    private static let browsing = """
      import json, sys, time
      from playwright.sync_api import sync_playwright
      from axe_playwright_python.sync_playwright import Axe
      url, shots = sys.argv[1], sys.argv[2]
      with sync_playwright() as playwright:
          browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
          page = browser.new_page(viewport={"width": 1280, "height": 900})
          complaints = []
          page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
          page.on("pageerror", lambda error: complaints.append(str(error)))
          page.goto(url + "/")
          page.wait_for_selector("#live-sign.on")
          print("ready", flush=True)
          page.wait_for_selector("tr[data-state=panic]", timeout=40000)
          seen = time.time()
          order = page.eval_on_selector_all("tbody tr", "rows => rows.map(row => row.id + ' ' + row.dataset.state)")
          cause = page.inner_text("tbody tr:first-child td.cause")
          faults = []
          for scheme, width in (("light", 1280), ("dark", 400)):
              page.emulate_media(color_scheme=scheme)
              page.set_viewport_size({"width": width, "height": 900})
              for name, path in (("fleet", "/"), ("host", "/hosts/baker"), ("findings", "/findings"),
                                 ("free", "/hosts/baker/views/free"), ("visits", "/visits")):
                  page.goto(url + path)
                  found = Axe().run(page).response["violations"]
                  faults += [f"{name} {scheme} {width}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in found
                             if one["impact"] in ("serious", "critical")]
                  if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                      faults.append(f"{name} {scheme} {width}: wider than the window")
                  if shots: page.screenshot(path=f"{shots}/{name}-{scheme}-{width}.png", full_page=True)
          page.goto(url + "/")
          page.keyboard.press("Tab")
          skip = page.evaluate("document.activeElement.className")
          print(json.dumps({"seen": seen, "order": order, "cause": cause, "faults": faults, "complaints": complaints, "skip": skip}))
      """

    /// Opens the page in a browser, and has `body` break a host once it is open.
    private func whoWatchesThePageSeesIt(_ fleet: FleetService, _ body: () throws -> Void) throws -> [String: Any] {
      let page = try OpenPage(fleet.url, Self.browsing, log: "\(fleet.folder)/browser")
      try body()
      return try page.end()
    }

    private func whatIsKeptIsWhole(_ fleet: FleetService) throws {
      func ask(_ sql: String) throws -> String {
        try runProgram(
          "python3",
          [
            "-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())",
            fleet.database, sql,
          ])
      }
      #expect(try ask("PRAGMA integrity_check") == "[('ok',)]\n")
      #expect(try ask("SELECT count(*) FROM finding WHERE host = 'baker' AND detector = 'panic'") == "[(1,)]\n")
      #expect(
        try ask("SELECT count(*) FROM finding WHERE host = 'able' AND detector = 'stolen-credentials'") == "[(1,)]\n")
      let logs = try ask(
        "SELECT count(*), count(DISTINCT entry), max(entry), min(entry), max(epoch) FROM finding_change WHERE host = 'baker' AND epoch > 0"
      )
      let taken = try ask("SELECT taken FROM host WHERE name = 'baker'")
      let number = taken.filter(\.isNumber)
      #expect(logs == "[(\(number), \(number), \(number), 1, 1)]\n", "each entry of the log once: \(logs) \(taken)")
    }

    private func theInterfacesAnswer(_ fleet: FleetService) throws {
      let metrics = try fleet.get("/metrics")
      try metrics.write(toFile: "\(fleet.folder)/metrics", atomically: true, encoding: .utf8)
      #expect(try runProgram("sh", ["-c", "promtool check metrics < \(fleet.folder)/metrics"]) == "")
      #expect(metrics.contains("grass_host_state{host=\"baker\",state=\"panic\"} 1"))
      #expect(metrics.contains("grass_finding_open{host=\"able\",detector=\"stolen-credentials\"} 1"))
      #expect(try fleet.get("/sd").contains("\"rack\": \"a1\""))

      // Somebody sees to it; a form of another site does not.
      let json = ["-X", "POST", "-H", "Content-Type: application/json", "-d", "{\"comment\": \"on it\", \"hours\": 1}"]
      let findings = try #require(
        try JSONSerialization.jsonObject(with: Data(try fleet.get("/api/v1/findings?host=baker").utf8))
          as? [[String: Any]])
      let number = try #require(findings.first?["number"] as? Int)
      #expect(try fleet.get("/api/v1/findings/\(number)/acknowledge", json).contains("\"comment\": \"on it\""))
      let forged = try fleet.get(
        "/findings/\(number)/acknowledge", ["-d", "comment=x", "-o", "/dev/null", "-w", "%{http_code}"])
      #expect(forged == "403")
      let elsewhere = try fleet.get("/", ["-H", "Host: evil.example", "-o", "/dev/null", "-w", "%{http_code}"])
      #expect(elsewhere == "421")
      #expect(try fleet.get("/visits").contains("acknowledged finding \(number) of baker"))
      #expect(
        try fleet.get("/api/v1/hosts/baker/views/dmesg").contains("Kernel panic - not syncing"), "also of a dead host")
    }
  }
}
