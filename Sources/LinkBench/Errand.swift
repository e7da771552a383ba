import CRegion
import Memory
import Remote

/// What a monitor is asked for, so that its time can be taken: one request and its answer, or several where the size
/// needs more than one slot.
struct Errand {
  let what: Figure.What
  /// Of the request or of the result, in bytes, by slot.
  let pieces: [Int]
  /// The memory that results are read from.
  let source: MemorySegment
  /// Where in it, in bytes.
  private var shift = 0

  static let requestHead = MemoryLayout<grass_request>.size
  static let resultHead = MemoryLayout<grass_response>.size + MemoryLayout<grass_range_status>.size
  /// Asks for nothing that a monitor knows: it takes the request in, checks it whole, and refuses it in a few bytes.
  private static let unknownOperation = UInt32.max

  /// Plans an errand of `byteCount` bytes.
  ///
  /// `limits` are the longest payloads that a slot takes. What is long enough is spread over `slots` slots, in pieces of what
  /// `pieceSize` says for an even share.
  init(
    _ what: Figure.What, byteCount: Int, source: MemorySegment, limits: (request: Int, response: Int), slots: Int,
    pieceSize: (Int) -> Int = { $0 }
  ) {
    self.what = what
    self.source = source
    let most = what == .result ? limits.response - Self.resultHead : limits.request - Self.requestHead
    let size = slots == 1 ? most : min(pieceSize(byteCount / slots / 8 * 8), most)
    pieces =
      byteCount == 0
      ? [0] : stride(from: 0, to: byteCount, by: size).map { min(size, byteCount - $0) }
  }

  /// Goes on to the next bytes of the source: what is watched lies in no processor's cache.
  mutating func advance() {
    let count = pieces.reduce(0, +)
    let room = Int(clamping: source.count) - count
    guard what == .result, room > 0 else { return }
    shift = shift + count <= room ? shift + count : 0
  }

  /// Stores the payload of a piece's request.
  ///
  /// - Returns: its length, and that of the answer.
  func prepare(_ piece: Int, _ payload: UnsafeMutableRawBufferPointer) -> (request: Int, response: Int) {
    var request = grass_request(operation: Self.unknownOperation, count: 0, format: 0, reserved: 0)
    let count = pieces[piece]
    switch what {
    case .heartbeat, .ping:
      request.operation = GRASS_HEARTBEAT.rawValue
      payload.storeBytes(of: request, as: grass_request.self)
      return (
        Self.requestHead, MemoryLayout<grass_response>.size + MemoryLayout<grass_heartbeat_answer>.size
      )
    case .request:
      payload.storeBytes(of: request, as: grass_request.self)
      // Stored anew each time, as the bytes of a request that is meant would be.
      UnsafeMutableRawBufferPointer(rebasing: payload[Self.requestHead..<Self.requestHead + count])
        .initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: piece))
      return (Self.requestHead + count, MemoryLayout<grass_response>.size)
    case .result:
      request.operation = GRASS_GATHER.rawValue
      request.count = 1
      payload.storeBytes(of: request, as: grass_request.self)
      let start = shift + pieces[..<piece].reduce(0, +)
      payload.storeBytes(
        of: grass_range(
          address: source.start.rawValue + UInt64(start), root: 0, length: UInt32(count), flags: 0),
        toByteOffset: Self.requestHead, as: grass_range.self)
      return (Self.requestHead + MemoryLayout<grass_range>.size, Self.resultHead + count)
    }
  }

  /// Whether this is the answer to a piece's request.
  func isAnswered(_ piece: Int, by payload: UnsafeRawBufferPointer) -> Bool {
    guard payload.count >= MemoryLayout<grass_response>.size else { return false }
    let response = payload.loadUnaligned(as: grass_response.self)
    switch what {
    case .heartbeat, .ping: return response.status == GRASS_OK.rawValue
    case .request: return response.status == GRASS_BAD_OPERATION.rawValue
    case .result: return response.status == GRASS_OK.rawValue && payload.count == Self.resultHead + pieces[piece]
    }
  }
}
