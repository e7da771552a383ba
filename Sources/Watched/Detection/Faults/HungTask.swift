public import KernelViews
import Memory

/// Tasks that sleep so that nothing wakes them, for longer than anything should take.
public struct HungTask: Detector {
  public static let name = "hung-task"
  public static let kind = Finding.Kind.fault
  public static let summary = "Tasks wait in the kernel, cannot be killed, and do not get what they wait for."
  public static let rule = """
    Uninterruptible without being killable, idle or frozen, and not on a CPU for 10 s (a notice) or 30 s (a warning) by the \
    scheduler's clock; both looks agree on how often each was switched. Tasks whose kernel stacks are the same are one finding.
    """
  public static let looksLike = """
    Slow disks: then the stack is that of a read or a write, and the finding about the disk is its cause. Frozen and suspended \
    tasks are left out.
    """
  public static let remedy = """
    See what they wait for: grassctl stack PID, grassctl locks. Killing them does not help; what holds the lock or the disk \
    behind it does.
    """
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  /// From when on it is a notice, and from when on a warning, in nanoseconds.
  static let notice: UInt64 = 10_000_000_000
  static let warning: UInt64 = 30_000_000_000

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let hung = table.marks.filter { mark in
      mark.isUninterruptible && mark.lastRun > 0 && table.now > mark.lastRun && table.now - mark.lastRun >= notice
    }
    guard !hung.isEmpty else { return Sightings(faults: table.faults) }
    let stacks = try look.kernel.stacks(of: hung.map(\.task))
    var groups: [[String]: [(mark: TaskMark, stack: KernelStack)]] = [:]
    for (mark, stack) in zip(hung, stacks.stacks) {
      groups[stack.frames.prefix(8).map { $0.place?.name ?? "\($0.address)" }, default: []].append((mark, stack))
    }
    let locks = try? look.locks()
    let sightings = groups.map { names, members -> Sighting in
      let members = members.sorted { $0.mark.task.tid < $1.mark.task.tid }
      let longest = members.map { table.now - $0.mark.lastRun }.max() ?? 0
      let who = Text.list(members.map { "\($0.mark.task.comm.printable) (\($0.mark.task.tid))" })
      let tids = Set(members.map(\.mark.task.tid))
      let wanted = (locks?.locks ?? []).filter { lock in lock.waiters.contains { tids.contains($0.tid) } }
      let lockText = wanted.first.map { lock in
        " for \(lock.symbol ?? "a \(lock.kind.rawValue)")"
          + (lock.owner.map { ", held by \($0.comm.printable) (\($0.tid))" } ?? "")
      }
      let place = names.first { !Self.sleepers.contains($0) }
      return Sighting(
        members.prefix(16).map { .task($0.mark.task) }, longest >= warning ? .warning : .notice, .strong,
        "\(who) \(members.count == 1 ? "waits" : "wait")\(lockText ?? place.map { " in \($0)" } ?? "") "
          + "since \(Text.seconds(longest)) s and cannot be killed",
        evidence: members.prefix(4).map { member in
          .init(
            "the kernel stack of \(member.mark.task.tid)",
            seen: member.stack.frames.prefix(12).map { $0.place?.name ?? "\($0.address)" }.joined(separator: " < "))
        }, persists: members.prefix(16).map(\.mark.switches),
        related: Set(wanted.map { .lock($0.address, name: $0.symbol) } + members.map { .task($0.mark.task) }))
    }
    return Sightings(sightings, faults: table.faults + stacks.faults)
  }

  /// Functions that are on the stack of everyone who sleeps.
  static let sleepers: Set<String> = [
    "context_switch", "__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "io_schedule",
    "io_schedule_timeout", "__switch_to_asm", "preempt_schedule_common",
  ]
}
