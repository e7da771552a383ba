import CMailbox
import CRegion
import Foundation
import Links
import Memory
import Region
import Remote

// What it costs one remote host to watch a thousand quiet devices. Usage: fleet-bench [IMAGE] [DEVICES]
// One thread steps that many small regions over one guest's image, as as many devices would; another connects to each of them
// and looks, again and again, whether all is well: the line of its session. Reads are counted, and the time of a look at all.

let arguments = CommandLine.arguments
let count = arguments.count > 2 ? Int(arguments[2]) ?? 1000 : 1000
let looks = 100

// A descriptor for each region, and some for each session.
var limit = rlimit()
getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
limit.rlim_cur = limit.rlim_max
setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)

let folder = URL(fileURLWithPath: "/dev/shm/grass-fleet-\(getpid())")
try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(at: folder) }

/// Where the image's bytes lie; without one, a MiB of nothing.
let image: UnsafeRawBufferPointer
if arguments.count > 1, !arguments[1].isEmpty {
  let file = open(arguments[1], O_RDONLY)
  var status = stat()
  guard file >= 0, fstat(file, &status) == 0,
    let base = mmap(nil, Int(status.st_size), PROT_READ, MAP_SHARED, file, 0), base != MAP_FAILED
  else { fatalError("\(arguments[1]) cannot be mapped") }
  image = UnsafeRawBufferPointer(start: base, count: Int(status.st_size))
} else {
  image = UnsafeRawBufferPointer(UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096))
}

func now() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A link whose reads are counted, those that are made again because what came was torn included.
final class CountedLink: Link, @unchecked Sendable {
  // Used by one thread.
  private let link: any Link
  private(set) var reads = 0
  private(set) var bytes = 0

  init(_ link: any Link) { self.link = link }

  var address: String { link.address }
  var grant: LinkGrant { link.grant }
  var polling: LinkPolling { link.polling }
  func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer { try link.makeBuffer(byteCount: byteCount) }
  func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 { try link.postWrite(buffer, range, to: part, offset: offset, fenced: fenced) }
  func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    reads += 1
    bytes += range.count
    return try link.postRead(into: buffer, range, from: part, offset: offset, awaiting: awaiting)
  }
  func sums(of number: UInt64) -> InlineArray<2, UInt64>? { link.sums(of: number) }
  func poll() throws(LinkError) -> UInt64 { try link.poll() }
  func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    try link.wait(for: number, until: deadline)
  }
  func close() { link.close() }
}

/// As many devices as there are regions, stepped in turn by one thread.
final class Fleet: @unchecked Sendable {
  // Made before the thread begins, and the thread's alone from then on, but for the flag, which is one word.
  let regions: [SharedRegion]
  private let mailboxes: UnsafeMutablePointer<grass_mailbox>
  private let segments: UnsafeMutablePointer<grass_mapped_segment>
  private let scratch: UnsafeMutableRawPointer
  private let isEnding: UnsafeMutablePointer<UInt64>
  private let isEnded = DispatchSemaphore(value: 0)

  init(_ count: Int, in folder: URL, over image: UnsafeRawBufferPointer) throws {
    let layout = try RegionLayout(slots: 1, requestSize: 4096, responseSize: 4096, findings: 4)
    regions = try (0..<count).map { try SharedRegion(path: folder.path + "/\($0)", layout: layout) }
    mailboxes = .allocate(capacity: count)
    mailboxes.initialize(repeating: grass_mailbox(), count: count)
    segments = .allocate(capacity: 1)
    segments.initialize(
      to: grass_mapped_segment(
        segment: grass_segment(start: 0, count: UInt64(image.count)),
        bytes: image.baseAddress?.assumingMemoryBound(to: UInt8.self), lost: nil))
    scratch = .allocate(byteCount: layout.requestSize, alignment: 64)
    isEnding = .allocate(capacity: 1)
    isEnding.initialize(to: 0)
    for (index, region) in regions.enumerated() {
      var header = layout.header
      guard grass_mailbox_start(mailboxes + index, region.base, &header, segments, 1, scratch, now()) else {
        fatalError("region \(index) is broken")
      }
    }
    Thread.detachNewThread { [self] in
      while grass_load(isEnding) == 0 {
        let time = now()
        for index in 0..<count { _ = grass_mailbox_step(mailboxes + index, time) }
        usleep(200)
      }
      isEnded.signal()
    }
  }

  func end() {
    grass_store(isEnding, 1)
    isEnded.wait()
  }
}

let fleet = try Fleet(count, in: folder, over: image)
let links = try fleet.regions.map {
  CountedLink(try LinkAddress("shm://\($0.path ?? "")").connect(slots: 1, within: .seconds(5)))
}
let sessions = try links.map { try Session(link: $0) }
for session in sessions { _ = try session.line() }
let before = links.map { (reads: $0.reads, bytes: $0.bytes) }
var times: [Double] = []
for _ in 0..<looks {
  let start = now()
  for session in sessions {
    let line = try session.line()
    guard line.state == .running, line.open == 0 else { fatalError("a quiet device has something to tell") }
  }
  times.append(Double(now() - start) / 1e6)
}
let reads = zip(links, before).map { $0.reads - $1.reads }.reduce(0, +)
let bytes = zip(links, before).map { $0.bytes - $1.bytes }.reduce(0, +)
times.sort()
let median = times[times.count / 2]
print(
  "\(count) quiet devices, \(looks) looks: "
    + String(
      format: "%.3f reads a device and look, of %.1f bytes; ", Double(reads) / Double(count * looks),
      Double(bytes) / Double(max(reads, 1)))
    + String(
      format: "a look at all of them %.2f ms (median), %.2f ms (p99), %.2f µs a device", median,
      times[times.count * 99 / 100], median * 1000 / Double(count)))
for session in sessions { session.close() }
fleet.end()
