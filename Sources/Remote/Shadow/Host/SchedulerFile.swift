import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/schedstat.
///
/// Source: kernel/sched/stats.c, `show_schedstat`.
enum SchedulerFile {
  private struct Queue: KernelShape {
    static let type = "rq"
    let yields = Field<UInt32>("yld_count"), schedules = Field<UInt32>("sched_count")
    let idles = Field<UInt32>("sched_goidle"), wakeUps = Field<UInt32>("ttwu_count")
    let local = Field<UInt32>("ttwu_local"), time = Field<UInt64>("rq_cpu_time")
    let delay = Field<UInt64>("rq_sched_info.run_delay"), runs = Field<UInt64>("rq_sched_info.pcount")
    let domain = Field<VirtualAddress>("sd")
  }

  /// The counters of a domain by kind of idleness, in the order in which they are printed; the last three from version 17 on.
  private static let byIdleness = [
    "lb_count", "lb_balanced", "lb_failed", "lb_imbalance", "lb_gained", "lb_hot_gained", "lb_nobusyq", "lb_nobusyg",
  ]
  private static let newByIdleness = [
    "lb_count", "lb_balanced", "lb_failed", "lb_imbalance_load", "lb_imbalance_util", "lb_imbalance_task",
    "lb_imbalance_misfit", "lb_gained", "lb_hot_gained", "lb_nobusyq", "lb_nobusyg",
  ]
  private static let single = [
    "alb_count", "alb_failed", "alb_pushed", "sbe_count", "sbe_balanced", "sbe_pushed", "sbf_count", "sbf_balanced",
    "sbf_pushed", "ttwu_wake_remote", "ttwu_move_affine", "ttwu_move_balance",
  ]

  /// No CPU has as many domains above it.
  private static let deepest = 32

  static func bytes(_ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let domain = try kernel.types.structure("sched_domain")
    let isNewest = domain.hasField("lb_imbalance_load")
    // Version 16 came with another order of the kinds of idleness.
    let version = isNewest ? 17 : kernel.types.enumerator("__CPU_NOT_IDLE") != nil ? 16 : 15
    let jiffies = try kernel.words(kernel.symbols.address(of: "jiffies_64") == nil ? "jiffies" : "jiffies_64", 1)[0]
    var text = ProcText("version \(version)\ntimestamp \(jiffies)\n")
    let cpus = try kernel.cpus().filter(\.isOnline)
    let variable = try kernel.symbol("runqueues", for: "the CPUs' queues")
    let kinds = try (isNewest ? newByIdleness : byIdleness).map { try domain.field($0) }
    let others = try single.map { try domain.field($0) }
    let (parent, name) = (try domain.field("parent"), try domain.field("name"))
    // Its CPUs lie behind it; no field says so any more from 7.1 on.
    let span = domain.hasField("span") ? try domain.field("span").offset : domain.size
    for (cpu, queue) in zip(cpus, try kernel.read(Queue.self, at: cpus.map { $0.address(of: variable) })) {
      text.line(
        "cpu\(cpu.number) \(try queue.yields) 0 \(try queue.schedules) \(try queue.idles) \(try queue.wakeUps) "
          + "\(try queue.local) \(try queue.time) \(try queue.delay) \(try queue.runs)")
      var place = try queue.domain
      for depth in 0..<deepest where place.rawValue != 0 {
        let room = (host.constants.cpus + 63) / 64 * 8
        let bytes = try kernel.addressSpace.read(place, count: span + room)
        let reader = ByteReader(bytes.span.bytes)
        var line = "domain\(depth)"
        if isNewest {
          let texts = kernel.addressSpace.strings(at: [try name.loadPointer(reader)])
          line += " " + String(decoding: try texts[0].get(), as: UTF8.self)
        }
        line += " " + ProcText.bitmap(Array(bytes[span...]).words, count: host.constants.cpus)
        let idleness = min(3, kinds[0].elementCount ?? 0)
        for index in 0..<idleness {
          for kind in kinds { line += " \(try kind.load(reader, element: index))" }
        }
        for other in others { line += " \(try other.load(reader))" }
        text.line(line)
        place = try parent.loadPointer(reader)
      }
    }
    return text.bytes
  }
}
