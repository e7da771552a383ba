import Foundation
import Lab
import LinkConformance
import Links
import Memory
import Remote
import Testing

extension GuestTests {
  /// A real grassd that is stopped, killed, left alone, or abandoned by its clients.
  ///
  /// It needs no guest to watch.
  @Suite(.serialized) struct DaemonTests {
    /// 1 MiB of memory in which no kernel lives.
    private final class Memory {
      let path: String

      init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("grass-memory-\(UUID().uuidString)")
        try Data((0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 >> 12) }).write(to: url)
        path = url.path
      }

      deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    @Test(arguments: PeerConformance.Check.allCases, [0, 1])
    func linksKeepTheirPromisesWhateverHappensToGrassd(_ check: PeerConformance.Check, link: Int) throws {
      let memory = try Memory()
      let daemon = try GrassDaemon(memory: memory.path)
      defer { daemon.bury() }
      let address = try LinkAddress(daemon.urls[link])
      let peer = PeerConformance.Peer(
        kill: { daemon.signal(SIGKILL) }, stop: { try daemon.pause() },
        resume: { daemon.signal(SIGCONT) })
      try PeerConformance(peer: peer) { () throws(LinkError) in
        try address.connect(slots: 1, within: .seconds(1))
      }.run(check)
    }

    /// The device is stopped with its process, so no request is answered, whatever the link still completes.
    @Test(arguments: [0, 1]) func sessionsSayThatNobodyAnswers(link: Int) throws {
      let memory = try Memory()
      let daemon = try GrassDaemon(memory: memory.path)
      defer { daemon.bury() }
      let address = try LinkAddress(daemon.urls[link])
      let session = try Session(to: address)
      try session.heartbeat()
      try daemon.pause()
      let start = ContinuousClock.now
      let error = #expect(throws: SessionError.self) { try session.heartbeat(within: .milliseconds(300)) }
      #expect(ContinuousClock.now - start < .seconds(10))
      daemon.signal(SIGCONT)
      switch error?.reason {
      // Nobody answered, but the link is whole, and so is the session once the device runs again.
      case .noAnswer: try session.heartbeat()
      // The link's other side has software in it that did not answer either: a new session works.
      case .link(let failure):
        #expect(failure.reason == .deadlinePassed)
        try Session(to: address).heartbeat()
      default: Issue.record("a stopped monitor is reported as \(String(describing: error))")
      }
    }

    @Test(arguments: [0, 1]) func slotsOfKilledClientsComeBack(link: Int) throws {
      let memory = try Memory()
      let daemon = try GrassDaemon(memory: memory.path)
      defer { daemon.stop() }
      let address = try LinkAddress(daemon.urls[link])
      let all = try address.connect(slots: 64)
      let slots = all.grant.slots.count
      all.close()
      let clients = try (0..<2).map { _ in
        let client = Process()
        client.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
        client.arguments = ["heartbeat", "--host", daemon.urls[link], "--count", "100000", "--interval", "0.001"]
        client.standardOutput = FileHandle.nullDevice
        client.standardError = FileHandle.nullDevice
        try Spawner.shared.start(client)
        return client
      }
      func free() -> Int {
        guard let link = try? address.connect(slots: 64) else { return 0 }
        defer { link.close() }
        return link.grant.slots.count
      }
      func wait(until condition: () -> Bool) -> Bool {
        for _ in 0..<200 {
          if condition() { return true }
          usleep(50_000)
        }
        return false
      }
      #expect(wait { free() < slots }, "no client took a slot")
      for client in clients {
        kill(client.processIdentifier, SIGKILL)
        client.waitUntilExit()
      }
      #expect(wait { free() == slots }, "of \(slots) slots only \(free()) came back")
    }

    /// Who follows a device says when it ends, in the form of every finding, and when it is there again.
    @Test func silenceIsAFinding() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let daemon = try GrassDaemon(memory: guest.memoryPath, options: ["--detectors", "--check", "0"])
      let grassctl = Process()
      grassctl.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
      grassctl.arguments = ["watch", "--host", daemon.urls[1], "--json", "--interval", "0.2", "--timeout", "2"]
      let output = Pipe()
      grassctl.standardOutput = output
      grassctl.standardError = FileHandle.nullDevice
      try Spawner.shared.start(grassctl)
      defer { kill(grassctl.processIdentifier, SIGKILL) }
      // It follows once its slots are taken.
      let address = try LinkAddress(daemon.urls[1])
      let all = try address.connect(slots: 64)
      let slots = all.grant.slots.count
      all.close()
      var isFollowed = slots < 16
      for _ in 0..<600 where !isFollowed {
        let link = try address.connect(slots: 64)
        isFollowed = link.grant.slots.count < 16
        link.close()
        usleep(50_000)
      }
      #expect(isFollowed)
      usleep(500_000)
      daemon.bury()
      var text = ""
      while !text.contains("device-silent") {
        let data = output.fileHandleForReading.availableData
        guard !data.isEmpty else { break }
        text += String(decoding: data, as: UTF8.self)
      }
      let line = text.split(separator: "\n").first { $0.contains("device-silent") } ?? ""
      let finding = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      #expect(finding?["state"] as? String == "confirmed" && finding?["severity"] as? String == "warning", "\(text)")
      #expect((finding?["title"] as? String)?.hasPrefix("the device at \(daemon.urls[1]) is silent") == true)
    }

    @Test func aMemoryThatIsCutIsAnErrorAndNoEnd() throws {
      let memory = try Memory()
      let daemon = try GrassDaemon(memory: memory.path)
      defer { daemon.stop() }
      for url in daemon.urls {
        let remote = try RemoteMemory(session: Session(to: LinkAddress(url)))
        #expect(try remote.read(PhysicalAddress(0x8000), count: 2) == [8, 8])
      }
      let local = try #require(try MemoryImage.open(memory.path).first)
      #expect(truncate(memory.path, 0x4000) == 0)
      for url in daemon.urls {
        let session = try Session(to: LinkAddress(url))
        let error = #expect(throws: MemoryFault.self) {
          try RemoteMemory(session: session).read(PhysicalAddress(0x8000), count: 2)
        }
        #expect(error?.description.contains("lost the memory's file") == true)
        try session.heartbeat()
      }
      let error = #expect(throws: MemoryFault.self) { try local.read(PhysicalAddress(0x8000), count: 2) }
      #expect(error?.description.contains("became shorter") == true)
    }

    /// Documented as under 5% of a core.
    ///
    /// The bound here is wider, for machines that are slow, busy or instrumented; a device that polls at full speed
    /// takes all of it.
    @Test func anIdleDeviceSparesItsCore() throws {
      let memory = try Memory()
      let daemon = try GrassDaemon(memory: memory.path)
      defer { daemon.stop() }
      try Session(to: LinkAddress(daemon.urls[0])).heartbeat()
      usleep(1_000_000)
      let before = try ticks(of: daemon.processID)
      usleep(3_000_000)
      let share = Double(try ticks(of: daemon.processID) - before) / Double(sysconf(Int32(_SC_CLK_TCK)) * 3)
      #expect(share < 0.15, "an idle grassd takes \(Int(share * 100))% of a core")
    }

    /// User and system time of a process, in clock ticks: fields 14 and 15 of /proc/PID/stat.
    private func ticks(of process: Int32) throws -> Int {
      let text = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
      let fields = try #require(text.split(separator: ")").last).split(separator: " ")
      return try #require(Int(fields[11])) + (try #require(Int(fields[12])))
    }
  }
}
