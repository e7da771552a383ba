import Foundation
import Links
import LinuxKernel
import Memory
import Region

/// One grass-fleet that watches many devices, and what that takes.
///
/// First it is left to itself: looks, checks, processor time and memory. Then hosts change their states, and what follows
/// `/events` sees when each comes. `bad` percent of the hosts hang, talk nonsense or lose bytes all the while; of the others none may
/// be anything but as it is.
struct ServiceBench {
  let program: String
  let image: String
  var (shm, tcp, bad, changes) = (2000, 500, 0, 100)
  var (period, every, seconds) = (1.0, 600.0, 60.0)
  /// Whether slots are as large as grassd's usual ones, in place of 16 and 64 KiB.
  var isLarge = false

  init(program: String, image: String, options: [String]) {
    (self.program, self.image) = (program, image)
    for option in options {
      let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2, let value = Double(parts[1]), value >= 0 else { fatalError("\(option)? \(usage)") }
      switch parts[0] {
      case "shm": shm = Int(value)
      case "tcp": tcp = Int(value)
      case "bad": bad = Int(value)
      case "changes": changes = Int(value)
      case "period": period = value
      case "every": every = value
      case "seconds": seconds = value
      case "large": isLarge = value > 0
      default: fatalError("\(option)? \(usage)")
      }
    }
  }

