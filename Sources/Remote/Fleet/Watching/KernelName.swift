import LinuxKernel

/// What a host's kernel is called, as it was read last.
public struct KernelName: Hashable, Sendable {
  /// As `uname -r` and `uname -v` print them.
  public var release: String
  public var version: String
  /// Empty where it is not known.
  public var buildID: String

  public init(release: String, version: String, buildID: String) {
    (self.release, self.version, self.buildID) = (release, version, buildID)
  }

  init(_ kernel: Kernel) {
    let banner = kernel.found.banner
    // The banner ends with what uname -v prints.
    let version = banner.firstIndex(of: "#").map { String(banner[$0...].prefix(200)) } ?? ""
    self.init(release: kernel.release, version: version, buildID: kernel.found.buildID ?? "")
  }
}
