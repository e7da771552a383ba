import Detection
import Foundation
import KernelInfo
import KernelViews
import Lab
import Links
import Memory
import Paging
import Records
import Remote
import Testing

extension OwnGuestTests {
  /// What is wrong with a host, found by itself: nothing where nothing is, and what was done to a guest where something was.
  @Suite(.serialized) struct DetectionTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// On the device, without anybody who asks; who connects when the host is long dead reads what happened.
    @Test func theDeviceFindsOutThatTheHostPanicked() throws {
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

    /// grassd asks the detectors of a check by itself: who only follows the log sees a module hide, and that it hides no more; and a
    /// route that was learned and is gone.
    @Test func theDaemonTellsOfAHiddenModuleWithoutBeingAsked() throws {
      let known = try KernelStore().kernel("6.12")
      let hide = try Breaks.named("hidden-module-list")
      // Without headers of the kernel there is no module that hides.
      guard known.lacks(for: hide) == nil, let module = known.module("break") else { return }
      var options = GuestOptions(kernel: "6.12", memory: 512, sleepers: 3)
      options.programs.append(module.path)
      let guest = try Guest(options)
      defer { guest.shutDown() }
      let route = try Breaks.named("route-gone")
      try route.preparation.map { try guest.perform($0) }
      let learned = FileManager.default.temporaryDirectory.appendingPathComponent("grass-\(UUID().uuidString).json")
      defer { try? FileManager.default.removeItem(at: learned) }
      _ = try grassctl.run(["check", "--no-known", "--memory", guest.memoryPath, "--baseline", learned.path])
      let daemon = try GrassDaemon(
        memory: guest.memoryPath,
        options: [
          "--detectors", "--detector-period", "0.2", "--check", "2", "--no-known", "--baseline", learned.path,
        ])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      func states(_ detector: String) throws -> [Finding.State] {
        let line = try session.line()
        return try session.findings(after: 0, upTo: line.newestFinding).findings.map { DeviceDetectors.finding($0) }
          .filter { $0.detector == detector }.map(\.state)
      }
      try guest.perform(route.deed)
      #expect(try wait(.seconds(600), until: { try states("route-gone") == [.confirmed] }) != nil)
      try guest.perform(hide)
      #expect(try wait(.seconds(600), until: { try states("hidden-module") == [.confirmed] }) != nil)
      let watched = try grassctl.run(["watch", "--host", daemon.urls[1], "--once", "--json"])
      let told = try watched.text.split(separator: "\n").compactMap {
        try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      }
      let hidden = try #require(told.first { $0["detector"] as? String == "hidden-module" }, "\(watched.text)")
      #expect(
        hidden["title"] as? String == "module break is loaded and not in the list of modules: it hides", "\(hidden)")
      #expect(hidden["severity"] as? String == "critical" && hidden["state"] as? String == "confirmed")
      // The same finding as that of who asks.
      let checked = try grassctl.run(["check", "--json", "--no-known", "--memory", guest.memoryPath])
      let found = try #require(
        try JSONSerialization.jsonObject(with: Data(checked.text.utf8)) as? [[String: Any]])
      #expect(found.contains { $0["id"] as? String == hidden["id"] as? String }, "\(checked.text)")

      // Back in the list, it is a module as others are.
      try guest.pause()
      try ModuleList(guest).takeBack("break")
      try guest.resume()
      #expect(try wait(.seconds(600), until: { try states("hidden-module") == [.confirmed, .closed] }) != nil)

