import CRegion
import Devices
import Links
import Memory
import Paging
import Records
import Region
import Remote
import Samples

/// A link to a monitor that answers what the fuzzer wants, at once.
///
/// Used by one thread only.
private final class FalseLink: Link, @unchecked Sendable {
  let address = "fuzz"
  let grant: LinkGrant
  let polling: LinkPolling
  private let region: LinkBuffer
  private let layout: RegionLayout
  private var input: FuzzInput
  private var posted: UInt64 = 0
  private var reads = 0

  /// A link whose region has `header` laid over its own, where that is not empty.
  init(_ input: FuzzInput, layout: RegionLayout, header: [UInt8], polling: LinkPolling) {
    self.input = input
    self.layout = layout
    self.polling = polling
    let region = LinkBuffer(byteCount: layout.regionSize)
    withUnsafeBytes(of: layout.header) { region.store([UInt8]($0), at: 0) }
    region.store(Array(header.prefix(MemoryLayout<grass_header>.size)), at: 0)
    self.region = region
    let token = RegionToken(high: 1, low: 2)
    let slots = 0..<layout.slotCount
    grant = LinkGrant(
      slots: slots, requests: RemotePart(token: token, range: layout.requests(of: slots), access: .write),
      responses: RemotePart(token: token, range: layout.responsesPart, access: .read),
      scratch: RemotePart(token: token, range: 0..<0, access: []))
  }

  func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer { LinkBuffer(byteCount: byteCount) }

  private func check(_ range: Range<Int>, _ part: Range<Int>, _ offset: Int, _ buffer: LinkBuffer) {
    require(
      range.lowerBound >= 0 && range.upperBound <= buffer.byteCount && offset >= part.lowerBound
        && offset + range.count <= part.upperBound, "an access outside its part: \(offset), \(range)")
  }

  /// Takes a request, and puts the answer that the input has for it into the slot.
  func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 {
    check(range, grant.requests.range, offset, buffer)
    region.store(buffer.load(range), at: offset)
    let slot = (offset - layout.requestOffset(slot: 0)) / layout.requestSize
    answer(slot: slot, sequence: buffer.withBytes(range) { $0.loadUnaligned(as: UInt64.self) })
    posted += 1
    return posted
  }

  private func answer(slot: Int, sequence: UInt64) {
    let start = layout.responseOffset(slot: slot)
    let how = input.next(UInt8.self)
    let capacity = Int(grass_record_capacity(UInt64(layout.responseSize)))
    let payload = input.bytes(min(Int(input.next(UInt16.self)), capacity))
    region.withBytes(start..<start + layout.responseSize) { record in
      UnsafeMutableRawBufferPointer(rebasing: record[MemoryLayout<grass_record>.size...]).copyBytes(from: payload)
      grass_record_seal(record.baseAddress, sequence &+ UInt64(how >> 7), UInt64(payload.count))
      // Damaged in up to seven places.
      for _ in 0..<(how & 7) {
        let place = Int(input.next(UInt16.self)) % min(record.count, 256)
        record[place] ^= input.next(UInt8.self)
      }
    }
  }

  func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    check(range, grant.responses.range, offset, buffer)
    reads += 1
    // A monitor that does not stop to answer wrongly: the link ends before the clock does.
    guard reads < 64 else { throw LinkError(address, .protocolViolation("the fuzzer has no more")) }
    buffer.store(region.load(offset..<offset + range.count), at: range.lowerBound)
    posted += 1
    return posted
  }

  func poll() throws(LinkError) -> UInt64 { posted }
  func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    require(number <= posted, "a wait for operation \(number) of \(posted)")
  }
  func close() {}
}

