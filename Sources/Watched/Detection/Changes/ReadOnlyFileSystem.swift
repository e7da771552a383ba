public import KernelViews

/// A file system takes no writes any more.
public struct ReadOnlyFileSystem: Detector {
  public static let name = "fs-readonly"
  public static let kind = Finding.Kind.fault
  public static let summary = "A file system became read-only: the kernel found it damaged, or its disk failing."
  public static let rule = """
    A file system that is mounted read-only, and of whose device the kernel's log says that it was set so (a warning); or one \
    that could be written when it was learned (a notice, since somebody may have wanted it).
    """
  public static let looksLike = "mount -o remount,ro: nothing in the log."
  public static let remedy = """
    Read what the kernel said before it: grassctl dmesg. Do not mount it writable again before it was checked; save what is on \
    it first.
    """
  public static let baseline = Finding.Baseline.tables

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    Dictionary(
      try look.mounts().mounts.filter { $0.superOptions.contains("rw") }.map {
        ($0.mountPoint.printable, $0.source.printable)
      }
    ) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let learned = try look.learned(by: Self.self)
    let table = try look.mounts()
    let fixed = table.mounts.filter { $0.superOptions.contains("ro") }
    guard !fixed.isEmpty else { return Sightings(faults: table.faults) }
    // What file systems say when they do it: FAT, ext4, btrfs.
    let words = ["set read-only", "emounting filesystem read-only", "forced readonly"]
    let log = try look.log().records.map(\.text.printable).filter { text in words.contains { text.contains($0) } }
    let sightings = fixed.compactMap { mount -> Sighting? in
      let (place, source) = (mount.mountPoint.printable, mount.source.printable)
      let device = source.split(separator: "/").last.map(String.init) ?? source
      let said = log.last { line in
        line.contains("(\(device))") || line.contains("(device \(device)") || line.contains(" \(device):")
      }
      let wasWritable = learned?[place] == source
      guard said != nil || wasWritable else { return nil }
      var sighting = Sighting(
        [.table("the file system at \(place)", entry: nil)], said == nil ? .notice : .warning,
        said == nil ? .hint : .strong,
        "\(mount.fileSystem.printable) of \(source) at \(place) \(said == nil ? "became read-only" : "was made read-only by the kernel")",
        evidence: [.init("s_flags", seen: "read-only", expected: "writable")]
          + (said.map { [.init("the log", seen: $0)] } ?? []), related: [.disk(Array(device.utf8))])
      if wasWritable { sighting.baseline = .learned }
      return sighting
    }
    return Sightings(sightings, faults: table.faults)
  }
}
