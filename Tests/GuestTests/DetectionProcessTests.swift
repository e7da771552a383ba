import Detection
import Foundation
import KernelViews
import Lab
import Testing

extension GuestTests {
  /// Processes that are not what they seem, and what is not as it was learned: found, and gone when it was undone.
  @Suite(.serialized) struct DetectionProcessTests {
    private let grassctl = BuiltTool(name: "grassctl")

    private static var options: GuestOptions {
      var options = GuestOptions(kernel: "6.12", memory: 512, sleepers: 3)
      options.isBreakable = true
      return options
    }

    @Test(arguments: ["memfd-exe", "text-rewritten", "reverse-shell", "preload-file"])
    func aProcessThatIsNotWhatItSeemsIsFound(_ name: String) throws {
      let guest = try SharedGuests.shared.guest(Self.options)
      let one = try Breaks.named(name)
      try guest.perform(one)
      let found = try check(guest)
      if let undo = one.undo { try guest.perform(undo) }
      let expected = try #require(found.first { one.detectors.contains($0.detector) }, "\(found)")
      #expect(one.subject.isEmpty || expected.text.contains(one.subject), "\(expected)")
      #expect(found.filter { ["warning", "critical"].contains($0.severity) }.count == 1, "\(found)")
      #expect(try check(guest).isEmpty)
    }

    /// A program that runs on after another took its place is what packages leave behind.
    @Test func anUpgradeIsNoAttack() throws {
      let guest = try SharedGuests.shared.guest(Self.options)
      let script = """
        mkdir -p /opt && cp /bin/breaker /opt/daemon && { /opt/daemon stay </dev/null >/dev/null 2>&1 & echo $! >/tmp/daemon; }; \
        sleep 0.5; cp /bin/breaker /opt/daemon.new && mv /opt/daemon.new /opt/daemon
        """
      try guest.perform(.script(script))
      let found = try check(guest)
      try guest.perform(.script("kill -9 $(cat /tmp/daemon); rm /opt/daemon"))
      #expect(found.map(\.detector) == ["fileless-process"] && found.map(\.severity) == ["info"], "\(found)")
    }

    /// A debugger's breakpoints leave pages of code that are the process's own and the same as the file's.
    @Test func whatADebuggerTookBackIsNoAttack() throws {
      let guest = try SharedGuests.shared.guest(Self.options)
      let one = try Breaks.named("quiet-debugger")
      try guest.perform(one)
      defer { if let undo = one.undo { try? guest.perform(undo) } }
      let found = try check(guest, "--detector", "injected-code")
      #expect(found.isEmpty, "\(found)")
    }

    @Test func whatIsNotAsItWasLearnedIsFound() throws {
      let guest = try SharedGuests.shared.guest(Self.options)
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let file = folder.appendingPathComponent("baseline.json").path
      let one = try Breaks.named("route-gone")
      if let preparation = one.preparation { try guest.perform(preparation) }
      #expect(try check(guest, "--baseline", file).isEmpty)
      let learned = try String(contentsOfFile: file, encoding: .utf8)
      #expect(learned.contains("\"route-gone\"") && learned.contains("dev lo"), "\(learned)")
      #expect(try check(guest, "--baseline", file).isEmpty)
      try guest.perform(one.deed)
      let found = try check(guest, "--baseline", file)
      #expect(found.map(\.detector) == ["route-gone"] && found.map(\.baseline) == ["learned"], "\(found)")
      // Who knows nothing of how it was sees nothing wrong.
      #expect(try check(guest).isEmpty)
      try FileManager.default.removeItem(atPath: file)
      try "{}".write(toFile: file, atomically: true, encoding: .utf8)
      let refused = try grassctl.run(["check", "--memory", guest.memoryPath, "--baseline", file])
      #expect(refused.status != 0 && refused.errors.contains("is no baseline"), "\(refused.errors)")
    }

    /// A rule names the program by its inode and its build id, and ends.
    @Test func whatIsAllowedIsLeftOutUntilItExpires() throws {
      let guest = try SharedGuests.shared.guest(Self.options)
      let one = try Breaks.named("injected-code")
      try guest.perform(one)
      defer { if let undo = one.undo { try? guest.perform(undo) } }
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let look = Look(at: kernel)
      let process = try #require(
        try look.processes().processes.first { String(decoding: $0.task.comm, as: UTF8.self) == one.subject })
      let program = try #require(process.program)
      let buildID = try #require(try look.buildID(of: program))
      #expect(buildID.count == 40)
      var rule = Allowance(
        device: "\(program.device >> 20):\(program.device & 0xfffff)", inode: program.inode, buildID: buildID,
        expires: "2099-12-31")
      func left(_ rule: Allowance) throws -> [String] {
        var check = Check(pause: .zero)
        check.allowances = [rule]
        check.today = "2030-01-01"
        return check.run(on: kernel) { _ in }.findings.map(\.detector)
      }
      #expect(try left(rule) == [])
      rule.expires = "2029-12-31"
      #expect(try left(rule) == ["injected-code"])
      rule.expires = "2099-12-31"
      rule.inode = program.inode + 1
      #expect(try left(rule) == ["injected-code"])
      #expect(Allowance(buildID: buildID, expires: "2099-12-31").problem != nil)
      #expect(Allowance(programTag: "00", expires: "never").problem != nil)
    }

    private struct Found {
      var detector, severity, baseline, text: String
    }

    private func check(_ guest: Guest, _ options: String...) throws -> [Found] {
      let result = try grassctl.run(["check", "--json", "--memory", guest.memoryPath] + options)
      let rows = try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [[String: Any]]
      return try #require(rows, "\(result.errors)").map { row in
        Found(
          detector: "\(row["detector"] ?? "")", severity: "\(row["severity"] ?? "")",
          baseline: "\(row["baseline"] ?? "")", text: "\(row)")
      }
    }
  }
}
