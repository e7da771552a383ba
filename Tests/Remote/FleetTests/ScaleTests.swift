import CMailbox
import CRegion
import Foundation
import Glibc
import Host
import LinuxKernel
import Memory
import Region
import Scratch
import Testing

@testable import Fleet

/// As many devices as there are regions of four small slots, over one image of a guest's memory, stepped in turn by one thread.
private final class Devices: @unchecked Sendable {
  // Made before the thread begins, and the thread's alone from then on, but for the flag.
  let regions: [SharedRegion]
  private let mailboxes: UnsafeMutablePointer<grass_mailbox>
  private let segments: UnsafeMutablePointer<grass_mapped_segment>
  private let scratch: UnsafeMutableRawPointer
  private let isEnding = Locked(false)
  private var thread: DedicatedThread?

  init(_ count: Int, in folder: String, image path: String, hint: PhysicalAddress) throws {
    let layout = try RegionLayout(slots: 4, requestSize: 16384, responseSize: 65536, findings: 16, words: 0)
    regions = try (0..<count).map { try SharedRegion(path: "\(folder)/\($0)", layout: layout) }
    let file = open(path, O_RDONLY | O_CLOEXEC)
    let size = lseek(file, 0, SEEK_END)
    guard file >= 0, size > 0, let base = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), base != MAP_FAILED
    else { throw CocoaError(.fileReadNoSuchFile) }
    close(file)
    segments = .allocate(capacity: 1)
    segments.initialize(
      to: grass_mapped_segment(
        segment: grass_segment(start: 0, count: UInt64(size)),
        bytes: base.assumingMemoryBound(to: UInt8.self), lost: nil))
    scratch = .allocate(byteCount: layout.requestSize, alignment: 64)
    mailboxes = .allocate(capacity: count)
    mailboxes.initialize(repeating: grass_mailbox(), count: count)
    for (index, region) in regions.enumerated() {
      var header = layout.header
      guard
        grass_mailbox_start(
          mailboxes + index, region.base, &header, segments, 1, scratch, SystemCall.monotonicNanoseconds())
      else { throw CocoaError(.fileReadCorruptFile) }
      grass_mailbox_set_kernel_hint(mailboxes + index, hint.rawValue)
    }
    thread = try DedicatedThread(name: "devices") { [self] in
      while !isEnding.withLock({ $0 }) {
        let now = SystemCall.monotonicNanoseconds()
        var work = 0
        for index in 0..<count where grass_mailbox_step(mailboxes + index, now) != 0 { work += 1 }
        if work == 0 { usleep(500) }
      }
    }
  }

  func stop() {
    isEnding.withLock { $0 = true }
    thread?.join()
    thread = nil
  }
}

/// What a fleet costs, measured where somebody asks for it: `GRASS_FLEET_SCALE=IMAGE,HOSTS,SECONDS`, where an image is the raw memory
/// of a guest.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["GRASS_FLEET_SCALE"] != nil)) struct ScaleTests {
  /// Hosts are looked at each second and checked with all detectors every ten minutes.
  @Test func thousandsOfHostsCostLessThanACore() throws {
    let wanted = (ProcessInfo.processInfo.environment["GRASS_FLEET_SCALE"] ?? "").split(separator: ",").map(String.init)
    let (image, count) = (wanted[0], wanted.count > 1 ? Int(wanted[1]) ?? 2000 : 2000)
    let seconds = wanted.count > 2 ? Double(wanted[2]) ?? 60 : 60
    let every = wanted.count > 3 ? Double(wanted[3]) ?? 600 : 600
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    let scratch = try Scratch()
    let folder = "/dev/shm/grass-scale-\(getpid())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let kernel = try Kernel.open(try MemoryImage.open(image))
    let devices = try Devices(count, in: folder, image: image, hint: kernel.found.coreInfoAddress)
    defer { devices.stop() }
    let hosts = (0..<count).map { "  - {name: h\($0), url: \"shm://\(folder)/\($0)\"}" }
    let file = try scratch.write(
      "listen: 127.0.0.1:0\ndetectors_every: \(every)\nhosts:\n\(hosts.joined(separator: "\n"))\n", to: "fleet.yaml")
    let service = Process()
    service.executableURL = ServiceTests.tools.appendingPathComponent("grass-fleet")
    service.arguments = ["run", file]
    let output = Pipe()
    service.standardOutput = output
    service.standardError = FileHandle.nullDevice
    try service.run()
    defer {
      service.terminate()
      service.waitUntilExit()
    }
    let ready = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    let url = String(try #require(ready.split(separator: "\n").first { $0.hasPrefix("ready ") }).dropFirst(6))
    func metrics() throws -> (alive: Int, checks: Int, failed: Int, looks: Double, cpu: Double, memory: Double) {
      let curl = Process()
      curl.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      curl.arguments = ["curl", "--silent", "--max-time", "60", "\(url)/metrics"]
      let pipe = Pipe()
      curl.standardOutput = pipe
      try curl.run()
      let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      curl.waitUntilExit()
      var result = (alive: 0, checks: 0, failed: 0, looks: 0.0, cpu: 0.0, memory: 0.0)
      for line in text.split(separator: "\n") where !line.hasPrefix("#") {
        guard let end = line.lastIndex(of: " "), let value = Double(line[line.index(after: end)...]) else { continue }
        if line.contains("state=\"alive\"") { result.alive += Int(value) }
        if line.hasPrefix("grass_checks_total") { result.checks += Int(value) }
        if line.hasPrefix("grass_check_success"), value == 0 { result.failed += 1 }
        if line.hasPrefix("grass_fleet_looks_total ") { result.looks = value }
        if line.hasPrefix("process_cpu_seconds_total ") { result.cpu = value }
        if line.hasPrefix("process_resident_memory_bytes ") { result.memory = value }
      }
      return result
    }
    let start = ContinuousClock.now
    while try metrics().alive < count, ContinuousClock.now - start < .seconds(120) { usleep(500_000) }
    let (before, began) = (try metrics(), ContinuousClock.now)
    #expect(before.alive == count)
    usleep(useconds_t(seconds * 1e6))
    let (after, took) = (try metrics(), (ContinuousClock.now - began) / .seconds(1))
    let checks = after.checks - before.checks
    print(
      "fleet scale: \(count) hosts, \(Int(took)) s: \((after.cpu - before.cpu) / took) of a core, "
        + "\((after.looks - before.looks) / took) looks and \(Double(checks) / took) checks a second, "
        + "\(Int(after.memory) >> 20) MiB resident, \(after.failed) hosts whose check was not whole")
    #expect(after.alive == count && after.failed == 0)
  }
}
