import Memory

/// A raw image: each byte lies at its physical address.
enum RawImageLayout {
  static func layout(_ contents: ImageContents) -> ImageLayout {
    var placements: [ImageLayout.Placement] = []
    var position: UInt64 = 0
    for run in contents.runs {
      placements.append(.init(segment: run, offset: run.start.rawValue, position: position))
      position += run.count
    }
    return ImageLayout(
      head: [], placements: placements, end: contents.runs.last.map { $0.start.rawValue &+ $0.count } ?? 0)
  }
}
