public import KernelViews

/// A process that only one of the kernel's own lists knows.
public struct HiddenProcess: Detector {
  public static let name = "hidden-process"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process is missing in one of the lists that the kernel keeps of all: somebody took it out."
  public static let rule = """
    The pid table of the initial namespace and the list of tasks have the same processes, but for those that are being made or \
    are ending; both looks agree, and the process began before the first.
    """
  public static let looksLike = "Processes that begin or end: they are gone, or in both lists, in the second look."
  public static let remedy = """
    Treat the host as taken over: see what the process is (grassctl ps -p PID, grassctl lsof -p PID, grassctl ss), and keep the \
    memory.
    """
  public static let techniques = ["T1014", "T1564"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.tasks()
    let sightings = table.mismatches.filter { $0.state != .zombie && $0.state != .dead }.map { task in
      let has = task.sources.contains(.pidTable) ? "the pid table" : "the list of tasks"
      let lacks = task.sources.contains(.pidTable) ? "the list of tasks" : "the pid table"
      return Sighting(
        [.task(task)], .critical, .strong,
        "\(task.comm.printable) (\(task.tid)) is in \(has) and not in \(lacks): it is being hidden",
        evidence: [.init("its task_struct", at: task.address, seen: "only in \(has)", expected: "in both")])
    }
    return Sightings(sightings, outOf: table.tasks.count, faults: [])
  }
}
