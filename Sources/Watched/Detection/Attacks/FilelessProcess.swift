import Binding
public import KernelViews
import Memory

/// A process whose program is in no file that an administrator could look at.
public struct FilelessProcess: Detector {
  public static let name = "fileless-process"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process runs a program that lies in memory only, was removed, or lies where anybody may write."
  public static let rule = """
    mm.exe_file is a memfd; or its entry is removed, and its directory has no other file of that name now; or it lies below \
    /dev/shm (a warning), /tmp, /var/tmp or /run (a notice).
    """
  public static let looksLike = """
    An upgrade, which puts another file where the removed one was: that is said as info, and as a notice where the kernel's \
    cache of names knows it no more. Container runtimes run a copy of \
    themselves in a memfd; builds and tests run what they have just made in /tmp.
    """
  public static let remedy = """
    Keep the program: its pages are in the memory (grassctl search), and on a live host in /proc/PID/exe. See who started it \
    and what it has open: grassctl ps -p PID, grassctl lsof -p PID. Do not kill it before that.
    """
  public static let techniques = ["T1620", "T1070.004"]
  public static let baseline = Finding.Baseline.threshold

  /// Directories that a user without rights may write into, and how much a program there says.
  private static let open: [(prefix: String, severity: Finding.Severity)] = [
    ("/dev/shm/", .warning), ("/tmp/", .notice), ("/var/tmp/", .notice), ("/run/", .notice),
  ]

  /// Directories that packages put programs into.
  private static let installed = ["/usr/", "/bin/", "/sbin/", "/lib/", "/opt/"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.processes()
    let entries = try look.kernel.reader(DirectoryEntries.self)
    var faults = table.faults
    var sightings: [Sighting] = []
    for process in table.processes where process.task.state != .zombie && process.task.state != .dead {
      guard let program = process.program else { continue }
      let verdict: (severity: Finding.Severity, confidence: Finding.Confidence, text: String)
      if program.isAnonymous {
        // runc, crun and systemd seal a copy of themselves so that a container cannot write to it.
        let isRuntime = ["/memfd:runc_cloned:", "/memfd:crun"].contains { program.path.hasPrefix($0) }
        verdict = (
          isRuntime ? .notice : .warning, .strong, "runs a program that lies in no file system, \(program.path)"
        )
      } else if program.name.isDeleted {
        let isReplaced =
          faults.keep { () throws(MemoryFault) in try entries.isReplaced(program.dentry, look.kernel.addressSpace) }
          ?? false
        // The cache forgets what took its place, as time goes on.
        let isInstalled = installed.contains { program.path.hasPrefix($0) }
        verdict =
          isReplaced
          ? (.info, .strong, "runs what was \(program.path) before another file took its place")
          : isInstalled
            ? (.notice, .hint, "runs \(program.path), which was removed or replaced")
            : (.warning, .strong, "runs \(program.path), which was removed")
      } else if let place = open.first(where: { program.path.hasPrefix($0.prefix) }) {
        verdict = (place.severity, .hint, "runs \(program.path), a program where anybody may put one")
      } else {
        continue
      }
      sightings.append(
        Sighting(
          [.task(process.task)], verdict.severity, verdict.confidence, "\(process.name) \(verdict.text)",
          evidence: [
            .init(
              "mm.exe_file", at: process.address,
              seen: "\(program.name.display.printable), inode \(program.inode), \(program.links) names",
              expected: "a file below a directory of programs")
          ], persists: [program.inode]))
    }
    return Sightings(sightings, faults: faults)
  }
}
