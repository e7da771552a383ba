import Foundation
import Glibc
import Lab
import Testing

extension OwnGuestTests {
  /// The page as a browser shows it while two hosts of three go wrong in different ways.
  @Suite(.serialized, .guests(3)) struct FleetServiceTestsOfThreeGuests {
    /// One panics, which its device sees; of one a process is hidden, which only the service's own checks see.
    @Test func whoPanicsAndWhoHidesAProcessComeFirstByThemselves() throws {
      let known = try KernelStore().kernel("6.12")
      let hide = try #require(known.module("hide"), "scripts/setup has built no module that hides a process")
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-fleet-\(UUID().uuidString)")
        .path
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      var guests: [Guest] = []
      defer { for guest in guests { guest.shutDown() } }
      for number in 0..<3 {
        var options = GuestOptions(kernel: "6.12", memory: 384, sleepers: 3)
        if number == 1 { options.programs.append(hide.path) }
        guests.append(try Guest(options))
      }
      let daemons = try guests.map {
        try GrassDaemon(memory: $0.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
      }
      defer { for daemon in daemons { daemon.stop() } }
      let fleet = try FleetService(
        """
        listen: 127.0.0.1:0
        period: 0.2
        detectors_every: 3
        hosts:
          - {name: able, url: "\(daemons[0].urls[0])"}
          - {name: baker, url: "\(daemons[1].urls[1])"}
          - {name: charlie, url: "\(daemons[2].urls[1])"}
        """, in: folder)
      defer { fleet.stop() }
      // Nothing is found of hosts that are well, also by whoever looks closest.
      let well = try wait(.seconds(120)) { () -> Bool? in
        let hosts = try #require(try fleet.object("/api/v1/fleet")["hosts"] as? [[String: Any]])
        let isWell = hosts.allSatisfy {
          $0["state"] as? String == "alive" && $0["checked"] is Double && $0["open_findings"] as? Int == 0
        }
        return isWell && hosts.count == 3 ? true : nil
      }
      let early = try fleet.get("/api/v1/findings")
      #expect(well != nil, "\(fleet.told) \(early) \(fleet.said)")

      let browser = try OpenPage(fleet.url, Self.browsing, log: "\(folder)/browser")
      let hidden = try guests[1].run("sleep 100000 & insmod /modules/hide.ko victim=$! && echo hid")
      #expect(hidden.text.contains("hid"), "\(hidden.text)")
      try guests[2].send("echo c > /proc/sysrq-trigger")
      let shown = try browser.end()
      // Whichever is found first: the dead one is the first in the end, the one that lies the next.
      #expect((shown["order"] as? [String]) == ["charlie panic", "baker lying", "able alive"], "\(shown)")
      let causes = try #require(shown["causes"] as? [String])
      #expect(
        causes[0].hasPrefix("the kernel panicked on CPU") && causes[1].hasSuffix("it is being hidden"), "\(causes)")
      #expect((shown["complaints"] as? [String]) == [])
      for (name, state) in [("charlie", "panic"), ("baker", "lying")] {
        let host = try fleet.object("/api/v1/hosts/\(name)")
        let history = try #require(host["history"] as? [[String: Any]])
        let knew = try #require(history.last { $0["state"] as? String == state }?["at"] as? Double)
        let seen = try #require((shown["seen"] as? [String: Double])?[state])
        print("fleet page: \(name) \(state) is shown \(Int((seen - knew) * 1000)) ms after the service found it")
        #expect(seen - knew < FleetService.longestDelay)
      }
      let findings = try fleet.get("/api/v1/findings?host=baker")
      #expect(findings.contains("\"detector\": \"hidden-process\""), "\(findings)")
      let metrics = try fleet.get("/metrics")
      #expect(metrics.contains("grass_check_success{host=\"able\"} 1"))
    }

    /// Has the page open until a host panicked and another lies, and says what it shows then.
    private static let browsing = """
      import json, sys, time
      from playwright.sync_api import sync_playwright
      with sync_playwright() as playwright:
          browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
          page = browser.new_page(viewport={"width": 1280, "height": 900})
          complaints = []
          page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
          page.on("pageerror", lambda error: complaints.append(str(error)))
          page.goto(sys.argv[1] + "/")
          page.wait_for_selector("#live-sign.on")
          print("ready", flush=True)
          seen, end = {}, time.time() + 90
          while len(seen) < 2 and time.time() < end:
              for state in ("panic", "lying"):
                  if state not in seen and page.query_selector(f"tr[data-state={state}]"): seen[state] = time.time()
              time.sleep(0.02)
          order = page.eval_on_selector_all(
              "tbody tr", "rows => rows.map(row => row.id.replace('host-', '') + ' ' + row.dataset.state)")
          causes = page.eval_on_selector_all("tbody td.cause", "cells => cells.map(cell => cell.innerText)")
          if sys.argv[2]: page.screenshot(path=f"{sys.argv[2]}/three.png", full_page=True)
          print(json.dumps({"seen": seen, "order": order, "causes": causes, "complaints": complaints}))
      """

    private func wait<Value>(_ time: Duration, until condition: () throws -> Value?) rethrows -> Value? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < time {
        if let value = try condition() { return value }
        usleep(50_000)
      }
      return nil
    }
  }
}
