import Foundation
import Glibc
import Lab
import Testing

extension OwnGuestTests {
  /// Images of a real guest, taken by the service: because somebody asks, and by rules.
  @Suite(.serialized, .guests(1)) struct FleetImageTests {
    private let grassctl = BuiltTool(name: "grassctl")

    private func wait<Value>(_ time: Duration, until condition: () throws -> Value?) rethrows -> Value? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < time {
        if let value = try condition() { return value }
        usleep(20_000)
      }
      return nil
    }

    private func images(_ fleet: FleetService) throws -> [[String: Any]] {
      let text = try fleet.get("/api/v1/images?host=able")
      return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]], "\(text)")
    }

    private func post(_ fleet: FleetService, _ path: String, _ body: String) throws -> [String: Any] {
      let text = try fleet.get(path, ["-X", "POST", "-H", "Content-Type: application/json", "-d", body])
      return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
    }

    /// The first image of a state.
    private func image(_ fleet: FleetService, _ number: Int?, _ state: String) throws -> [String: Any]? {
      try wait(.seconds(40)) {
        try images(fleet).first { ($0["number"] as? Int == number || number == nil) && $0["state"] as? String == state }
      }
    }

    @Test func imagesAreTakenForWhoAsksAndByRules() throws {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-fleet-\(UUID().uuidString)")
        .path
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512))
      defer { guest.shutDown() }
      _ = try guest.run(
        "mkdir -p /room; mount -t tmpfs none /room; dd if=/dev/urandom of=/room/x bs=1M count=96 2>/dev/null")
      let daemon = try GrassDaemon(
        memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
      defer { daemon.stop() }
      let signer = "\(folder)/certifier"
      #expect(try grassctl.run(["key", "new", "--certifier", "--file", signer]).status == 0)
      func configuration(_ images: String) -> String {
        """
        listen: 127.0.0.1:0
        period: 0.2
        detectors_every: 0
        images:
          \(images)
          rules:
            - {states: [panic], profile: crash, per_day: 1}
            - {kinds: [attack], profile: evidence}
        hosts:
          - {name: able, url: "\(daemon.urls[1])"}
        """
      }
      let fleet = try FleetService(
        configuration("store: images\n  sign_with: certifier\n  keep: 2"), in: folder)
      defer { fleet.stop() }
      #expect(
        try wait(.seconds(30)) { try fleet.states().first?.state == "alive" ? true : nil } == true, "\(fleet.told)")

      // Who follows sees how far it has got.
      let follower = Process()
      follower.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
      follower.arguments = [
        "--pdeathsig", "KILL", "--", "curl", "-sN", "\(fleet.url)/events", "-o", "\(folder)/events",
      ]
      try Spawner.shared.start(follower)
      defer {
        kill(follower.processIdentifier, SIGKILL)
        follower.waitUntilExit()
      }
      #expect(wait(.seconds(20)) { FileManager.default.fileExists(atPath: "\(folder)/events") ? true : nil } == true)
      let asked = try post(fleet, "/api/v1/hosts/able/images", #"{"reason": "to look", "level": 0}"#)
      let first = try #require(asked["number"] as? Int, "\(asked)")
      #expect(asked["who"] as? String != "grass-fleet" && asked["reason"] as? String == "to look")
      // Who asks meanwhile is told of the same, and it can be ended.
      let again = try post(fleet, "/api/v1/hosts/able/images", "{}")
      #expect(again["number"] as? Int == first)
      let shown = try fleet.get("/hosts/able")
      #expect(shown.contains("id=\"image-\(first)\"") && shown.contains("/images/\(first)/cancel"))
      _ = try post(fleet, "/api/v1/images/\(first)/cancel", "{}")
      let ended = try #require(try image(fleet, first, "cancelled"), "\(fleet.said)")
      #expect(ended["image"] is NSNull)

      // Whole, in the store, and a kernel is found in it.
      let number = try #require(try post(fleet, "/api/v1/hosts/able/images", #"{"level": 0}"#)["number"] as? Int)
      let whole = try #require(try image(fleet, number, "done"), "\(fleet.said)")
      let id = try #require(whole["image"] as? String)
      #expect(whole["total_bytes"] as? Int ?? 0 > 500 << 20 && whole["problem"] is NSNull, "\(whole)")
      let told = try String(contentsOfFile: "\(folder)/events", encoding: .utf8)
      let progress = told.split(separator: "\n").filter {
        $0.hasPrefix("data: ") && $0.contains("\"number\": \(number),") && $0.contains("\"state\": \"running\"")
      }
      #expect(progress.count >= 2, "\(progress.count) events tell how far it has got")
      let listed = try grassctl.run(["store", "list", "\(folder)/images"])
      #expect(listed.text.contains("able") && listed.text.contains("6.12"), "\(listed.text)\(listed.errors)")
      let verified = try grassctl.run(["store", "verify", "\(folder)/images", "--key", "\(signer).pub"])
      #expect(verified.status == 0 && verified.text.contains("signed by"), "\(verified.text)\(verified.errors)")
      let processes = try grassctl.run(["ps", "--memory", "\(folder)/images#\(id.prefix(12))", "--no-known"])
      #expect(processes.text.contains("kthreadd"), "\(processes.errors)")

      // The host dies, and the rule takes one by itself: one a day, whatever else comes.
      try guest.send("echo c > /proc/sysrq-trigger")
      let byRule = try #require(
        try wait(.seconds(40)) {
          try images(fleet).first { $0["rule"] as? String == "states panic" && $0["ended"] is Double }
        },
        "\(fleet.told) \(fleet.said)")
      #expect(byRule["state"] as? String == "done" && byRule["who"] as? String == "grass-fleet", "\(byRule)")
      #expect(
        (byRule["reason"] as? String)?.hasPrefix("panic: the kernel panicked") == true && byRule["level"] as? Int == 31)
      let metrics = try fleet.get("/metrics")
      #expect(
        metrics.contains("grass_acquisitions_total{result=\"done\"} 2") && metrics.contains("result=\"cancelled\"} 1"))
      #expect(
        metrics.contains("grass_kernel_info{host=\"able\",release=\"6.12") == false, "nobody has read its name yet")
      #expect(try fleet.get("/probe?target=able").contains("grass_probe_success"))
      #expect(try fleet.get("/metrics").contains("grass_kernel_info{host=\"able\",release=\"6.12"))

      // From now on each goes to a file that only the operator can read, and the newest is kept.
      let made = try runProgram("age-keygen", ["-o", "\(folder)/key"])
      let recipient = try #require(
        made.split(separator: " ").last.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) })
      try configuration("folder: sealed\n  encrypt_to: [\(recipient)]\n  keep: 1")
        .write(toFile: "\(folder)/fleet.yaml", atomically: true, encoding: .utf8)
      fleet.signal(SIGHUP)
      #expect(wait(.seconds(20)) { fleet.said.contains("the configuration was read anew") ? true : nil } == true)
      var last: String?
      for _ in 0..<2 {
        let number = try #require(try post(fleet, "/api/v1/hosts/able/images", #"{"level": 31}"#)["number"] as? Int)
        let sealed = try #require(try image(fleet, number, "done"), "\(fleet.said)")
        let name = try #require(sealed["image"] as? String)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(folder)/sealed") == [name])
        #expect(name.hasPrefix("able@") && name != last && sealed["stored_bytes"] as? Int ?? 0 > 1 << 20, "\(sealed)")
        last = name
      }
      let sealed = "\(folder)/sealed/\(try #require(last))"
      let bytes = try #require(FileManager.default.contents(atPath: sealed))
      #expect(
        bytes.starts(with: Data("age-encryption.org/v1\n".utf8)) && bytes.range(of: Data("VMCOREINFO".utf8)) == nil)
      #expect(try grassctl.run(["dmesg", "--memory", sealed]).status != 0)
      _ = try runProgram("age", ["--decrypt", "-i", "\(folder)/key", "-o", "\(folder)/opened", sealed])
      let words = try grassctl.run(["dmesg", "--memory", "\(folder)/opened", "--no-known"])
      #expect(words.text.contains("sysrq triggered crash"), "\(words.errors)")
    }
  }
}
