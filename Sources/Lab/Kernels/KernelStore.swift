public import Foundation

/// The Debian kernels that `scripts/setup` has fetched: `<cache>/kernels/<release>/vmlinuz`.
public struct KernelStore: Sendable {
  public let directory: URL

  /// - Parameter cache: by default ``standardCache(_:)``.
  public init(cache: URL? = nil) {
    directory = (cache ?? Self.standardCache(ProcessInfo.processInfo.environment)).appendingPathComponent("kernels")
  }

  /// Where `scripts/setup` puts what it fetches: `$GRASS_CACHE`, else `grass` in `$XDG_CACHE_HOME` or in `~/.cache`.
  ///
  /// Like the shell there, takes an empty variable for a missing one.
  static func standardCache(_ environment: [String: String]) -> URL {
    if let path = environment["GRASS_CACHE"], !path.isEmpty { return URL(fileURLWithPath: path) }
    let parent =
      environment["XDG_CACHE_HOME"].flatMap { $0.isEmpty ? nil : URL(fileURLWithPath: $0) }
      ?? FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".cache")
    return parent.appendingPathComponent("grass")
  }

  /// A kernel that can be booted.
  public struct Kernel: Sendable, Hashable {
    /// As `uname -r` prints it.
    public let release: String
    public let image: URL

    /// The modules that `scripts/setup` has fetched with it, in the order in which they can be loaded.
    public func modules() throws(LabError) -> [URL] {
      let directory = image.deletingLastPathComponent().appendingPathComponent("modules")
      guard let order = try? String(contentsOf: directory.appendingPathComponent("order"), encoding: .utf8) else {
        throw LabError("the kernel \(release) has no modules in \(directory.path); run scripts/setup, or take 6.1")
      }
      return order.split(separator: "\n").map { directory.appendingPathComponent(String($0)) }
    }

    /// The modules for disks in files and for an Ethernet device, where `scripts/setup` has fetched them, in the order in
    /// which they can be loaded.
    public var deviceModules: [URL] {
      let directory = image.deletingLastPathComponent().appendingPathComponent("devices")
      let order = (try? String(contentsOf: directory.appendingPathComponent("order"), encoding: .utf8)) ?? ""
      return order.split(separator: "\n").map { directory.appendingPathComponent(String($0)) }
    }

    /// The modules that it takes to mount a disk, in the order in which they can be loaded.
    public func diskModules() throws(LabError) -> [URL] {
      let directory = image.deletingLastPathComponent().appendingPathComponent("disk")
      guard let order = try? String(contentsOf: directory.appendingPathComponent("order"), encoding: .utf8) else {
        throw LabError("the kernel \(release) has no modules in \(directory.path); run scripts/setup --debian")
      }
      return order.split(separator: "\n").map { directory.appendingPathComponent(String($0)) }
    }

    /// Whether Debian offers no modules of this kernel, as of series that it has left behind.
    public var lacksModules: Bool {
      let order = image.deletingLastPathComponent().appendingPathComponent("devices/order")
      return (try? Data(contentsOf: order))?.isEmpty ?? false
    }

    /// A module of the laboratory's own, where `scripts/setup` has built it: `hide` hides the process that its parameter
    /// `victim` names, `physical` shows all memory at /dev/physical, `break` breaks the guest as its parameter `what` says.
    public func module(_ name: String) -> URL? {
      let path = image.deletingLastPathComponent().appendingPathComponent(name + ".ko")
      return FileManager.default.fileExists(atPath: path.path) ? path : nil
    }

    /// The label of its series and flavour: `6.1`, `6.12-cloud`, `6.1-rt`.
    public var label: String {
      let series = release.split(separator: ".").prefix(2).joined(separator: ".")
      return series + (release.contains("-cloud-") ? "-cloud" : release.contains("-rt-") ? "-rt" : "")
    }
  }

  /// The disk that guests with systemd boot from, which `scripts/setup --debian` makes.
  ///
  /// It holds Debian, what workloads need, and the modules of the kernels that boot it, and is never written to.
  ///
  /// - Throws: ``LabError`` where it was not made.
  public func diskImage() throws(LabError) -> URL {
    let image = directory.deletingLastPathComponent().appendingPathComponent("debian/disk.img")
    guard FileManager.default.fileExists(atPath: image.path) else {
      throw LabError("there is no \(image.path); run scripts/setup --debian")
    }
    return image
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
