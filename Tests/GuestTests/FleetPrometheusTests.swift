import Foundation
import Glibc
import Lab
import Scratch
import Testing

extension OwnGuestTests.FleetServiceTests {
  /// A real Prometheus scrapes a real host through the service with the configuration of deploy/, its consoles for node_exporter answer,
  /// and when the host dies a real Alertmanager tells a receiver of it, by the rules and by the service itself.
  @Test func prometheusConsolesAndAlertmanagerTakeItForAnExporter() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-fleet-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let kernel = try KernelStore().kernel("6.12")
    var options = GuestOptions(kernel: "6.12", memory: 512)
    // A disk that node_exporter does not leave out.
    options.programs += ["block/configfs", "block/null_blk", "devices/dummy"].map {
      kernel.image.deletingLastPathComponent().appendingPathComponent("\($0).ko").path
    }
    let guest = try Guest(options)
    defer { guest.shutDown() }
    let made = try guest.run(
      """
      insmod /modules/configfs.ko; insmod /modules/null_blk.ko nr_devices=1
      insmod /modules/dummy.ko
      ip link set lo up; ip link set dummy0 up
      mkdir -p /room; mount -t tmpfs -o size=8m none /room; dd if=/dev/zero of=/room/x bs=1M count=3 2>/dev/null
      (while :; do dd if=/dev/zero of=/dev/nullb0 bs=1M count=4; dd if=/dev/nullb0 of=/dev/null bs=1M count=4; sleep 1; done) \
        >/dev/null 2>&1 &
      ls /dev/nullb0; cat /proc/sys/kernel/osrelease; grep btime /proc/stat; grep MemTotal /proc/meminfo
      """
    ).text
    try #require(made.contains("/dev/nullb0"), "\(made)")
    let daemon = try GrassDaemon(
      memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
    defer { daemon.stop() }

    // What receives, which writes down what it is told.
    let hook = RunningProgram.freePort()
    let receiver = try RunningProgram(
      "/usr/bin/python3", ["-c", Self.receiving, "\(hook)", "\(folder)/told"], log: "\(folder)/hook")
    defer { receiver.stop() }
    let deploy = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../deploy")
      .standardizedFileURL.path
    let alerts = RunningProgram.freePort()
    try String(contentsOfFile: "\(deploy)/alertmanager/alertmanager.yml", encoding: .utf8)
      .replacing("127.0.0.1:8080", with: "127.0.0.1:\(hook)").replacing(
        "group_interval: 30s", with: "group_interval: 1s"
      )
      .write(toFile: "\(folder)/alertmanager.yml", atomically: true, encoding: .utf8)
    let manager = try RunningProgram(
      "/usr/bin/prometheus-alertmanager",
      [
        "--config.file=\(folder)/alertmanager.yml", "--storage.path=\(folder)/alerts",
        "--web.listen-address=127.0.0.1:\(alerts)", "--cluster.listen-address=",
      ], log: "\(folder)/manager")
    defer { manager.stop() }
    let fleet = try FleetService(
      """
      listen: 127.0.0.1:0
      period: 0.2
      alertmanager: ["http://127.0.0.1:\(alerts)"]
      hosts:
        - {name: able, url: "\(daemon.urls[1])", labels: {rack: a1}}
        - {name: zero, url: "tcp://127.0.0.1:1"}
      """, in: folder)
    defer { fleet.stop() }
    let web = RunningProgram.freePort()
    let place = fleet.url.replacing("http://", with: "")
    try String(contentsOfFile: "\(deploy)/prometheus/prometheus.yml", encoding: .utf8)
      .replacing("127.0.0.1:9187", with: place).replacing("127.0.0.1:9093", with: "127.0.0.1:\(alerts)")
      .replacing("[alerts.yml]", with: "[\(deploy)/prometheus/alerts.yml]")
      .replacing("interval: 15s", with: "interval: 1s").replacing("interval: 5s", with: "interval: 1s")
      .write(toFile: "\(folder)/prometheus.yml", atomically: true, encoding: .utf8)
    let examples = "/usr/share/doc/prometheus/examples"
    let prometheus = try RunningProgram(
      "/usr/bin/prometheus",
      [
        "--config.file=\(folder)/prometheus.yml", "--storage.tsdb.path=\(folder)/tsdb",
        "--web.listen-address=127.0.0.1:\(web)", "--web.console.templates=\(examples)/consoles",
        "--web.console.libraries=\(examples)/console_libraries",
      ], log: "\(folder)/prometheus")
    defer { prometheus.stop() }

    try theProbeIsRight(fleet, made)
    try theConsolesAnswer("http://127.0.0.1:\(web)", prometheus)

    // It dies: its memory says what it said, and beside it stands that it is old.
    let flat = try samples(fleet.get("/probe?target=able"))
    try guest.send("echo c > /proc/sysrq-trigger")
    let told = wait(.seconds(90)) { () -> String? in
      let text = (try? String(contentsOfFile: "\(folder)/told", encoding: .utf8)) ?? ""
      return text.contains("\"GrassHostPanicked\"") && text.contains("\"GrassHostState\"") ? text : nil
    }
    let text = try #require(told, "\(fleet.said) \(prometheus.said) \(manager.said)")
    #expect(text.contains("the kernel panicked on CPU") && text.contains("/hosts/able"))
    let dead = try wait(.seconds(30)) { () -> [String: Double]? in
      let now = try samples(fleet.get("/probe?target=able"))
      return now["grass_memory_change_age_seconds{host=\"able\"}"] ?? 0 > 2 ? now : nil
    }
    let after = try #require(dead, "the memory does not stand still")
    #expect(after["grass_host_state{host=\"able\",state=\"panic\"}"] == 1)
    #expect(after["node_boot_time_seconds"] == flat["node_boot_time_seconds"])
    #expect(flat["grass_memory_change_age_seconds{host=\"able\"}"] ?? 9 < 2)
  }

