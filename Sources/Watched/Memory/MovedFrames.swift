import Synchronization

/// Page frames that changed while an image was taken of them, so that what the image has of them need not be of the one instant of
/// which all others are; and which of them were read since.
///
/// Their record in an image:
///
/// ```
/// 47 52 41 53 53 4d 4f 56   "GRASSMOV"
/// u32 version = 1, u32 number of runs
/// each run: u64 first frame, u64 number of frames, u64 when they were copied, u64 when they were found to be others
/// ```
/// Times are milliseconds since 1970, UTC; runs are in ascending order and do not overlap.
public final class MovedFrames: Sendable {
  public struct Run: Hashable, Sendable {
    public var frames: Range<UInt64>
    /// When the image's bytes of them had been read, and when they were found to be others, in milliseconds since 1970.
    public var copied, changed: UInt64

    public init(_ frames: Range<UInt64>, copied: UInt64, changed: UInt64) {
      (self.frames, self.copied, self.changed) = (frames, copied, changed)
    }
  }

  public let runs: [Run]
  private let read = Mutex<Set<UInt64>>([])

  private static let magic = Array("GRASSMOV".utf8)
  private static let headSize = 16, runSize = 32
  private static let frameSize: UInt64 = 4096
  /// So many of those that were read are remembered.
  private static let mostRead = 1 << 16
  private static let longRead = 64 << 10

  /// `runs` are in ascending order and do not overlap.
  public init(_ runs: [Run]) { self.runs = runs }

  /// What a record says; nil for what is none.
  ///
  /// Cost: one pass over it.
  public init?(record: [UInt8]) {
    let reader = ByteReader(record.span.bytes)
    do throws(MemoryFault) {
      guard record.starts(with: Self.magic), try reader.u32(8) == 1 else { return nil }
      let count = Int(try reader.u32(12))
      guard record.count == Self.headSize + count * Self.runSize else { return nil }
      var runs: [Run] = []
      for index in 0..<count {
        let place = Self.headSize + index * Self.runSize
        let (first, frames) = (try reader.u64(place), try reader.u64(place + 8))
        let (end, overflows) = first.addingReportingOverflow(frames)
        guard !overflows, frames > 0, first >= runs.last?.frames.upperBound ?? 0, end <= .max / Self.frameSize else {
          return nil
        }
        runs.append(Run(first..<end, copied: try reader.u64(place + 16), changed: try reader.u64(place + 24)))
      }
      self.runs = runs
    } catch {
      return nil
    }
  }

  public var record: [UInt8] {
    var bytes = Self.magic
    func append<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
    }
    append(UInt32(1))
    append(UInt32(clamping: runs.count))
    for run in runs {
      for number in [run.frames.lowerBound, UInt64(run.frames.count), run.copied, run.changed] { append(number) }
    }
    return bytes
  }

  /// How many frames they are.
  public var count: Int { runs.reduce(0) { $0 + $1.frames.count } }

  /// Those that were read so far, in ascending order, at most 65,536.
  public var readFrames: [UInt64] { read.withLock { $0.sorted() } }

  /// Remembers which of them bytes lie in that are read; not of long reads, by which memory is searched rather than followed.
  ///
  /// Cost: a binary search, and a step for each frame that is one of them.
  package func note(_ address: PhysicalAddress, count: Int) {
    let first = address.rawValue / Self.frameSize
    guard count > 0, count < Self.longRead, let last = runs.last, first < last.frames.upperBound else { return }
    let end = (address.rawValue &+ UInt64(count) &- 1) / Self.frameSize
    let start = runs.partitioningIndex { $0.frames.upperBound > first }
    guard start < runs.count, runs[start].frames.lowerBound <= end else { return }
    read.withLock { read in
      for run in runs[start...] {
        guard run.frames.lowerBound <= end, read.count < Self.mostRead else { return }
        for frame in max(first, run.frames.lowerBound)...min(end, run.frames.upperBound - 1) {
          guard read.count < Self.mostRead else { return }
          read.insert(frame)
        }
      }
    }
  }
}
