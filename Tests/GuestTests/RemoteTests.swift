import Foundation
import Lab
import Testing

extension GuestTests {
  /// The same answers through every link as from the file, and answers still after the guest has died.
  @Suite(.serialized) struct RemoteTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests)
    func everyLinkSaysWhatTheFileSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try guest.pause()
      defer { try? guest.resume() }
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      #expect(daemon.urls.count == 2)
      for command in [["ps", "--threads"], ["ps"], ["dmesg"], ["info"]] {
        let file = try grassctl.run(command + ["--json", "--memory", guest.memoryPath])
        #expect(file.status == 0, "\(file.errors)")
        for url in daemon.urls {
          let remote = try grassctl.run(command + ["--json", "--host", url])
          #expect(remote.status == 0, "\(url): \(remote.errors)")
          #expect(remote.output == file.output, "\(command) over \(url) differs")
        }
      }
    }

    @Test(arguments: [
      GuestOptions(kernel: "6.1", memory: 512, sleepers: 5), GuestOptions(kernel: "6.12-rt", memory: 512, sleepers: 5),
    ])
    func monitorGoesOnAfterAPanic(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.own(kind)
      defer { guest.shutDown() }
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      let before = try TaskOracle(guest, threads: true)
      let logBefore = try guest.run("dmesg -r").bytes
      try guest.panic()
      for url in daemon.urls {
        let heartbeat = try grassctl.run(["heartbeat", "--host", url, "--count", "3", "--interval", "0.01"])
        #expect(heartbeat.status == 0, "\(heartbeat.errors)")
        #expect(heartbeat.text.contains("3 sent, 3 answered, 0.0% lost"))

        let tasks = try grassctl.json(["ps", "--threads", "--host", url])
        let seen = Dictionary(uniqueKeysWithValues: tasks.map { ($0["pid"] as? Int ?? 0, $0["comm"] as? String ?? "") })
        for (pid, task) in before.tasks where task.field(9) != "" && !task.comm.starts(with: Array("head".utf8)) {
          // Kernel workers come and go; processes of the workload do not.
          guard (Int(task.field(9)) ?? 0) & 0x20_0000 == 0, task.commandLine.first != UInt8(ascii: "h"),
            task.comm != Array("sh".utf8)
          else { continue }
          #expect(seen[pid]?.documentedBytes == task.comm, "task \(pid) is gone after the panic")
        }

        let log = try grassctl.json(["dmesg", "--host", url])
        let texts = log.compactMap { $0["text"] as? String }
        #expect(texts.contains("Kernel panic - not syncing: sysrq triggered crash"))
        #expect(texts.last == "---[ end Kernel panic - not syncing: sysrq triggered crash ]---")
        compareLog(Array(log.prefix(logBefore.split(separator: UInt8(ascii: "\n")).count)), logBefore, allowsMore: true)

        let host = try #require(try grassctl.json(["info", "--host", url]).first)
        let panic = try #require(host["panic"] as? [String: Any])
        #expect(panic["message"] as? String == "sysrq triggered crash")
      }
    }

    @Test func errorsSayWhatFailed() throws {
      let nobody = try grassctl.run(["ps", "--host", "tcp://127.0.0.1:1"])
      #expect(nobody.status == 2)
      #expect(nobody.errors.contains("tcp://127.0.0.1:1"))
      #expect(try grassctl.run(["ps", "--host", "shm:///nonexistent/region"]).status == 2)
      #expect(try grassctl.run(["ps", "--memory", "/nonexistent"]).status == 3)
      #expect(try grassctl.run(["ps", "--memory", "/bin/ls"]).errors.contains("an ELF file but not a core"))
      #expect(try grassctl.run(["ps"]).status == 64)
      #expect(try grassctl.run(["ps", "--host", "ftp://x"]).status == 2)
      #expect(try grassctl.run(["dmesg", "--memory", "/bin/ls", "--level", "loud"]).status == 64)
      let refused = try BuiltTool(name: "grassd").run(["--memory", "/bin/ls", "--listen", "tcp://127.0.0.1:0"])
      #expect(refused.status == 1)
      #expect(refused.errors.contains("not a core"))
      let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("grass-empty-\(UUID().uuidString)")
      try Data(count: 1 << 20).write(to: scratch)
      defer { try? FileManager.default.removeItem(at: scratch) }
      let open = try BuiltTool(name: "grassd").run(["--memory", scratch.path, "--listen", "tcp://0.0.0.0:0"])
      #expect(open.status == 1)
      #expect(open.errors.contains("without keys a link serves this machine only"))
      #expect(try grassctl.run(["ps", "--memory", scratch.path]).status == 3)
    }
  }
}
