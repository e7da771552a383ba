import Binding
public import KernelViews

/// The kernel is told to start somebody's program.
public struct HelperPath: Detector {
  public static let name = "helper-path"
  public static let kind = Finding.Kind.attack
  public static let summary = "A program that the kernel starts by itself, as root, is not where such programs are."
  public static let rule = """
    The paths that the kernel starts programs by (modprobe_path, core_pattern behind a |, poweroff_cmd, reboot_cmd) lead below \
    /sbin, /bin, /usr, /lib or /opt.
    """
  public static let looksLike = "Handlers of crashes and of power that a distribution installs: they lie there."
  public static let remedy = """
    See what the program is and who wrote it; set the path back (sysctl kernel.modprobe, kernel.core_pattern). Whoever could \
    change it was root.
    """
  public static let techniques = ["T1546"]
  public static let baseline = Finding.Baseline.threshold
  public static let needsOneLook = true

  private static let trusted = ["/sbin/", "/bin/", "/usr/", "/lib/", "/opt/", "/nix/store/", "/run/current-system/"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    var sightings: [Sighting] = []
    for name in ["modprobe_path", "core_pattern", "poweroff_cmd", "reboot_cmd"] {
      guard var path = try look.text(name), !path.isEmpty else { continue }
      let whole = path.printable
      if name == "core_pattern" {
        // Anything else is the name of a file.
        guard path.first == UInt8(ascii: "|") else { continue }
        path.removeFirst()
      }
      let program = String(decoding: path.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self)
      guard !trusted.contains(where: { program.hasPrefix($0) }) || program.contains("/../") else { continue }
      sightings.append(
        Sighting(
          [.table(name, entry: nil)], .warning, .strong,
          "the kernel starts \(program) as root, by \(name)",
          evidence: [
            .init(
              name, at: look.kernel.symbols.address(of: name), seen: whole,
              expected: "a program below \(trusted.prefix(4).joined(separator: ", "))")
          ]))
    }
    return Sightings(sightings)
  }
}

/// A control group of the first version starts somebody's program.
public struct ReleaseAgent: Detector {
  public static let name = "release-agent"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A hierarchy of control groups has a program that the kernel starts as root when a group empties."
  public static let rule = "release_agent_path of a cgroup_root is not empty, other than systemd's."
  public static let looksLike = "systemd's own agent on hosts that still have its hierarchy of the first version."
  public static let remedy =
    "See what it is; a way out of containers goes through it. Empty release_agent of that hierarchy."
  public static let techniques = ["T1611"]
  public static let baseline = Finding.Baseline.threshold
  public static let needsOneLook = true

  private struct Reader: KernelReader {
    static let subject = "the hierarchies of control groups"

    struct Root: KernelShape {
      static let type = "cgroup_root"
      let link = Place("root_list")
      let agent = Place(optional: "release_agent_path")
      let hierarchy = Field<Int32>("hierarchy_id")
    }

    let root: Bound<Root>
    let head: VirtualAddress?

    init(kernel: Kernel) throws {
      root = try Bound(kernel.types)
      head = kernel.symbols.address(of: "cgroup_roots")
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let reader = try kernel.reader(Reader.self)
    guard let head = reader.head, reader.root.agent.isPresent else { return Sightings() }
    var faults: [MemoryFault] = []
    let space = kernel.addressSpace
    var sightings: [Sighting] = []
    let roots = space.list(of: reader.root, through: \.link, head: head, limit: 64, &faults)
    roots.forEach(&faults) { (root) throws(MemoryFault) in
      let place = root.address(of: \.agent)
      let path = Array(try space.read(place, count: 256).prefix { $0 != 0 })
      guard !path.isEmpty, !path.printable.hasSuffix("/systemd-cgroups-agent") else { return }
      let number = try root.hierarchy
      sightings.append(
        Sighting(
          [.table("release_agent of hierarchy \(number)", entry: nil)], .warning, .strong,
          "the kernel starts \(path.printable) as root when a control group of hierarchy \(number) empties",
          evidence: [.init("release_agent_path", at: place, seen: path.printable, expected: "nothing")]))
    }
    return Sightings(sightings, faults: faults)
  }
}
