import Detection
import Foundation
import Lab
import Links
import Records
import Remote
import Testing

extension GuestTests {
  /// What is wrong with a host, found by itself: nothing where nothing is, and what was done to a guest where something was.
  @Suite(.serialized) struct DetectionTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func nothingIsWrongWithAGuestThatIsWell(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let result = try grassctl.run(["check", "--json", "--memory", guest.memoryPath])
      #expect(result.status == 0 && result.text == "[\n]\n", "\(result.text)\(result.errors)")
    }

    /// On the device, without anybody who asks; who connects when the host is long dead reads what happened.
    @Test func theDeviceFindsOutThatTheHostPanicked() throws {
      SharedGuests.shared.rest()
      let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512, sleepers: 3))
      defer { guest.shutDown() }
      let daemon = try GrassDaemon(
        memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[1]))
      #expect(try session.info().features.isSuperset(of: [.lines, .findings]))
      let first = try session.line()
      let ticks = try wait(.seconds(60), until: { try session.line().detectorTick >= first.detectorTick + 10 })
      #expect(ticks != nil, "the detectors do not look")
      let quiet = try session.line()
      #expect(quiet.newestFinding == 0 && quiet.open == 0 && quiet.worstSeverity == 0 && quiet.suspended == 0)
      // Detectors are nobody's to ask for.
      #expect(try session.monitors() == [])
      session.close()

      try guest.send("echo c > /proc/sysrq-trigger")
      let later = try Session(to: LinkAddress(daemon.urls[0]))
      let found = try wait(.seconds(60), until: { try later.line().newestFinding > 0 })
      #expect(found != nil, "no finding")
      let line = try later.line()
      #expect(line.worstSeverity == 4 && line.open >= 1 && line.state == .running)
      let news = try later.findings(after: 0, upTo: line.newestFinding)
      #expect(news.missed == 0 && news.findings.map(\.number) == Array(1...line.newestFinding))
      let panic = DeviceDetectors.finding(try #require(news.findings.first))
      #expect(panic.detector == "panic" && panic.severity == .critical && panic.confidence == .proven)
      #expect(panic.title.hasPrefix("the kernel panicked on CPU"))
      // What has been found stays, and nothing is found beside it: all that stands still does so because of it.
      let ended = try later.line().detectorTick + 15
      _ = try wait(.seconds(60), until: { try later.line().detectorTick >= ended })
      #expect(try later.openFindings().map { DeviceDetectors.finding($0).detector } == ["panic"])

      let watched = try grassctl.run(["watch", "--host", daemon.urls[1], "--once"])
      #expect(
        watched.status == 0 && watched.text.contains("CRITICAL fault, proven: the kernel panicked"), "\(watched.text)")
      let checked = try grassctl.run(["check", "--host", daemon.urls[1], "--no-known", "--json"])
      #expect(checked.status == 5, "\(checked.text)\(checked.errors)")
      let findings = try #require(
        try JSONSerialization.jsonObject(with: Data(checked.text.utf8)) as? [[String: Any]])
      #expect(findings.first?["detector"] as? String == "panic")
      #expect(findings.first?["title"].map { "\($0)".contains("sysrq triggered crash") } == true)
    }

    /// Code that belongs to nothing, a pointer to such code, and code that was changed: each is found and named; what the
    /// kernel's own tracers change is not.
    @Test(arguments: ["6.1", "6.12"]) func codeIsHeldAgainstTheKernelsTables(_ kernel: String) throws {
      let breaks = try ["executable-page-without-owner", "seq-ops-hook", "text-changed"].map { try Breaks.named($0) }
      // Without headers of the kernel there is no module that breaks it.
      let known = try KernelStore().kernel(kernel)
      guard known.lacks(for: breaks[0]) == nil, let module = known.module("break") else { return }
      SharedGuests.shared.rest()
      var options = GuestOptions(kernel: kernel, memory: 512, sleepers: 3)
      options.programs.append(module.path)
      let guest = try Guest(options)
      defer { guest.shutDown() }
      try guest.perform(try Breaks.named("quiet-tracer").deed)
      let quiet = try grassctl.run(["check", "--memory", guest.memoryPath])
      #expect(quiet.status == 0, "\(quiet.text)\(quiet.errors)")
      for one in breaks {
        try guest.perform(one.deed)
        _ = try guest.run("rmmod break")
      }
      let broken = try grassctl.run(["check", "--json", "--memory", guest.memoryPath])
      let findings = try #require(
        try JSONSerialization.jsonObject(with: Data(broken.text.utf8)) as? [[String: Any]])
      func titles(_ detector: String) -> [String] {
        findings.filter { $0["detector"] as? String == detector }.compactMap { $0["title"] as? String }
      }
      // One page of each of the two.
      #expect(titles("ownerless-code").count == 2)
      #expect(titles("foreign-operations").contains { $0.hasPrefix("tcp4_seq_ops+0x18 points to code at 0x") })
      #expect(titles("changed-text").count == 1 && titles("changed-text")[0].contains("__x64_sys_acct"))
      #expect(titles("writable-code") == [])
    }

    /// Waits until a condition holds; nil where it does not in time.
    private func wait(_ time: Duration, until condition: () throws -> Bool) rethrows -> Duration? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < time {
        if try condition() { return ContinuousClock.now - start }
        usleep(50_000)
      }
      return nil
    }

    @Test func aDeviceThatLooksForNothingSaysSo() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      let watched = try grassctl.run(["watch", "--host", daemon.urls[0], "--once"])
      #expect(watched.status == 3 && watched.errors.contains("--detectors"), "\(watched.errors)")
    }
  }
}