      // Whoever looks may be lost at any time; the device and its sessions do not notice, and another looks on.
      let looker = try #require(try daemon.children().first)
      kill(looker, SIGKILL)
      #expect(try wait(.seconds(120), until: { try daemon.children().contains { $0 != looker } }) != nil)
      try session.heartbeat()
    }

    /// The list of modules of a guest, written from outside.
    private struct ModuleList {
      private let kernel: Kernel
      private let path: String

      init(_ guest: Guest) throws {
        path = guest.memoryPath
        kernel = try Kernel.open(try MemoryImage.open(path))
      }

      /// Links a module into the list again that was taken out of it.
      func takeBack(_ name: String) throws {
        let list = try kernel.types.structure("module").field("list").offset
        let check = Check(detectors: [HiddenModule.self], pause: .zero).run(on: kernel) { _ in }
        let address = try #require(
          check.findings.lazy.compactMap { finding -> VirtualAddress? in
            guard case .module(let address, Array(name.utf8)) = finding.subjects.first else { return nil }
            return address
          }.first)
        let (head, node) = (try #require(kernel.symbols.address(of: "modules")), address + list)
        let last = VirtualAddress(
          try kernel.addressSpace.read(head + 8, count: 8).reversed().reduce(0) { $0 << 8 | UInt64($1) })
        for (place, value) in [(node, head), (node + 8, last), (last, node), (head + 8, node)] {
          try write(value.rawValue, at: place)
        }
      }

      private func write(_ value: UInt64, at address: VirtualAddress) throws {
        let physical = try kernel.addressSpace.translate(address)
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        try file.seek(toOffset: physical.rawValue)
        try file.write(contentsOf: withUnsafeBytes(of: value) { Data($0) })
        try file.close()
      }
    }

    /// What the device finds starts the deeper look, whose finding is its cause.
    @Test func aDeadlockIsTheCauseOfTheTasksThatTheDeviceSeesHang() throws {
      let known = try KernelStore().kernel("6.1")
      let deadlock = try Breaks.named("deadlock-mutex")
      guard known.lacks(for: deadlock) == nil, let module = known.module("break") else { return }
      var options = GuestOptions(kernel: "6.1", memory: 512, sleepers: 3)
      options.programs.append(module.path)
      let guest = try Guest(options)
      defer { guest.shutDown() }
      // So seldom does the daemon look by itself that only what the device finds can have started the second look.
      let daemon = try GrassDaemon(
        memory: guest.memoryPath,
        options: ["--detectors", "--detector-period", "0.2", "--check", "3600", "--no-known"])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      // The look at the beginning is over before anything is wrong.
      #expect(try wait(.seconds(120), until: { try !daemon.children().isEmpty }) != nil)
      try guest.perform(deadlock)
      func findings() throws -> [FindingRecord] {
        let line = try session.line()
        return try session.findings(after: 0, upTo: line.newestFinding).findings
      }
      let joined = try wait(
        .seconds(300),
        until: {
          let all = try findings()
          guard let cause = all.last(where: { DeviceDetectors.finding($0).detector == "deadlock" }) else {
            return false
          }
          return all.contains {
            DeviceDetectors.finding($0).detector == "hung-task" && $0.causes.contains(cause.identity)
          }
        })
      let titles = try findings().map { DeviceDetectors.finding($0).title }
      #expect(joined != nil, "\(titles)")
      let watched = try grassctl.run(["watch", "--host", daemon.urls[0], "--once"])
      #expect(
        watched.text.contains("(follows)") && watched.text.contains("wait for each other's locks"), "\(watched.text)")
    }

    /// Code that belongs to nothing, a pointer to such code, and code that was changed, the kernel's or a module's: each is found and
    /// named; what the kernel's own tracers change is not.
    ///
    /// And whose memory it was that ran out, tables that lead elsewhere, read-only data that was written, and what has failed.
    @Test(arguments: ["6.1", "6.12"]) func codeIsHeldAgainstTheKernelsTables(_ kernel: String) throws {
      let breaks = try [
        "executable-page-without-owner", "seq-ops-hook", "text-changed", "module-text-changed", "oom-cgroup",
        "redirected-tables", "data-changed", "memory-poisoned", "next-kernel", "transmit-stuck", "init-stopped",
        "workqueue-stall",
      ].map { try Breaks.named($0) }
      // Without headers of the kernel there is no module that breaks it.
      let known = try KernelStore().kernel(kernel)
      guard known.lacks(for: breaks[0]) == nil, let module = known.module("break") else { return }
      var options = GuestOptions(kernel: kernel, memory: 512, sleepers: 3)
      options.isBreakable = true
      options.programs.append(module.path)
      let dummy = try #require(known.deviceModules.first { $0.lastPathComponent == "dummy.ko" })
      options.programs.append(dummy.path)
      let guest = try Guest(options)
      defer { guest.shutDown() }
      try guest.perform(.script("insmod /modules/dummy.ko"))
      // An emulated CPU that runs into what the other one patches may stand there for half a minute.
      guard case .script(let tracer) = try Breaks.named("quiet-tracer").deed else {
        Issue.record("the tracer is no script")
        return
      }
      try guest.perform(.script(GuestTests.alone(tracer)))
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let learned = ["--baseline", folder.appendingPathComponent("learned.json").path, "--memory", guest.memoryPath]
      let quiet = try grassctl.run(["check"] + learned)
      #expect(quiet.status == 0, "\(quiet.text)\(quiet.errors)")
      // Who checks again and again looks again at what changed, and at nothing else.
      var check = Check(detectors: [ChangedText.self], pause: .milliseconds(200))
      let texts = SeenTexts()
      check.texts = texts
      func changed() throws -> [String] {
        let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
        let report = check.run(on: kernel) { usleep(useconds_t($0 / .microseconds(1))) }
        #expect(report.failures.isEmpty && report.partial.isEmpty, "\(report.failures) \(report.partial)")
        return report.findings.map(\.title).sorted()
      }
      #expect(try changed() == [])
      let looked = texts.figures.looked
      #expect(try looked >= 2 && changed() == [])
      #expect(texts.figures.looked == looked && texts.figures.same >= looked, "\(texts.figures)")
      for one in breaks {
        try guest.perform(one)
        _ = try guest.run("rmmod break")
      }
      // Five seconds of the guest's: until then what waits is not said to be stuck.
      _ = try guest.run("sleep 6")
      let broken = try grassctl.run(["check", "--json"] + learned)
      let findings = try #require(
        try JSONSerialization.jsonObject(with: Data(broken.text.utf8)) as? [[String: Any]])
      func titles(_ detector: String) -> [String] {
        findings.filter { $0["detector"] as? String == detector }.compactMap { $0["title"] as? String }
      }
      // One page of each of the two. Where the work that stalls a CPU's pool has the kernel's own wait behind it, the code of its
      // module's start is there still, and that is no more than a notice.
      let ownerless = findings.filter { $0["detector"] as? String == "ownerless-code" }
      let (waiting, strays) = (
        ownerless.filter { $0["severity"] as? String == "notice" },
        ownerless.filter { $0["severity"] as? String == "critical" }
      )
      #expect(
        strays.count == 2 && waiting.count <= 1 && strays.count + waiting.count == ownerless.count, "\(ownerless)")
      #expect(titles("foreign-operations").contains { $0.hasPrefix("tcp4_seq_ops+0x18 points to code at 0x") })
      #expect(titles("changed-text").count == 2, "\(titles("changed-text"))")
      #expect(titles("changed-text").contains { $0.contains("__x64_sys_acct") })
      #expect(titles("changed-text").contains { $0.contains("dummy_xmit [dummy]") })
      #expect(try changed() == titles("changed-text").sorted())
      #expect(texts.figures.looked > looked, "\(texts.figures)")
      #expect(
        titles("oom-kill").count == 1 && titles("oom-kill")[0].hasPrefix("the memory of control group /small ran out"))
      #expect(titles("writable-code") == [])
      #expect(titles("redirected-tables").count == 1 && titles("redirected-tables")[0].hasPrefix("victim ("))
      #expect(
        titles("changed-data").count == 1 && titles("changed-data")[0].hasPrefix("2 pages of"),
        "\(titles("changed-data"))")
      #expect(titles("hardware-error") == ["the hardware is broken: 1 page of broken memory"])
      #expect(titles("kexec-loaded").count == 1)
      #expect(
        titles("transmit-stuck").count == 1 && titles("transmit-stuck")[0].hasPrefix("interface dummy0 sends nothing"))
      #expect(titles("init-stopped") == ["init (1), the first process, is stopped by a debugger"])
      #expect(titles("workqueue-stall").count == 1 && titles("workqueue-stall")[0].contains("busy_work"))
    }

    /// Who pauses a guest is no fault of its.
    ///
    /// The hypervisor says so, or KVM in the guest's memory; where neither does, all that is said is that it stopped. A guest that
    /// hangs is told from it.
    @Test func aPausedGuestIsToldFromOneThatHangs() throws {
      let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512, sleepers: 3))
      defer { guest.shutDown() }
      let options = ["--detectors", "--detector-period", "0.25", "--no-known"]
      let asked = try GrassDaemon(memory: guest.memoryPath, options: options + ["--qmp", guest.statusSocket])
      defer { asked.stop() }
      let unasked = try GrassDaemon(memory: guest.memoryPath, options: options)
      defer { unasked.stop() }
      let sessions = try [asked, unasked].map { try Session(to: LinkAddress($0.urls[1])) }
      for session in sessions {
        try #require(try wait(.seconds(90), until: { try session.line().detectorTick >= 5 }) != nil)
      }
      func open(_ index: Int) throws -> [Finding] {
        try sessions[index].openFindings().map { DeviceDetectors.finding($0) }
      }
      func waitForOpen(_ index: Int, _ names: [String]) throws {
        let isSo = try wait(.seconds(60), until: { try open(index).map(\.detector) == names })
        let titles = try open(index).map(\.title)
        #expect(isSo != nil, "\(titles) instead of \(names)")
      }
      func waitForTicks(_ count: UInt64) throws {
        for session in sessions {
          let end = try session.line().detectorTick + count
          try #require(try wait(.seconds(60), until: { try session.line().detectorTick >= end }) != nil)
        }
      }

      try guest.pause()
      try waitForOpen(0, ["paused"])
      try waitForOpen(1, ["stopped"])
      try waitForTicks(20)
      let paused = try #require(try open(0).first)
      #expect(paused.severity == .info && paused.confidence == .proven && paused.kind == .change)
      #expect(try open(0).count == 1, "a pause is taken for something else")
      let stopped = try #require(try open(1).first)
      #expect(stopped.title.contains("nothing here tells"), "\(stopped.title)")
      #expect(try sessions[0].lastWords().isEmpty && sessions[1].lastWords().count == 1)

      // What KVM would write where it does not run a CPU; TCG has no such time.
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let ram = try FileHandle(forUpdating: URL(fileURLWithPath: guest.memoryPath))
      func write(_ value: UInt8, _ symbol: String, cpu: Int? = nil, at offset: Int = 0) throws {
        var address = try #require(kernel.symbols.address(of: symbol))
        if let cpu {
          let offsets = try #require(kernel.symbols.address(of: "__per_cpu_offset"))
          let own = try kernel.addressSpace.read(offsets + cpu * 8, count: 8)
          address = VirtualAddress(address.rawValue &+ own.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
        }
        try ram.seek(toOffset: try kernel.addressSpace.translate(address + offset).rawValue)
        try ram.write(contentsOf: Data([value]))
      }
      let preempted = try kernel.types.structure("kvm_steal_time").field("preempted").offset
      try write(1, "has_steal_clock")
      try write(1, "steal_time", cpu: 0, at: preempted)
      // One of two: the other is run, and does nothing.
      try waitForTicks(5)
      let half = try wait(.seconds(30), until: { try open(1).first?.title.contains("KVM runs 1 of them") == true })
      let titles = try open(1).map(\.title)
      #expect(half != nil, "\(titles)")
      try write(1, "steal_time", cpu: 1, at: preempted)
      try waitForOpen(1, ["paused"])
      let told = try #require(try open(1).first)
      #expect(told.severity == .info && told.confidence == .strong)
      for cpu in 0..<2 { try write(0, "steal_time", cpu: cpu, at: preempted) }
      try write(0, "has_steal_clock")

      try guest.resume()
      for index in 0..<2 { try waitForOpen(index, []) }
      // The hypervisor runs it, and it does nothing.
      let hang = try guest.hang()
      for index in 0..<2 { try waitForOpen(index, ["stopped"]) }
      let hung = try #require(try open(0).first)
      #expect(hung.title.contains("all CPUs hang") && hung.severity == .critical, "\(hung.title)")
      #expect(try wait(.seconds(20), until: { try sessions[0].lastWords().count == 1 }) != nil)
      try guest.endHang(hang)
      for index in 0..<2 { try waitForOpen(index, []) }
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
  }
}