  func run(in folder: URL) throws {
    let kernel = try Kernel.open(try MemoryImage.open(image))
    let layout = try RegionLayout(
      slots: 4, requestSize: isLarge ? 65536 : 16384, responseSize: isLarge ? 1 << 20 : 65536, findings: 16, words: 0)
    let devices = try SteppedDevices(
      shm + tcp, in: folder, over: mapped(image), hint: kernel.found.coreInfoAddress, layout: layout)
    defer { devices.end() }
    let served = try (shm..<shm + tcp).map {
      try TCPResponder(region: devices.regions[$0], host: "127.0.0.1", port: 0)
    }
    defer { for one in served { one.stop() } }

    // Which are no good, spread over all.
    let step = bad > 0 ? 100 / bad : 0
    let isBad = (0..<shm + tcp).map { step > 0 && $0 % step == step - 1 }
    let spoiled = (0..<shm).filter { isBad[$0] }
    var urls = (0..<shm).map { "shm://\(folder.path)/\($0)" } + served.map { $0.address.description }
    for (turn, index) in (shm..<shm + tcp).filter({ isBad[$0] }).enumerated() {
      guard let port = UInt16(urls[index].split(separator: ":").last ?? "") else { continue }
      let kinds = BadServers.Kind.allCases
      urls[index] = "tcp://127.0.0.1:\(BadServers.start(kinds[turn % kinds.count], device: port))"
    }
    let good = (0..<shm + tcp).filter { !isBad[$0] }
    var text = "listen: 127.0.0.1:0\nperiod: \(period)\ndetectors_every: \(every)\nhosts:\n"
    for (index, url) in urls.enumerated() { text += "  - {name: h\(index), url: \"\(url)\"}\n" }
    let file = folder.appendingPathComponent("fleet.yaml").path
    try text.write(toFile: file, atomically: false, encoding: .utf8)

    let service = Process()
    // It ends with this program, however that ends.
    service.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    service.arguments = ["--pdeathsig", "KILL", "--", program, "run", file]
    let output = Pipe()
    service.standardOutput = output
    service.standardError = FileHandle.nullDevice
    service.standardInput = FileHandle.nullDevice
    try service.run()
    defer {
      service.terminate()
      service.waitUntilExit()
    }
    let ready = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    guard let line = ready.split(separator: "\n").first(where: { $0.hasPrefix("ready ") }) else {
      fatalError("\(program) does not begin")
    }
    let watched = Watched(url: String(line.dropFirst(6)), process: service.processIdentifier)
    say(
      "\(shm) hosts over shared memory and \(tcp) over TCP, period \(period) s, checks every \(Int(every)) s, \(bad)% of hosts bad"
        + (isLarge ? ", slots of grassd's usual size" : ""))

    let start = monotonicNanoseconds()
    while try watched.figures().alive < (bad > 0 ? good.count : urls.count) {
      guard monotonicNanoseconds() - start < 120_000_000_000 else { fatalError("not all hosts are seen to live") }
      usleep(500_000)
    }
    say(String(format: "all seen alive after %.1f s", Double(monotonicNanoseconds() - start) / 1e9))
    devices.spoil(
      hanging: Set(spoiled.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)),
      babbling: Set(spoiled.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)))
    // Whoever goes silent is seen to.
    usleep(5_000_000)

    let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
    try measure("left to itself", watched, good) {
      usleep(250_000)
      return monotonicNanoseconds() < end
    }
    if changes > 0 { try measureChanges(watched, devices, good) }
    try measureAnswers(watched)
  }

  /// Prints what the service takes while `turn` is done again and again, as long as it says so.
  private func measure(_ what: String, _ watched: Watched, _ good: [Int], _ turn: () throws -> Bool) throws {
    let (before, start) = (try watched.figures(), monotonicNanoseconds())
    let processor = watched.processorSeconds
    var most = 0
    while try turn() { most = max(most, watched.kibibytes("VmRSS")) }
    let took = Double(monotonicNanoseconds() - start) / 1e9
    let used = watched.processorSeconds - processor
    let after = try watched.figures()
    say(
      String(
        format:
          "%@, %.0f s: %.2f of a core, %.0f looks and %.1f checks a second, %d MiB resident now (%d heap, %d shared), %d at most, %d threads",
        what, took, used / took, (after.looks - before.looks) / took, Double(after.checks - before.checks) / took,
        watched.kibibytes("VmRSS") >> 10, watched.kibibytes("RssAnon") >> 10, watched.kibibytes("RssShmem") >> 10,
        most >> 10, watched.kibibytes("Threads")))
    say(
      String(
        format:
          "  %d of %d good hosts alive, %d of them with a check that was not whole; the latest look ever %.3f s late",
        good.count { after.states["h\($0)"] == "alive" }, good.count,
        good.count { after.failed.contains("h\($0)") }, after.late))
  }

  /// Has hosts find something, and find it gone, and prints how long each takes to be with who follows.
  private func measureChanges(_ watched: Watched, _ devices: SteppedDevices, _ good: [Int]) throws {
    let follower = try Follower(watched.url)
    defer { follower.end() }
    var fromLook: [Double] = []
    var fromDevice: [Double] = []
    var lost = 0
    // Half of them over each link, where there are both.
    let ends = Array(good.filter { $0 < shm }.suffix(changes / 2) + good.filter { $0 >= shm }.suffix(changes / 2))
    guard !ends.isEmpty else { return }
    let pause = max(0.02, min(1, seconds / Double(2 * ends.count)))
    var turn = 0
    try measure("while \(ends.count) hosts become stuck and alive again", watched, good) {
      let (device, isClosing) = (ends[turn / 2 % ends.count], turn % 2 == 1)
      turn += 1
      let logged = utcSeconds()
      devices.log(device, isClosing: isClosing)
      let event = follower.next(of: "h\(device)", state: isClosing ? "alive" : "stuck", within: period * 2 + 5)
      if let event {
        fromLook.append(event.received - event.at)
        fromDevice.append(event.received - logged)
      } else {
        lost += 1
      }
      let rest = pause - (utcSeconds() - logged)
      if rest > 0 { usleep(useconds_t(rest * 1e6)) }
      return turn < 2 * ends.count
    }
    for (what, times) in [("the look that shows it", fromLook.sorted()), ("the device's finding", fromDevice.sorted())]
    where !times.isEmpty {
      say(
        String(
          format:
            "  a change of state is with who follows /events %.1f ms (median), %.1f ms (worst) after %@; %d changes, %d lost",
          times[times.count / 2] * 1e3, (times.last ?? 0) * 1e3, what, times.count, lost))
    }
  }

  /// Prints how long answers of the page and of programs' paths take.
  private func measureAnswers(_ watched: Watched) throws {
    var parts: [String] = []
    for path in ["/healthz", "/", "/hosts/h0", "/api/v1/fleet", "/metrics"] {
      var times: [Double] = []
      var size = 0
      for _ in 0..<5 {
        let start = monotonicNanoseconds()
        size = try watched.get(path).count
        times.append(Double(monotonicNanoseconds() - start) / 1e6)
      }
      parts.append(String(format: "%@ %.0f ms (%d KiB)", path, times.sorted()[2], size >> 10))
    }
    say("  answers, a process of curl included: \(parts.joined(separator: ", "))")
  }
}
