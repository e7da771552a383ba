/// Page frames beside each other of whose descriptions the same is said.
public struct FrameRun: Hashable, Sendable {
  /// The first one's number.
  public let first: UInt64
  public let count: Int
  /// What is said: a word as `grass_frame.h` has it.
  public let word: UInt32

  public init(first: UInt64, count: Int, word: UInt32) {
    (self.first, self.count, self.word) = (first, count, word)
  }
}

/// A memory beside which somebody looks at descriptions of page frames: a device.
public protocol FrameDescribingMemory: PhysicalMemory {
  /// What the descriptions of frames say.
  ///
  /// - Parameters:
  ///   - first: the first frame.
  ///   - count: how many frames.
  ///   - arguments: what the monitor `frames` is to know of the kernel, from its third argument on.
  /// - Returns: runs in ascending order, without frames whose descriptions could not be read; nil where it cannot be told.
  func frames(from first: UInt64, count: Int, arguments: [UInt64]) -> [FrameRun]?
}
