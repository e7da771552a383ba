import CRegion
import Host
import Links
public import Memory

/// The memory of a host read past its device, in clear: over RDMA by the network card alone, over TCP from where it lies.
///
/// Nobody computes anything for it, and nobody proves what arrives: whoever is between reads it, and may alter it. What does not lie in
/// a window is read through the device, and so are digests, by which what was altered on the way is found out.
public final class UnsealedMemory: PhysicalMemory {
  public let memory: RemoteMemory
  public var segments: [MemorySegment] { memory.segments }
  private let windows: [RemotePart]

  /// How long the owner of the link may take to make the windows: he pins all of the memory.
  private static let patience = Duration.seconds(60)

  /// Asks how the memory is read past the device.
  ///
  /// - Throws: ``SessionError`` where this session may not, or nobody offers it.
  public init(_ memory: RemoteMemory) throws(SessionError) {
    self.memory = memory
    guard memory.features.contains(.windows) else { throw SessionError(memory.session.host, .closedMemory) }
    let end = ContinuousClock.now + Self.patience
    while true {
      if let windows = try memory.session.windows() {
        guard !windows.isEmpty else { throw SessionError(memory.session.host, .closedMemory) }
        self.windows = windows
        return
      }
      guard ContinuousClock.now < end else { throw SessionError(memory.session.host, .closedMemory) }
      SystemCall.sleep(nanoseconds: 20_000_000)
    }
  }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    // Of each entry: where it lies whole, else what the device says of it.
    var direct: [(entry: Int, window: RemotePart)] = []
    var others = ReadBatch<PhysicalAddress>()
    var rest: [Int] = []
    for (index, entry) in batch.entries.enumerated() where entry.count > 0 {
      let start = Int(clamping: entry.address.rawValue)
      let window = windows.first {
        $0.range.lowerBound <= start && start < $0.range.upperBound && entry.count <= $0.range.upperBound - start
      }
      if let window {
        direct.append((index, window))
      } else {
        others.add(entry.address, count: entry.count)
        rest.append(index)
      }
    }
    if !rest.isEmpty { memory.read(&others) }
    let entries = batch.entries
    var failure: SessionError?
    batch.fillAll { buffer in
      var faults: [Int: MemoryFault] = [:]
      for (index, entry) in rest.enumerated() {
        if let fault = others.faults[index] {
          faults[entry] = fault
        } else if let bytes = try? others.reader(index).copy() {
          UnsafeMutableRawBufferPointer(rebasing: buffer[entries[entry].offset...]).copyBytes(from: bytes)
        }
      }
      let reads = direct.map { item in
        let entry = entries[item.entry]
        return Exchange.WindowRead(
          part: item.window, address: Int(clamping: entry.address.rawValue),
          bytes: UnsafeMutableRawBufferPointer(rebasing: buffer[entry.offset..<entry.offset + entry.count]))
      }
      do throws(SessionError) {
        try memory.session.read(reads)
      } catch {
        failure = error
      }
      return faults
    }
    if let failure {
      batch.fail(
        MemoryFault(.physical(batch.entries.first?.address ?? PhysicalAddress(0)), .sourceFailed(failure.description)))
    }
  }

  public func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    try memory.digests(of: ranges)
  }

  public func digests(
    ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [[MemoryDigest?]] { try memory.digests(ofPagesIn: ranges, seed) }
}

extension Session {
  /// How this session's link reads the memory past the device, as parts of which offsets are physical addresses; nil where the owner
  /// still makes them.
  ///
  /// Needs the rights `read` and `acquire`.
  func windows() throws(SessionError) -> [RemotePart]? {
    let headSize = MemoryLayout<grass_response>.size + MemoryLayout<grass_windows_answer>.size
    let size = MemoryLayout<grass_memory_window>.size
    var windows: [RemotePart]?
    try perform(1, within: nil) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: GRASS_WINDOWS.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self)
      return (MemoryLayout<grass_request>.size, headSize + Int(GRASS_MAX_WINDOWS) * size)
    } accept: { _, payload throws(SessionError) in
      let response = try self.response(payload, to: GRASS_WINDOWS)
      guard response.count <= GRASS_MAX_WINDOWS, payload.count == headSize + Int(response.count) * size else {
        throw badAnswer("it has a false length")
      }
      let answer = payload.loadUnaligned(
        fromByteOffset: MemoryLayout<grass_response>.size, as: grass_windows_answer.self)
      guard answer.is_ready != 0 else { return }
      var parts: [RemotePart] = []
      for index in 0..<Int(response.count) {
        let window = payload.loadUnaligned(fromByteOffset: headSize + index * size, as: grass_memory_window.self)
        let (end, overflow) = window.start.addingReportingOverflow(window.count)
        guard !overflow, let start = Int(exactly: window.start), let end = Int(exactly: end) else {
          throw badAnswer("a window cannot be")
        }
        parts.append(
          RemotePart(token: RegionToken(high: window.high, low: window.low), range: start..<end, access: .read))
      }
      windows = parts
    }
    return windows
  }

  /// Reads the memory past the device.
  func read(_ reads: [Exchange.WindowRead]) throws(SessionError) {
    let deadline = ContinuousClock.now + timeout
    try read(until: deadline) { exchange throws(SessionError) in try exchange.read(reads, until: deadline) }
  }
}