extension FuzzTarget {
  /// A session with a monitor whose region holds what the input says.
  ///
  /// The first byte: 1 for a header of the input's, 2 for a link that waits, 4 for a beacon of the input's.
  static let remote = FuzzTarget(
    name: "remote",
    seeds: {
      func answer(_ how: UInt8, _ payload: [UInt8]) -> [UInt8] { [how] + bytes(UInt16(payload.count)) + payload }
      let heartbeat = answer(0, bytes(UInt32(1), 0, 0, 0) + bytes(UInt64(5), UInt64(6)))
      let info = answer(
        0,
        bytes(UInt32(2), 0, 2, 0) + bytes(UInt64(4), 1, 0x1000, 3, 4, 5, 6, 0)
          + bytes(UInt64(0), 0x2000, 0x3000, 0x1000))
      func gather(_ fault: UInt32) -> [UInt8] {
        var payload = bytes(UInt32(3), 0, 4, 0)
        for count in 0..<4 {
          payload += bytes(count == 0 ? fault : 0, UInt32(2)) + bytes(UInt64(0xfee1), UInt64(0x1000))
        }
        return answer(0, payload + [UInt8](repeating: 7, count: 8 + 100 + 1 + 300))
      }
      func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }
      func run(_ size: UInt32) -> [UInt8] {
        answer(
          0,
          bytes(UInt32(4), 0, 1, 0) + bytes(UInt64(9), UInt64(size + 8)) + bytes(UInt32(1), UInt32(2))
            + bytes(UInt32(1), size) + zeros(Int(size)) + zeros(32))
      }
      let damaged = answer(3, [1, 0, 0, 0]) + [0, 0, 1, 16, 0, 1, 40, 0, 0xff]
      return [
        [0] + heartbeat + info + gather(0), [2] + heartbeat + info + gather(3), [0] + damaged + info + gather(9),
        [0] + answer(0, bytes(UInt32(1), 6, 0, 0)) + answer(0x80, []) + gather(1),
        [0] + heartbeat + info + gather(0) + answer(0, bytes(UInt32(5), 0, 1, 0) + Array("ps".utf8) + zeros(30))
          + run(64)
          + run(16),
        [1] + [UInt8](repeating: 0, count: 128), [4] + bytes(UInt64(1), 2, 1, 0, 7, 0, 0, 1) + heartbeat,
      ]
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      let how = input.next(UInt8.self)
      guard let layout = try? RegionLayout(slots: 2, requestSize: 512, responseSize: 1024) else {
        fatalError("the layout")
      }
      let header = how & 1 != 0 ? input.bytes(MemoryLayout<grass_header>.size) : []
      let link = FalseLink(input, layout: layout, header: header, polling: how & 2 != 0 ? .wholeOnce : .head)
      guard let session = try? Session(link: link, timeout: .milliseconds(20)) else { return }
      if how & 4 != 0 { _ = try? session.beacon() }
      _ = try? session.heartbeat()
      guard let memory = try? RemoteMemory(session: session) else { return }
      var end: UInt64 = 0
      for segment in memory.segments {
        require(segment.start.rawValue >= end, "segments overlap: \(memory.segments)")
        end = segment.start.rawValue &+ segment.count
      }
      var batch = ReadBatch<MemoryLocation>()
      batch.add(.physical(PhysicalAddress(0x1000)), count: 8)
      batch.add(.virtual(VirtualAddress(0x2000), root: PhysicalAddress(0x3000)), count: 100)
      batch.add(.physical(PhysicalAddress(0x1fff)), count: 1)
      // Longer than one answer.
      batch.add(.physical(PhysicalAddress(0)), count: 3000)
      memory.read(&batch, format: .x86_64FourLevel)
      for index in batch.entries.indices where batch.succeeded(index) {
        require((try? batch.reader(index).count) == batch.entries[index].count, "entry \(index) is not whole")
      }
      _ = try? session.monitors()
      var last: LifeSigns?
      for _ in 0..<2 {
        guard let run = try? session.run("ps") else { return }
        let result = run.result
        require(result.faults.count <= run.faulted, "more faults than lanes that failed")
        _ = (ThreadList(result), CPUUsage(result), MemoryUsage(result), PanicState(result))
        if let signs = LifeSigns(result) {
          _ = signs.verdict(since: last ?? signs)
          last = signs
        }
      }
    })
}
