import Binding
public import KernelViews
import Memory

/// A grace period that does not end.
public struct RCUStall: Detector {
  public static let name = "rcu-stall"
  public static let kind = Finding.Kind.fault
  public static let summary = "A grace period of RCU does not end: memory is not given back, and soon everything waits."
  public static let rule = """
    The same grace period (rcu_state.gp_seq) is under way for 5 s (a warning) or 21 s (critical) by the kernel's ticks; who it waits for: \
    the task that rcu_node.gp_tasks names, and what runs on the CPUs of rcu_node.qsmask.
    """
  public static let looksLike = "A paused guest: its clock stands still, and so does every CPU."
  public static let remedy = "See what the CPU or the task that it waits for does: grassctl stack."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let warning: UInt64 = 5_000_000_000
  private static let critical: UInt64 = 21_000_000_000

  private struct Reader: KernelReader {
    static let subject = "the grace periods of RCU"

    struct State: KernelShape {
      static let type = "rcu_state"
      let sequence = Field<UInt64>("gp_seq")
      let start = Field<UInt64>("gp_start")
      let nodes = Place("node")
    }

    struct Node: KernelShape {
      static let type = "rcu_node"
      let cpus = Field<UInt64>("qsmask")
      let level = Field<UInt8>("level")
      let first = Field<Int32>("grplo")
      let tasks = Field<VirtualAddress>(optional: "gp_tasks")
    }

    struct Queue: KernelShape {
      static let type = "rq"
      let current = Field<VirtualAddress>("curr")
    }

    let state: Bound<State>, node: Bound<Node>, queue: Bound<Queue>
    let address: VirtualAddress, queues: VirtualAddress
    /// Where a task has its link in a node's list; nil where readers are never preempted.
    let link: Int?

    init(kernel: Kernel) throws {
      (state, node, queue) = try kernel.types.bind()
      address = try kernel.symbol("rcu_state", for: Self.self)
      queues = try kernel.symbol("runqueues", for: Self.self)
      link = try? kernel.types.structure("task_struct").field("rcu_node_entry").offset
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let space = kernel.addressSpace
    let reader = try kernel.reader(Reader.self)
    let state = space.read(reader.state, at: [reader.address])[0]
    let (sequence, start) = try KernelError.reading(Reader.subject) { (try state.sequence, try state.start) }
    // The lowest two bits are the phase; none is under way where they are zero (kernel/rcu/rcu.h, RCU_SEQ_STATE_MASK).
    guard sequence & 3 != 0, let age = try look.nanoseconds(sinceTick: start), age >= warning else {
      return Sightings()
    }
    let table = try look.marks()
    var faults = table.faults
    // A kernel for thousands of CPUs has some hundred of them.
    let count = min(Int(clamping: try look.number("rcu_num_nodes") ?? 1), 1024)
    let nodes = (0..<count).map { reader.address + reader.state.nodes.offset + $0 * reader.node.size }
    var cpus: [UInt32] = []
    var tasks: [KernelTask] = []
    let online = try kernel.cpus()
    let leaves = space.read(reader.node, at: nodes).compactMap(&faults) { (node) throws(MemoryFault) in
      (level: try node.level, cpus: try node.cpus, first: try node.first, tasks: try node.tasks)
    }
    let deepest = leaves.map(\.level).max() ?? 0
    for leaf in leaves where leaf.level == deepest {
      for bit in 0..<64 where leaf.cpus >> UInt64(bit) & 1 == 1 {
        cpus.append(UInt32(clamping: Int64(leaf.first) + Int64(bit)))
      }
      guard let link = reader.link, leaf.tasks.rawValue != 0 else { continue }
      let address = VirtualAddress(leaf.tasks.rawValue &- UInt64(link))
      if let mark = table.marks.first(where: { $0.task.address == address }) { tasks.append(mark.task) }
    }
    let asked = online.filter { cpus.contains(UInt32(clamping: $0.number)) }
    space.read(reader.queue, at: asked.map { $0.address(of: reader.queues) }).forEach(&faults) {
      (queue) throws(MemoryFault) in
      let current = try queue.current
      if let mark = table.marks.first(where: { $0.task.address == current }), mark.task.tid != 0 {
        tasks.append(mark.task)
      }
    }
    let places = cpus.map { "CPU \($0)" } + tasks.map { "\($0.comm.printable) (\($0.tid))" }
    return Sightings(
      [
        Sighting(
          [.host], age >= critical ? .critical : .warning, .strong,
          "a grace period of RCU does not end since \(Text.seconds(age)) s"
            + (places.isEmpty ? "" : ", it waits for \(Text.list(places))"),
          evidence: [
            .init(
              "rcu_state.gp_seq", at: reader.address, seen: "\(sequence)", expected: "another after some milliseconds")
          ], persists: [sequence], related: Set(tasks.map { .task($0) }))
      ], faults: faults)
  }
}
