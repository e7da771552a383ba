public import Memory

/// How much of an image is of one instant, and what is not.
public struct ImageConsistency: Hashable, Sendable {
  /// How often it was held against the memory.
  public var rounds: Int
  /// The instant, in milliseconds since 1970.
  public var instant: UInt64
  /// How many pages are of it, and how many are not known to be.
  public var settled, movedCount: UInt64
  /// The frames of the latter, in ascending order, with the times between which they changed.
  public var moved: [MovedFrames.Run]

  package init(
    rounds: Int = 0, instant: UInt64 = 0, settled: UInt64 = 0, movedCount: UInt64 = 0, moved: [MovedFrames.Run] = []
  ) {
    (self.rounds, self.instant, self.settled) = (rounds, instant, settled)
    (self.movedCount, self.moved) = (movedCount, moved)
  }

  /// Whether all of the image is of the instant.
  public var isWhole: Bool { movedCount == 0 }

  /// The instant as a date and time of UTC: `2027-01-31T12:30:00.123Z`.
  public var time: String { Acquisition.text(instant) }

  /// The lines of an image's note that say so.
  package var note: [String] {
    ["ROUNDS=\(rounds)", "INSTANT=\(time)", "PAGES_OF_THE_INSTANT=\(settled)", "PAGES_MOVED=\(movedCount)"]
  }

  /// The same in `most` runs at most, so that what lists them has a limit: where there are more, the frames between those that lie
  /// next to each other count as moved, too.
  package func joined(most: Int) -> ImageConsistency {
    var (result, gap) = (self, UInt64(1))
    while result.moved.count > max(1, most) {
      var runs: [MovedFrames.Run] = []
      for run in result.moved {
        guard let last = runs.last, run.frames.lowerBound - last.frames.upperBound < gap else {
          runs.append(run)
          continue
        }
        let between = min(result.settled, run.frames.lowerBound - last.frames.upperBound)
        result.settled -= between
        result.movedCount += between
        runs[runs.count - 1] = MovedFrames.Run(
          last.frames.lowerBound..<run.frames.upperBound, copied: min(last.copied, run.copied),
          changed: max(last.changed, run.changed))
      }
      result.moved = runs
      gap = gap.multipliedReportingOverflow(by: 2).overflow ? .max : gap * 2
    }
    return result
  }
}
