import Binding
public import KernelViews
import Memory

/// A file system takes no writes until somebody thaws it.
public struct FrozenFileSystem: Detector {
  public static let name = "fs-frozen"
  public static let kind = Finding.Kind.fault
  public static let summary = "A file system is frozen: whoever writes to it waits."
  public static let rule = """
    s_writers.frozen of a super_block is not 0 in both looks: a notice, and a warning where a task has waited for it for 10 s.
    """
  public static let looksLike = "A snapshot that is being taken: it is over in a moment, and nobody waits for long."
  public static let remedy = "See who froze it, and thaw it: fsfreeze -u."
  public static let baseline = Finding.Baseline.tables

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.fileSystems()
    let frozen = table.systems.filter { $0.frozen != 0 }
    guard !frozen.isEmpty else { return Sightings(faults: table.faults) }
    let marks = try look.marks()
    let waiting = marks.marks.filter { mark in
      mark.isUninterruptible && mark.lastRun > 0 && marks.now > mark.lastRun
        && marks.now - mark.lastRun >= HungTask.notice
    }
    let stacks = try look.kernel.stacks(of: waiting.map(\.task)).stacks
    // Writers of a frozen file system wait for its semaphore.
    let writers = zip(waiting, stacks).filter { pair in
      pair.1.frames.contains { ["percpu_rwsem_wait", "__percpu_down_read"].contains($0.place?.name) }
    }.map(\.0.task)
    return Sightings(
      frozen.map { system in
        Sighting(
          [.table("the file system at \(system.place?.printable ?? system.id.printable)", entry: nil)],
          writers.isEmpty ? .notice : .warning, .strong,
          "\(system.name) is frozen"
            + (writers.isEmpty
              ? "" : ", and \(Text.list(writers.map { "\($0.comm.printable) (\($0.tid))" })) waits to write"),
          evidence: [.init("s_writers.frozen", at: system.address, seen: "\(system.frozen)", expected: "0")],
          related: Set(writers.map { .task($0) }))
      }, faults: table.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name && !finding.related.isDisjoint(with: effect.related)
  }
}

/// A file system in memory is full.
public struct FullFileSystem: Detector {
  public static let name = "fs-full"
  public static let kind = Finding.Kind.fault
  public static let summary = "A file system in memory has nearly no room left: what writes to it fails."
  public static let rule = """
    Of a tmpfs with a limit, shmem_sb_info.used_blocks reaches 95% of max_blocks (a notice) or 99% (a warning). Other file \
    systems keep their room in types of their modules and are not judged.
    """
  public static let looksLike = "Nothing: its limit is its own."
  public static let remedy = "See what lies there: grassctl files. Remove something, or mount -o remount,size=… PATH."
  public static let baseline = Finding.Baseline.threshold

  private struct Reader: KernelReader {
    static let subject = "the room of file systems in memory"

    struct Room: KernelShape {
      static let type = "shmem_sb_info"
      let most = Field<UInt64>("max_blocks")
      let used = Place("used_blocks")
    }

    let room: Bound<Room>

    init(kernel: Kernel) throws { room = try Bound(kernel.types) }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.fileSystems()
    let reader = try look.kernel.reader(Reader.self)
    var result = Sightings(faults: table.faults)
    let systems = table.systems.filter { $0.isSharedMemory && $0.place != nil && $0.content.rawValue != 0 }
    for (system, room) in zip(systems, look.kernel.addressSpace.read(reader.room, at: systems.map(\.content))) {
      guard let most = result.faults.keep({ () throws(MemoryFault) in try room.most }), most > 0 else { continue }
      let used = try look.counter(at: room.address(of: \.used), "the used blocks of \(system.name)")
      guard used >= most - most / 20 else { continue }
      let place = system.place?.printable ?? ""
      result.sightings.append(
        Sighting(
          [.table("the file system at \(place)", entry: nil)], used >= most - most / 100 ? .warning : .notice, .strong,
          "the file system in memory at \(place) is full: \(used * 4) of \(most * 4) KiB",
          evidence: [
            .init("used_blocks", at: room.address(of: \.used), seen: "\(used)", expected: "fewer than \(most)")
          ]))
    }
    return result
  }
}
