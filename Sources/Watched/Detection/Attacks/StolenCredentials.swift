public import KernelViews
import Memory

/// A task that became root without the kernel's own ways.
public struct StolenCredentials: Detector {
  public static let name = "stolen-credentials"
  public static let kind = Finding.Kind.attack
  public static let summary = "A task has the rights of a user that the kernel never gave it."
  public static let rule = """
    The kernel accounts a process to the user that it runs as: cred.user.uid is cred.uid, whoever sets it. Who writes ids into \
    the credentials does not change the account. Judged on real_cred, since a task may act with others' for a moment.
    """
  public static let looksLike = "setuid programs, sudo, user namespaces: the kernel's own calls change both."
  public static let remedy = """
    Treat the host as taken over: see what the task is (grassctl ps -p PID, grassctl lsof -p PID, grassctl ss), keep the \
    memory, and look for the module or the bug that did it.
    """
  public static let techniques = ["T1068"]
  public static let baseline = Finding.Baseline.invariant

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let sightings = table.marks.filter { mark in
      mark.task.uid != mark.accountedUser && mark.accountedUser != .max && mark.task.state != .zombie
        && mark.task.state != .dead
    }.map { mark in
      let task = mark.task
      return Sighting(
        [.task(task)], .critical, .strong,
        "\(task.comm.printable) (\(task.tid)) runs as user \(task.uid) and belongs to user \(mark.accountedUser): its "
          + "credentials were written over",
        evidence: [
          .init(
            "cred.uid", at: mark.credentials, seen: "uid \(task.uid), euid \(task.euid), suid \(task.suid)",
            expected: "uid \(mark.accountedUser), which cred.user has")
        ], persists: [mark.credentials.rawValue])
    }
    return Sightings(sightings, outOf: table.marks.count, faults: table.faults)
  }
}
