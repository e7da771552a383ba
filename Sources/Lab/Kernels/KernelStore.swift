public import Foundation

/// The Debian kernels that `scripts/setup` has fetched: `<cache>/kernels/<release>/vmlinuz`.
public struct KernelStore: Sendable {
  public let directory: URL

  /// - Parameter cache: by default `$GRASS_CACHE`, else `~/.cache/grass`.
  public init(cache: URL? = nil) {
    let environment = ProcessInfo.processInfo.environment
    let standard =
      environment["GRASS_CACHE"].map { URL(fileURLWithPath: $0) }
      ?? FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".cache/grass")
    directory = (cache ?? standard).appendingPathComponent("kernels")
  }

  /// A kernel that can be booted.
  public struct Kernel: Sendable, Hashable {
    /// As `uname -r` prints it.
    public let release: String
    public let image: URL

    /// The label of its series and flavour: `6.1`, `6.12-cloud`, `6.1-rt`.
    public var label: String {
      let series = release.split(separator: ".").prefix(2).joined(separator: ".")
      return series + (release.contains("-cloud-") ? "-cloud" : release.contains("-rt-") ? "-rt" : "")
    }
  }

  /// All kernels, the newest of each series and flavour first.
  public func kernels() -> [Kernel] {
    let releases = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return releases.map {
      Kernel(release: $0, image: directory.appendingPathComponent($0).appendingPathComponent("vmlinuz"))
    }
    .filter { FileManager.default.fileExists(atPath: $0.image.path) }
    .sorted { $0.release.compare($1.release, options: .numeric) == .orderedDescending }
  }

  /// The kernel that `name` means: a label (the newest of it), a release, or the path of a vmlinuz.
  public func kernel(_ name: String) throws(LabError) -> Kernel {
    if name.contains("/") {
      guard FileManager.default.fileExists(atPath: name) else { throw LabError("there is no kernel image at \(name)") }
      return Kernel(release: name, image: URL(fileURLWithPath: name))
    }
    let all = kernels()
    guard let kernel = all.first(where: { $0.release == name || $0.label == name }) else {
      let known = all.isEmpty ? "none" : Array(Set(all.map(\.label))).sorted().joined(separator: ", ")
      throw LabError(
        "there is no kernel '\(name)' in \(directory.path) (there: \(known)); run scripts/setup to fetch kernels")
    }
    return kernel
  }
}
