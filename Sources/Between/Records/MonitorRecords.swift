/// What the records of one of the monitors that come with GRASS mean.
///
/// Each monitor's records have a header in `monitors/records`, which its source includes and this module imports.
public protocol MonitorRecords: Sendable {
  /// The monitor's name.
  static var monitor: String { get }

  /// Takes a run's records apart, in whatever order its lanes left them. Nil where they are not those of this version's
  /// monitor.
  init?(_ result: MonitorResult)
}

extension MonitorResult {
  /// All records of a kind; nil where one has another size than the struct.
  func records<Raw: BitwiseCopyable, Kind: RawRepresentable<UInt32>>(
    of kind: Kind, as type: Raw.Type
  ) -> [Raw]? {
    var found: [Raw] = []
    for record in records where record.kind == Int(kind.rawValue) {
      guard record.bytes.count == MemoryLayout<Raw>.size else { return nil }
      found.append(record.bytes.withUnsafeBytes { $0.loadUnaligned(as: type) })
    }
    return found
  }

  /// All records of a kind whose struct is followed by up to `most` bytes, with these and what pads them; nil where one is
  /// shorter or longer.
  func records<Raw: BitwiseCopyable, Kind: RawRepresentable<UInt32>>(
    of kind: Kind, as type: Raw.Type, followedBy most: Int
  ) -> [(head: Raw, rest: ArraySlice<UInt8>)]? {
    var found: [(head: Raw, rest: ArraySlice<UInt8>)] = []
    for record in records where record.kind == Int(kind.rawValue) {
      let rest = record.bytes.dropFirst(MemoryLayout<Raw>.size)
      guard record.bytes.count >= MemoryLayout<Raw>.size, rest.count <= (most + 7) & ~7 else { return nil }
      found.append((record.bytes.withUnsafeBytes { $0.loadUnaligned(as: type) }, rest))
    }
    return found
  }
}
