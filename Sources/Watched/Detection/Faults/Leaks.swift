import Binding
public import KernelViews
import Memory

/// Memory runs out soon, because one process takes ever more of it.
public struct OutOfMemoryAhead: Detector {
  public static let name = "oom-imminent"
  public static let kind = Finding.Kind.fault
  public static let summary = "A process takes ever more memory, and soon there is none left."
  public static let rule = """
    Two windows agree: what a process older than 5 s took a second since it began, and what it took between two looks, within a \
    factor of two and a half; it has taken half as much as is left; and at the slower of the two, what is available (MemAvailable, and \
    free swap) lasts less than a minute: a warning, and critical where it lasts less than 15 s.
    """
  public static let looksLike = """
    A program that takes all it needs in one go: it was slower before, or is slower now. Page cache: it counts as available.
    """
  public static let remedy = """
    See what it is: grassctl ps -p PID. Stop it before the kernel has to choose whom to kill: kill -STOP PID keeps what it has to \
    look at, and takes no more.
    """
  public static let baseline = Finding.Baseline.threshold

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let now = look.moment.guest else { return Sightings() }
    let free = try look.availableMemory()
    let table = try look.tasks()
    var old: [Subject: UInt64] = [:]
    var elapsed: UInt64 = 0
    if let before, let then = before.moment.guest {
      guard then < now else { return Sightings() }
      elapsed = now - then
      for task in try before.tasks().tasks where task.isLeader { old[.task(task)] = task.residentPages }
    }
    var result = Sightings()
    for task in table.tasks where task.isLeader && !task.isKernelThread && task.startTime < now {
      let age = now - task.startTime
      guard age > 5_000_000_000 else { continue }
      let since = Double(task.residentPages) * 4096 / (Double(age) / 1e9)
      guard Double(free) < since * 60, task.residentPages >= free / 8192 else { continue }
      var rate = since
      if before != nil {
        guard let pages = old[.task(task)], task.residentPages > pages else { continue }
        let lately = Double(task.residentPages - pages) * 4096 / (Double(elapsed) / 1e9)
        guard lately * 2.5 > since, since * 2.5 > lately else { continue }
        rate = min(rate, lately)
        guard Double(free) < rate * 60 else { continue }
      }
      let left = Double(free) / rate
      result.sightings.append(
        Sighting(
          [.task(task)], left < 15 ? .critical : .warning, .strong,
          "memory lasts \(Int(left)) s more: \(task.comm.printable) (\(task.tid)) takes \(Leak.size(rate)) a second since it "
            + "began \(Text.seconds(age)) s ago",
          evidence: [
            .init("resident memory", at: task.address, seen: Leak.size(Double(task.residentPages) * 4096)),
            .init("memory that is available", seen: Leak.size(Double(free)), expected: "enough for a minute"),
          ], persists: [task.startTime]))
    }
    return result
  }
}

/// A cache of the kernel's small objects that grows and does not shrink.
public struct SlabLeak: Detector {
  public static let name = "slab-leak"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "A cache of the kernel's objects grows and never shrinks: something forgets to give them back."
  public static let rule = """
    Since it was learned of this boot, a cache whose objects the kernel cannot reclaim (without SLAB_RECLAIM_ACCOUNT) grew by a \
    twentieth of memory; where nothing was learned, it takes a quarter of it. It grows between both looks, and at that rate \
    memory is gone within an hour: a warning, within five minutes critical, else a notice.
    """
  public static let looksLike = """
    Caches of inodes and names: they are reclaimed. A busy network or file system: its caches stop growing, and the rate says so.
    """
  public static let remedy = """
    See which it is and how it grows: grassctl slabtop. Its name tells whose objects they are; a reboot gives them back, unloading \
    the module may.
    """
  public static let baseline = Finding.Baseline.learned
  public static let factsAreOfBoot = true

  private struct Reader: KernelReader {
    static let subject = "the flags of slab caches"

    struct Cache: KernelShape {
      static let type = "kmem_cache"
      let flags = Field<UInt64>("flags")
    }

    let cache: Bound<Cache>
    let reclaimable: UInt64

    init(kernel: Kernel) throws {
      cache = try Bound(kernel.types)
      // SLAB_RECLAIM_ACCOUNT (include/linux/slab.h): the number of a bit since 6.9.
      let bit = kernel.types.enumerator("_SLAB_RECLAIM_ACCOUNT", of: "_slab_flag_bits").flatMap {
        (0..<64).contains($0) ? $0 : nil
      }
      reclaimable = bit.map { 1 << UInt64($0) } ?? 0x20000
    }
  }

