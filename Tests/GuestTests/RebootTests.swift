import Foundation
import KernelInfo
import Lab
import Links
import Memory
import Records
import Remote
import Testing

extension OwnGuestTests {
  /// Guests that boot, and reboot, under a grassd that is there before them.
  @Suite(.serialized) struct RebootTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Asks until `isDone` or until the time is over, and says how long it took.
    private func wait(_ limit: Duration, until isDone: () throws -> Bool) throws -> Duration? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < limit {
        if try isDone() { return ContinuousClock.now - start }
        usleep(50_000)
      }
      return nil
    }

    /// QEMU's `pc` splits RAM elsewhere than `q35`, of which nothing in a file of zeros tells.
    @Test func rawFileServedBeforeItsGuestBoots() throws {
      let ram = try GuestMemory(mebibytes: 4096)
      let daemon = try GrassDaemon(memory: ram.path, monitors: [monitorPath("ps")])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      #expect(try session.info().kernelHint == nil)
      var options = GuestOptions(kernel: "6.1", memory: 4096, sleepers: 3)
      options.machine = .pc
      let guest = try Guest(options, ram: ram)
      defer { guest.shutDown() }
      // The session is older than the guest.
      let found = try wait(.seconds(30)) { try session.info().kernelHint != nil }
      #expect(found != nil, "grassd found no kernel")
      #expect(
        try session.info().segments == [
          MemorySegment(start: PhysicalAddress(0), count: 3 << 30),
          MemorySegment(start: PhysicalAddress(4 << 30), count: 1 << 30),
        ])
      #expect(try wait(.seconds(20)) { try session.monitors() == ["ps"] } != nil)
      #expect(try session.run("ps").result.records.count > 20)
      for source in [["--host", daemon.urls[0]], ["--memory", ram.path]] {
        let names = try grassctl.json(["ps"] + source).compactMap { $0["comm"] as? String }
        #expect(names.contains("kthreadd") && names.count > 20)
        #expect(try grassctl.run(["info"] + source).text.contains("alive"))
      }
      // What lies above the hole is read, too: the last pages of memory.
      #expect(throws: Never.self) {
        try RemoteMemory(session: session).read(PhysicalAddress(5 << 30) - 4096, count: 4096)
      }
    }

    /// Another build boots in the memory of the one before, under sessions that go on.
    @Test func rebootIntoAnotherBuild() throws {
      let ram = try GuestMemory(mebibytes: 1024)
      let options = ["6.1", "6.12", "6.12"].map { GuestOptions(kernel: $0, memory: 1024, sleepers: 3) }
      var guest = try Guest(options[0], ram: ram)
      let known = FileManager.default.temporaryDirectory.appendingPathComponent("grass-known-\(UUID().uuidString)").path
      defer { try? FileManager.default.removeItem(atPath: known) }
      let daemon = try GrassDaemon(memory: ram.path, monitors: [monitorPath("ps")])
      defer { daemon.stop() }
      let sessions = try daemon.urls.map { try Session(to: LinkAddress($0)) }
      func system() throws -> String? {
        let text = try grassctl.run(["info", "--host", daemon.urls[1]]).text
        return text.split(separator: "\n").first { $0.hasPrefix("System:") }.map(String.init)
      }
      #expect(try sessions[0].info().kernelHint != nil)
      #expect(try system()?.contains(" 6.1.") == true)
      #expect(try sessions[1].run("ps").result.records.count > 20)
      for (number, next) in options.enumerated().dropFirst() {
        guest.shutDown()
        guest = try Guest(next, ram: ram)
        // What no boot before was called, so that it is this one which is looked at.
        let name = "boot-\(number)"
        try #require(try guest.run("hostname \(name)").status == 0)
        // Within 5 s on a machine that does nothing else, most of which the compiler takes for the monitors.
        let took = try wait(.seconds(60)) {
          try sessions[1].monitors() == ["ps"] && sessions[0].run("ps").result.records.count > 20
            && system()?.contains(" \(name) ") == true
        }
        #expect(took != nil, "\(name): not found")
        #expect(try sessions[0].info().kernelHint != nil)
        #expect(try system()?.contains(" 6.12.") == true)
        let booted = try guest.run("cat /proc/sys/kernel/random/boot_id; ps | wc -l")
        #expect(booted.status == 0)
        for session in sessions {
          let isWhole = try wait(.seconds(30)) {
            let result = try session.run("ps").result
            return !result.isPartial && result.records.count > 20
          }
          #expect(isWhole != nil, "boot \(number): ps is not that of the new kernel")
        }
        let names = try grassctl.json(["ps", "--host", daemon.urls[0], "--known", known]).compactMap {
          $0["comm"] as? String
        }
        #expect(names.contains("kthreadd"))
      }
      // Both boots of the second build have the same tables, wherever their images lie.
      let files = try FileManager.default.contentsOfDirectory(atPath: known)
      #expect(files.filter { $0.hasSuffix(".build") }.count == 1, "\(files)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: known + "/boots").count == 2)
      guest.shutDown()
    }
  }
}
