public import ArgumentParser
public import LinuxKernel

/// Where builds are kept that were proven, as every tool that finds a kernel is told it.
public struct KnownOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where symbols and types of kernels that were proven are kept, to be used again. (default: ~/.cache/grass/builds)",
      valueName: "dir"))
  private var known: String?

  @Flag(help: "Neither keep symbols and types nor use kept ones.")
  private var noKnown = false

  public init() {}

  public mutating func validate() throws {
    if known != nil, noKnown { throw ValidationError("Give --known or --no-known, not both.") }
  }

  /// The folder; nil where nothing is to be kept.
  public var folder: BuildFolder? { noKnown ? nil : known.map { BuildFolder(path: $0) } ?? .standard() }
}