  /// A web server that writes each alert that it is told of to a file, a line each.
  private static let receiving = """
    import http.server, json, sys
    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with open(sys.argv[2], "a") as told:
                for alert in json.loads(body)["alerts"]: told.write(json.dumps(alert) + "\\n")
            self.send_response(200)
            self.end_headers()
        def log_message(self, *words): pass
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
    """

  /// Values by what stands before them.
  private func samples(_ text: String) -> [String: Double] {
    Dictionary(
      text.split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap { line in
        line.lastIndex(of: " ").flatMap { end in
          Double(line[line.index(after: end)...]).map { (String(line[..<end]), $0) }
        }
      }, uniquingKeysWith: { first, _ in first })
  }

  /// What the probe says is what the guest says of itself.
  private func theProbeIsRight(_ fleet: FleetService, _ made: String) throws {
    let read = try wait(.seconds(60)) { () -> String? in
      let text = try fleet.get("/probe?target=able", ["--max-time", "30"])
      return text.contains("grass_probe_success{host=\"able\"} 1") ? text : nil
    }
    let text = try #require(read, "\(fleet.said)")
    try text.write(toFile: "\(fleet.folder)/probe", atomically: true, encoding: .utf8)
    if let shots = ProcessInfo.processInfo.environment["GRASS_SCREENSHOTS"] {
      try? text.write(toFile: "\(shots)/probe.txt", atomically: true, encoding: .utf8)
    }
    // node_exporter's own names are not all as promtool would have them.
    let complaints = try runProgram(
      "sh", ["-c", "promtool check metrics < \(fleet.folder)/probe 2>&1 | grep -v '^node_' || true"])
    #expect(complaints == "")
    let values = samples(text)
    func own(_ name: String) throws -> Double {
      try #require(made.split(separator: "\n").first { $0.hasPrefix(name) }?.split(separator: " ").dropFirst().first)
        .withCString { strtod($0, nil) }
    }
    #expect(try values["node_boot_time_seconds"] == own("btime"))
    #expect(try values["node_memory_MemTotal_bytes"] == own("MemTotal:") * 1024)
    #expect(values["node_filesystem_size_bytes{device=\"none\",mountpoint=\"/room\",fstype=\"tmpfs\"}"] == 8_388_608)
    #expect(values["node_filesystem_avail_bytes{device=\"none\",mountpoint=\"/room\",fstype=\"tmpfs\"}"] == 5_242_880)
    #expect(values["node_disk_written_bytes_total{device=\"nullb0\"}"] ?? 0 >= 0)
    #expect(values["node_network_receive_bytes_total{device=\"dummy0\"}"] == 0)
    #expect(values["node_cpu_seconds_total{cpu=\"1\",mode=\"idle\"}"] ?? 0 > 0)
    #expect(values["node_scrape_collector_success{collector=\"filesystem\"}"] == 1)
    let release = try #require(made.split(separator: "\n").first { $0.hasPrefix("6.12") })
    #expect(text.contains("release=\"\(release)\""))
    let failed = values.filter { $0.key.hasPrefix("node_scrape_collector_success") && $0.value == 0 }.keys.sorted()
    // A guest may be built without what these tell.
    #expect(failed.allSatisfy { $0.contains("schedstat") || $0.contains("pressure") }, "\(failed)")
    let states = values.filter { $0.key.hasPrefix("grass_host_state") && $0.value == 1 }.keys
    #expect(Array(states) == ["grass_host_state{host=\"able\",state=\"alive\"}"])

    // Who is none of the fleet, and who is not there.
    func status(_ path: String) throws -> String { try fleet.get(path, ["-o", "/dev/null", "-w", "%{http_code}"]) }
    #expect(try status("/probe?target=nobody") == "404" && status("/probe") == "400")
    let absent = try fleet.get("/probe?target=zero")
    #expect(absent.contains("grass_host_state{host=\"zero\",state=\"unreachable\"} 1") && !absent.contains("node_"))
    #expect(absent.contains("grass_probe_success{host=\"zero\"} 0") && absent.contains("# the memory cannot be read"))
  }