  private static func taken(_ look: Look) throws(KernelError) -> (caches: [String: UInt64], faults: [MemoryFault]) {
    let table = try look.once("slabs") { kernel throws(KernelError) in try kernel.slabs() }
    let reader = try look.kernel.reader(Reader.self)
    var faults = table.faults
    var taken: [String: UInt64] = [:]
    look.kernel.addressSpace.read(reader.cache, at: table.caches.map(\.address)).forEach(&faults) {
      (reading) throws(MemoryFault) in
      guard try reading.flags & reader.reclaimable == 0 else { return }
      let cache = table.caches[reading.index]
      taken[cache.name.printable] = (taken[cache.name.printable] ?? 0) &+ cache.bytes
    }
    return (taken, faults)
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    // Small ones count as nothing.
    try taken(look).caches.filter { $0.value >= 1 << 20 }.mapValues { "\($0)" }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let (caches, faults) = try taken(look)
    let leak = try Leak(look, before, learned: look.learned(by: Self.self))
    let old = try before.map { look throws(KernelError) in try taken(look).caches }
    var result = Sightings(outOf: caches.count, faults: faults)
    for (name, bytes) in caches {
      result.sightings += leak.sighting(
        .table("slab cache \(name)", entry: nil), "the kernel's cache \(name)", name, bytes, before: old?[name] ?? 0)
    }
    return result
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool { Leak.explains(effect) }
}

/// A function of the kernel that takes virtual memory and does not give it back.
public struct VirtualMemoryLeak: Detector {
  public static let name = "vmalloc-leak"
  public static let kind = Finding.Kind.fault
  public static let summary = "One place in the kernel takes ever more of its virtual memory and gives none back."
  public static let rule = """
    The pages of all areas of vmalloc that one function asked for (vm_struct.nr_pages and caller), as a slab's leak: a twentieth of memory more than was \
    learned of this boot, or a quarter of it; more in the second look; a warning where memory is gone within an hour.
    """
  public static let looksLike = """
    Stacks of threads and programs of BPF: they stop growing. What shows a device's memory has no pages of its own.
    """
  public static let remedy =
    "The function says whose it is: grassctl sym. A reboot gives it back, unloading the module may."
  public static let baseline = Finding.Baseline.learned
  public static let factsAreOfBoot = true

  private static func taken(_ look: Look) throws(KernelError) -> (callers: [String: UInt64], faults: [MemoryFault]) {
    let table = try look.virtualAreas()
    var sums: [VirtualAddress: UInt64] = [:]
    for area in table.areas {
      sums[area.callerAddress] = (sums[area.callerAddress] ?? 0) &+ area.pages &* 4096
    }
    let large = sums.filter { $0.value >= 1 << 20 }
    var callers: [String: UInt64] = [:]
    guard !large.isEmpty else { return (callers, table.faults) }
    let symbols = try look.once("symbols") { kernel throws(KernelError) in try kernel.symbolMap() }
    for (address, bytes) in large {
      let place = symbols.place(of: address)
      let name = place.map { $0.name + ($0.module.map { " [\($0)]" } ?? "") } ?? "\(address)"
      callers[name] = (callers[name] ?? 0) &+ bytes
    }
    return (callers, table.faults)
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    try taken(look).callers.mapValues { "\($0)" }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let (callers, faults) = try taken(look)
    let leak = try Leak(look, before, learned: look.learned(by: Self.self))
    let old = try before.map { look throws(KernelError) in try taken(look).callers }
    var result = Sightings(outOf: callers.count, faults: faults)
    for (name, bytes) in callers {
      result.sightings += leak.sighting(
        .function(name), "the kernel's function \(name)", name, bytes, before: old?[name] ?? 0)
    }
    return result
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool { Leak.explains(effect) }
}

/// Pages that nothing in the kernel accounts for.
public struct UnaccountedMemory: Detector {
  public static let name = "page-leak"
  public static let kind = Finding.Kind.fault
  public static let summary = "Ever more pages are taken, and none of the kernel's counters says by what."
  public static let rule = """
    MemTotal less what is free, in the page cache, of processes, in slabs, in tables of pages, in stacks, in vmalloc, of CPUs' own \
    variables and compressed: as a slab's leak, a twentieth of memory more than was learned of this boot, or \
    a quarter of it; more in the second look; a warning where memory is gone within an hour.
    """
  public static let looksLike = """
    Balloons of hypervisors, pools of huge pages, buffers of network cards, graphics and tracing: they take it at once and stop.
    """
  public static let remedy = """
    The kernel keeps no record of who took them. See what was loaded or began lately: grassctl dmesg, grassctl lsmod; page_owner=on \
    on the kernel's command line tells after a reboot.
    """
  public static let baseline = Finding.Baseline.learned
  public static let factsAreOfBoot = true

