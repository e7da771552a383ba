/// The formats of memory images that can be written.
///
/// `elf` and `lime` say where in physical memory each of their ranges lies; `kdump` has each page compressed by itself; `raw` has
/// each byte at its physical address, with holes for what is not there.
public enum ImageFormat: String, CaseIterable, Sendable {
  case elf, kdump, lime, raw
}

extension ImageFormat {
  /// Whether it has a place for what the acquisition says of itself.
  public var holdsNote: Bool { self == .elf || self == .kdump }

  /// How many runs of memory it takes; nil where there is no such limit.
  var mostRuns: Int? {
    switch self {
    case .elf: ELFLayout.mostRuns
    // As many as GRASS reads.
    case .lime: 1 << 20
    case .kdump, .raw: nil
    }
  }
}
