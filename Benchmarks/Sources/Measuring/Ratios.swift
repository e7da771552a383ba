import Foundation

/// How many times a peer's time ours is, for `Benchmarks/check`: a line of a file for each.
///
/// A line has three fields with tabs between them: what was measured, the peer, the ratio. Less is better in all of them: of
/// paces, the peer's is divided by ours.
public enum Ratios {
  /// Appends a ratio to the file that `GRASS_RATIOS` names; does nothing where it names none.
  ///
  /// A ratio that is no positive number is left out: its peer gave no figure.
  ///
  /// - Parameters:
  ///   - what: its name in `Benchmarks/thresholds.tsv`.
  ///   - peer: what it is compared with, named there, too.
  ///   - ratio: our time divided by the peer's.
  /// - Throws: what Foundation throws where the file cannot be written.
  public static func note(_ what: String, peer: String, _ ratio: Double) throws {
    guard ratio.isFinite, ratio > 0, let path = ProcessInfo.processInfo.environment["GRASS_RATIOS"] else { return }
    if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(fileURLWithPath: path)) }
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    defer { try? file.close() }
    try file.seekToEnd()
    try file.write(contentsOf: Data("\(what)\t\(peer)\t\(ratio)\n".utf8))
  }
}