  /// Pages that nothing says who took; nil where a counter lacks that most of it hangs on.
  private static func taken(_ look: Look) throws(KernelError) -> UInt64? {
    let statistics = try look.vmStatistics()
    let memory = try look.memory()
    guard let total = memory["MemTotal"], let slab = memory["Slab"], let stacks = memory["KernelStack"],
      let tables = memory["PageTables"], let free = statistics["nr_free_pages"]
    else { return nil }
    var known: UInt64 = slab &+ stacks &+ tables
    var pages = free
    for name in [
      "nr_active_anon", "nr_inactive_anon", "nr_active_file", "nr_inactive_file", "nr_unevictable", "nr_zspages",
      "nr_isolated_anon", "nr_isolated_file", "nr_kernel_misc_reclaimable",
    ] { pages &+= statistics[name] ?? 0 }
    pages &+= try look.number("nr_vmalloc_pages", size: 8) ?? 0
    // Of each unit of CPUs' own variables.
    let units = try look.number("pcpu_nr_units") ?? 0
    pages &+= (try look.number("pcpu_nr_populated", size: 8) ?? 0) &* units
    // The first page of what is on its way to a list of the page cache is on a CPU.
    known &+= pages &* 4096
    return total - min(total, known)
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    try taken(look).map { ["bytes": "\($0)"] } ?? [:]
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let bytes = try taken(look) else { return Sightings() }
    let leak = try Leak(look, before, learned: look.learned(by: Self.self))
    let old = try before.flatMap { look throws(KernelError) in try taken(look) }
    return Sightings(leak.sighting([.host], "what nothing accounts for", "bytes", bytes, before: old ?? 0))
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool { Leak.explains(effect) }
}

/// What leaks of the kernel have in common: when growing is one.
struct Leak {
  /// Bytes of the host's memory, and of what is available.
  let total: UInt64, free: UInt64
  /// What was learned of this boot; nil where nothing was.
  let learned: [String: String]?
  /// Nanoseconds between the looks; nil in the first.
  let elapsed: UInt64?

  /// What is said of something that takes `bytes`, and took `before` in the look before.
  func sighting(
    _ subjects: [Subject], _ what: String, _ name: String, _ bytes: UInt64, before: UInt64
  ) -> [Sighting] {
    // Where all was learned and it was not there, it was small.
    let start = learned.map { $0[name].flatMap { UInt64($0) } ?? 0 }
    let growth = bytes - min(bytes, start ?? 0)
    guard total > 0, growth >= (start == nil ? total / 4 : total / 20) else { return [] }
    var severity = Finding.Severity.warning
    var forecast = ""
    if let elapsed {
      guard elapsed > 0, bytes > before, before > 0 else { return [] }
      let rate = Double(bytes - before) / (Double(elapsed) / 1e9)
      let left = Double(free) / rate
      severity = left < 300 ? .critical : left < 3600 ? .warning : .notice
      forecast = " and takes \(Self.size(rate)) more a second: memory lasts \(Self.time(left)) more"
    }
    return [
      Sighting(
        subjects, severity, .strong,
        "\(what) has \(Self.size(Double(bytes)))"
          + (start.map { ", \(Self.size(Double(bytes - min(bytes, $0)))) more than was learned," } ?? "") + forecast,
        evidence: [
          .init(
            "memory that it takes", seen: Self.size(Double(bytes)), expected: start.map { Self.size(Double($0)) })
        ])
    ]
  }

  func sighting(
    _ subject: Subject, _ what: String, _ name: String, _ bytes: UInt64, before: UInt64
  ) -> [Sighting] { sighting([subject], what, name, bytes, before: before) }

  /// What follows from a leak: that memory runs out.
  static func explains(_ effect: Finding) -> Bool {
    effect.detector == OutOfMemoryKill.name || effect.detector == OutOfMemoryAhead.name
  }

  /// Bytes in words.
  static func size(_ bytes: Double) -> String {
    // What hostile memory says may be more than any number holds.
    bytes < 10 * 1_048_576 ? "\(Int(bytes / 1024)) KiB" : "\(Int(min(bytes / 1_048_576, 1e15))) MiB"
  }

  /// Seconds in words, no longer than a year.
  static func time(_ seconds: Double) -> String {
    let seconds = Int(min(seconds, 31_536_000))
    return seconds < 120 ? "\(seconds) s" : seconds < 7200 ? "\(seconds / 60) min" : "\(seconds / 3600) h"
  }
}

extension Leak {
  init(_ look: Look, _ before: Look?, learned: [String: String]?) throws(KernelError) {
    total = try look.memory()["MemTotal"] ?? 0
    free = try look.availableMemory()
    self.learned = learned
    elapsed = before.map { before in
      guard let now = look.moment.guest, let then = before.moment.guest, then < now else { return 0 }
      return now - then
    }
  }
}

extension Look {
  /// The main lines of /proc/meminfo.
  func memory() throws(KernelError) -> MemoryInfo {
    try once("memory") { kernel throws(KernelError) in try kernel.memoryInfo().info }
  }

  /// Bytes that can be had without anybody giving some up: what is available, and free swap.
  func availableMemory() throws(KernelError) -> UInt64 {
    let memory = try memory()
    return (memory["MemAvailable"] ?? 0) &+ (memory["SwapFree"] ?? 0)
  }
}
