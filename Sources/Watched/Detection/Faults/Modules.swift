import Binding
public import KernelViews

/// A module that does not come up, or does not go.
public struct StuckModule: Detector {
  public static let name = "module-stuck"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "A module does not come to the end of its start or of its removal: nobody else can load modules meanwhile."
  public static let rule =
    "state of a module is COMING or GOING in both looks, and the task that loads it has waited for 30 s."
  public static let looksLike = "Slow firmware: it takes less than 30 s."
  public static let remedy =
    "See what it waits for: grassctl ps for insmod, modprobe or systemd-udevd, and grassctl stack PID of it."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let patience: UInt64 = 30_000_000_000

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.modules()
    let stuck = table.modules.filter { $0.state == .coming || $0.state == .going }
    guard !stuck.isEmpty else { return Sightings(faults: table.faults) }
    // Who loads it is in its init function, or in the call that removes it.
    let marks = try look.marks()
    let tasks = marks.marks.filter { !$0.task.isKernelThread && $0.lastRun > 0 && marks.now > $0.lastRun }
    let stacks = try look.kernel.stacks(of: tasks.map(\.task))
    var sightings: [Sighting] = []
    for module in stuck {
      let loaders = zip(tasks, stacks.stacks).filter { _, stack in
        stack.frames.contains { frame in
          frame.module == module.name
            || frame.place.map { ["load_module", "do_init_module", "__do_sys_delete_module"].contains($0.name) } == true
        }
      }
      let longest = loaders.map { marks.now - $0.0.lastRun }.max() ?? 0
      guard longest >= patience, let loader = loaders.first?.0 else { continue }
      let what = module.state == .coming ? "start" : "removal"
      sightings.append(
        Sighting(
          [.module(module.address, name: module.name)], .warning, .strong,
          "the \(what) of module \(module.name.printable) by \(loader.task.comm.printable) (\(loader.task.tid)) does not end "
            + "since \(Text.seconds(longest)) s",
          evidence: [
            .init(
              "its state", at: module.address, seen: module.state?.rawValue, expected: KernelModule.State.live.rawValue)
          ], persists: [loader.switches], related: [.task(loader.task)]))
    }
    return Sightings(sightings, faults: table.faults)
  }
}

/// A thread that the kernel cannot do without is gone.
public struct DeadKernelThread: Detector {
  public static let name = "kthread-dead"
  public static let kind = Finding.Kind.fault
  public static let summary = "A thread of the kernel that every host has is gone: what it did is done no more."
  public static let rule = """
    kthreadd, the thread of RCU's grace periods, and for each CPU that is on line migration and ksoftirqd; for each node kswapd \
    as its own struct names it.
    """
  public static let looksLike =
    "Kernels that name them otherwise: only those that this kernel's own variables name are looked for."
  public static let remedy = "An oops before it says why: grassctl dmesg. Plan a reboot; take the memory first."
  public static let baseline = Finding.Baseline.invariant

  private struct Reader: KernelReader {
    static let subject = "the kernel's own threads"

    struct Node: KernelShape {
      static let type = "pglist_data"
      let swapper = Field<VirtualAddress>("kswapd")
      let present = Field<UInt64>("node_present_pages")
    }

    struct Grace: KernelShape {
      static let type = "rcu_state"
      let thread = Field<VirtualAddress>("gp_kthread")
    }

    let node: Bound<Node>
    let grace: Bound<Grace>
    let nodes, rcu: VirtualAddress?
    let count: Int

    init(kernel: Kernel) throws {
      node = try Bound(kernel.types)
      grace = try Bound(kernel.types)
      nodes = kernel.symbols.address(of: "node_data")
      rcu = kernel.symbols.address(of: "rcu_state")
      count = min(Int(clamping: nodes.flatMap { kernel.symbols.size(ofSymbolAt: $0) } ?? 0) / 8, 1024)
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let reader = try kernel.reader(Reader.self)
    let space = kernel.addressSpace
    let tasks = try look.tasks().tasks
    let living = Set(tasks.filter { $0.state != .zombie && $0.state != .dead }.map(\.address))
    var faults: [MemoryFault] = []
    var sightings: [Sighting] = []
    func missing(_ name: String, _ place: VirtualAddress, seen: VirtualAddress) {
      sightings.append(
        Sighting(
          [.function(name)], .critical, .strong, "the kernel's thread \(name) is gone",
          evidence: [.init("who does it", at: place, seen: seen.rawValue == 0 ? "nobody" : "\(seen), which is no task")]
        ))
    }
    if let nodes = reader.nodes {
      let structs = space.pointers(at: (0..<reader.count).map { nodes + $0 * 8 }).filter { $0.rawValue != 0 }
      for (index, node) in space.read(reader.node, at: structs).enumerated() {
        do throws(MemoryFault) {
          let swapper = try node.swapper
          if try node.present > 0, !living.contains(swapper) { missing("kswapd\(index)", node.address, seen: swapper) }
        } catch { faults.append(error) }
      }
    }
    if let rcu = reader.rcu {
      space.read(reader.grace, at: [rcu]).forEach(&faults) { (state) throws(MemoryFault) in
        let thread = try state.thread
        if !living.contains(thread) { missing("rcu_gp", rcu, seen: thread) }
      }
    }
    if !tasks.contains(where: { $0.tid == 2 && $0.comm.printable == "kthreadd" }) {
      missing("kthreadd", VirtualAddress(0), seen: VirtualAddress(0))
    }
    return Sightings(sightings, faults: faults)
  }
}
