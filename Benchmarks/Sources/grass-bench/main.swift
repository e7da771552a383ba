import Foundation
import KernelViews
import Lab
import LinkBench
import Links
import Measuring
import Memory
import Remote

// The first figures of docs/figures.md, all in one run on one machine. Usage: grass-bench BIN [KERNEL]
// BIN is the folder with the release builds of the tools.

guard CommandLine.arguments.count >= 2 else { throw BenchmarkError("usage: grass-bench BIN [KERNEL]") }
let bin = URL(fileURLWithPath: CommandLine.arguments[1])
let kernelName = CommandLine.arguments.count > 2 ? CommandLine.arguments[2] : "6.1"
let heartbeats = 10_000

func progress(_ text: String) { FileHandle.standardError.write(Data("bench: \(text)\n".utf8)) }
func row(_ cells: String...) { FileHandle.standardOutput.write(Data("| \(cells.joined(separator: " | ")) |\n".utf8)) }

func sessions(_ daemon: Daemon) throws -> [(name: String, session: Session)] {
  try daemon.urls.map { url in
    (url.hasPrefix("shm") ? "shared memory" : "TCP on loopback", try Session(to: LinkAddress(url)))
  }
}

/// `ps` over every link of a monitor, once the kernel is known.
func measureRemote(_ daemon: Daemon) throws {
  for (name, session) in try sessions(daemon) {
    let memory = try RemoteMemory(session: session)
    let kernel = try Kernel(memory: memory, hint: memory.kernelHint)
    let count = try kernel.tasks(TaskQuery(includesThreads: true)).tasks.count
    let before = session.roundTrips
    _ = try kernel.tasks(TaskQuery(includesThreads: true))
    let trips = session.roundTrips - before
    let samples = try Samples.measure(100) { _ = try kernel.tasks(TaskQuery(includesThreads: true)) }
    row(
      "`ps` of \(count) tasks over \(name)", "\(time(samples.median)), \(trips) round trips",
      "at most 12 round trips for 1,000 tasks")
    session.close()
  }
}

if kernelName == "--memory" {
  // Only the views of one image, for work on them.
  let kernel = try Kernel.open(try MemoryImage.open(CommandLine.arguments[3]))
  let query = TaskQuery(includesThreads: true)
  let count = try kernel.tasks(query).tasks.count
  row("`ps` of \(count) tasks", time(try Samples.measure(2000) { _ = try kernel.tasks(query) }.percentile(10)))
  row("`dmesg`", time(try Samples.measure(500) { _ = try kernel.log() }.percentile(10)))
  row("`info`", time(try Samples.measure(500) { _ = try kernel.host() }.percentile(10)))
  exit(0)
}

row("what", "figure", "goal or peer")
row("---", "---", "---")

progress("booting a guest with 1 GiB and about 300 tasks")
let guest = try Guest(GuestOptions(kernel: kernelName, memory: 1024, sleepers: 206))
let image = FileManager.default.temporaryDirectory.appendingPathComponent("grass-bench-\(UUID().uuidString).raw")
defer { try? FileManager.default.removeItem(at: image) }
try guest.dump(to: image.path, format: .raw)

progress("from a raw image, a new process each time")
var costs: [Cost] = []
for _ in 0..<10 {
  costs.append(try Cost.run(bin.appendingPathComponent("grassctl").path, ["ps", "--memory", image.path]))
}
row(
  "discovery and `ps` from a 1 GiB image, whole process",
  "\(time(Samples(microseconds: costs.map(\.microseconds)).median)), \((costs.map(\.residentKiB).max() ?? 0) / 1024) MB resident",
  "under 150 ms and 200 MB")
try FileManager.default.removeItem(at: image)

progress("from live memory")
try guest.pause()
let live = try Kernel.open(try MemoryImage.open(guest.memoryPath))
let opening = try Samples.measure(10) { _ = try Kernel.open(try MemoryImage.open(guest.memoryPath)) }
row("discovery alone, live", time(opening.median), "")
let query = TaskQuery(includesThreads: true)
let tasks = try live.tasks(query).tasks.count
let views = try Samples.measure(200) { _ = try live.tasks(query) }
row("`ps` of \(tasks) tasks on a live guest, once discovered", time(views.median), "under 1 ms for 300")
row("`dmesg`, once discovered", time(try Samples.measure(100) { _ = try live.log() }.median), "")

progress("over each link")
let daemon = try Daemon(bin: bin, memory: guest.memoryPath)
try measureRemote(daemon)

progress("\(heartbeats) heartbeats over each link, beside ping and a bare TCP ping-pong")
let blocking = try TCPPingPong.run(count: heartbeats, polls: false)
let polling = try TCPPingPong.run(count: heartbeats, polls: true)
for (name, session) in try sessions(daemon) {
  let samples = try Samples.measure(heartbeats, warmUp: 1000) { try session.heartbeat() }
  row(
    "heartbeat over \(name), \(heartbeats) times",
    "median \(time(samples.median)), mean \(time(samples.mean)), 99% \(time(samples.percentile(99)))",
    name == "shared memory"
      ? "under 2 µs"
      : "\(digits(samples.median / polling.median, 2)) times the bare ping-pong that polls, at most 1.5")
  if name != "shared memory" {
    try Ratios.note("heartbeat over TCP", peer: "bare ping-pong that polls", samples.median / polling.median)
  }
  session.close()
}
for (name, samples) in [("polling as the device does", polling), ("with blocking sockets", blocking)] {
  row(
    "bare TCP ping-pong, 64 bytes, \(name)",
    "median \(time(samples.median)), mean \(time(samples.mean)), 99% \(time(samples.percentile(99)))", "peer")
}
if let ping = Peers.ping(count: 1000) {
  row("ping 127.0.0.1", "mean \(time(ping.mean)), deviation \(time(ping.deviation))", "peer")
}
daemon.stop()
guest.shutDown()

progress("booting a guest with about 1,000 tasks")
let large = try Guest(GuestOptions(kernel: kernelName, memory: 1024, sleepers: 906))
try large.pause()
let largeDaemon = try Daemon(bin: bin, memory: large.memoryPath)
try measureRemote(largeDaemon)
largeDaemon.stop()
large.shutDown()
