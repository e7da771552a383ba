public import KernelViews

/// A service that ran does not.
public struct ServiceGone: Detector {
  public static let name = "service-gone"
  public static let kind = Finding.Kind.change
  public static let summary = "A service of systemd that ran when the host was learned has no process any more."
  public static let rule =
    "A control group whose path ends in .service had processes when it was learned, and is gone or empty in both looks."
  public static let looksLike =
    "A service that is restarted, by a package or a person: both looks have to agree. One that somebody stopped: it is a notice."
  public static let remedy =
    "See what it said last: journalctl -u NAME, or grassctl dmesg where the kernel ended it. Learn the host anew where it is right."
  public static let techniques = ["T1489"]
  public static let baseline = Finding.Baseline.learned

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    let table = try look.controlGroups()
    // Those of users' sessions come and go with them.
    let services = table.groups.filter { group in
      group.processes > 0 && group.path.ends(in: ".service") && !group.path.starts(with: Array("/user.slice".utf8))
    }
    return Dictionary(services.map { ($0.path.printable, "\($0.processes)") }) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let learned = try look.learned(by: Self.self) else { return Sightings() }
    let faults = try look.controlGroups().faults
    let now = try facts(look)
    // What could not be read is not gone.
    guard faults.isEmpty else { return Sightings(faults: faults) }
    let gone = learned.keys.filter { now[$0] == nil }.sorted()
    return Sightings(
      gone.map { path in
        Sighting(
          [.table("control group \(path)", entry: nil)], .notice, .strong,
          "\(path.split(separator: "/").last ?? "a service") has no process any more",
          evidence: [.init("processes", seen: "none", expected: learned[path])])
      }, outOf: learned.count)
  }
}

extension [UInt8] {
  fileprivate func ends(in text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }
}