  private func theConsolesAnswer(_ url: String, _ prometheus: RunningProgram) throws {
    func console(_ name: String) throws -> String {
      try runProgram("curl", ["--silent", "--max-time", "10", "\(url)/consoles/\(name)"])
    }
    /// What stands in the links by which consoles show a value: a number and its unit, or a dash where there is none.
    func values(_ page: String) -> [String] {
      page.matches(of: /<a class="prom_query_drilldown"[^>]*>([^<]*)<\/a>/).map {
        $0.output.1.filter { !$0.isWhitespace }
      }
    }
    let isNumber = { (value: String) in
      value.first.map { $0.isNumber || $0 == "~" || $0 == "-" && value.count > 1 } == true
    }
    for (name, least) in [
      ("node.html", 4), ("node-overview.html?instance=able", 8), ("node-cpu.html?instance=able", 7),
      ("node-disk.html?instance=able", 6),
    ] {
      var page = ""
      let shown = wait(.seconds(60)) { () -> [String]? in
        // Until it is up, nobody answers.
        page = (try? console(name)) ?? ""
        // Of the one that is not there nothing is shown but that it is down.
        let found = values(page).filter { name != "node.html" || $0 != "-" }
        return found.count >= least && found.allSatisfy(isNumber) ? found : nil
      }
      #expect(shown != nil, "\(name): \(values(page)) \(page.suffix(2000)) \(prometheus.said.suffix(1000))")
    }
    #expect(try console("node-cpu.html?instance=able").contains("Idle CPU"))
    #expect(try console("node-disk.html?instance=able").contains("nullb0"))
    #expect(try console("node-overview.html?instance=able").contains("dummy0"))
    let nodes = try console("node.html")
    #expect(nodes.contains(">able</a>") && nodes.contains("Yes"))
  }
}
