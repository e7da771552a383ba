import Foundation
import Links
import Memory
import Region
import Remote

/// A link whose reads are counted, those that are made again because what came was torn included.
private final class CountedLink: Link, @unchecked Sendable {
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

/// Prints what it costs to look at quiet devices.
///
/// One thread connects to each of them and looks, again and again, whether all is well: the line of its session. Reads are counted, and
/// the time of a look at all.
func measureLooks(_ image: String?, count: Int, in folder: URL) throws {
  let looks = 100
  let layout = try RegionLayout(slots: 1, requestSize: 4096, responseSize: 4096, findings: 4)
  let devices = try SteppedDevices(count, in: folder, over: mapped(image), hint: nil, layout: layout)
  defer { devices.end() }
  let links = try devices.regions.map {
    CountedLink(try LinkAddress("shm://\($0.path ?? "")").connect(slots: 1, within: .seconds(5)))
  }
  let sessions = try links.map { try Session(link: $0) }
  for session in sessions { _ = try session.line() }
  let before = links.map { (reads: $0.reads, bytes: $0.bytes) }
  var times: [Double] = []
  for _ in 0..<looks {
    let start = monotonicNanoseconds()
    for session in sessions {
      let line = try session.line()
      guard line.state == .running, line.open == 0 else { fatalError("a quiet device has something to tell") }
    }
    times.append(Double(monotonicNanoseconds() - start) / 1e6)
  }
  let reads = zip(links, before).map { $0.reads - $1.reads }.reduce(0, +)
  let bytes = zip(links, before).map { $0.bytes - $1.bytes }.reduce(0, +)
  times.sort()
  let median = times[times.count / 2]
  say(
    "\(count) quiet devices, \(looks) looks: "
      + String(
        format: "%.3f reads a device and look, of %.1f bytes; ", Double(reads) / Double(count * looks),
        Double(bytes) / Double(max(reads, 1)))
      + String(
        format: "a look at all of them %.2f ms (median), %.2f ms (p99), %.2f µs a device", median,
        times[times.count * 99 / 100], median * 1000 / Double(count)))
  for session in sessions { session.close() }
}
