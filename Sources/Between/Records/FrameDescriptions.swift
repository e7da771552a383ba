import CRecords
public import Memory

/// What the kernel's descriptions of page frames say: what `monitors/frames.c` gives.
public struct FrameDescriptions: MonitorRecords {
  /// In ascending order.
  public let runs: [FrameRun]
  public static let monitor = "frames"

  public init?(_ result: MonitorResult) {
    let most = Int(GRASS_FRAMES_A_CHUNK)
    let size = MemoryLayout<UInt32>.size
    guard let chunks = result.records(of: GRASS_FRAMES_CHUNK, as: grass_frames_chunk.self, followedBy: most * size)
    else {
      return nil
    }
    var runs: [FrameRun] = []
    for chunk in chunks.sorted(by: { $0.head.first < $1.head.first }) {
      guard chunk.head.runs <= most, chunk.rest.count >= Int(chunk.head.runs) * size, chunk.head.first < 1 << 52 else {
        return nil
      }
      var count = 0
      for index in 0..<Int(chunk.head.runs) {
        let said = chunk.rest.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: index * size, as: UInt32.self) }
        let run = FrameRun(first: chunk.head.first + UInt64(count), count: Int(said >> 16), word: said & 0xffff)
        count += run.count
        guard run.count > 0, count <= most else { return nil }
        runs.append(run)
      }
    }
    self.runs = runs
  }
}
