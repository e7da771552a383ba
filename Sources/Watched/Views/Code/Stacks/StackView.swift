public import LinuxKernel
import Memory
import TaskViews
public import Views

/// The kernel stacks of tasks.
public struct StackView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "Processes or threads.") public var pids: [Int32] = []
    @ViewOption(help: "Every thread of the host.") public var all = false
    public init() {}

    public func problem() -> String? {
      pids.isEmpty != all ? "Give either process ids or --all: whose stacks?" : nil
    }
  }

  public static let name = "stack"
  public static let group = ViewGroup.processes
  public static let summary = "Prints the kernel stacks of tasks that do not run, with symbols."
  public static let discussion = """
    Innermost function first, as /proc/PID/stack, with the scheduler's own functions on top. Of a process all threads \
    are shown. A stack that does not follow from the kernel's own tables ends with what is wrong.
    """

  public static func columns(_ options: Options) -> [ViewColumn<KernelStack>] {
    [
      ViewColumn("PID", "tgid", \.tgid), ViewColumn("TID", "pid", \.tid).identity, ViewColumn("COMM", "comm", \.comm),
      ViewColumn("STACK", "stack") { $0.frames.map(text) },
      ViewColumn(json: "addresses", in: .address) { $0.frames.map(\.address) },
      ViewColumn("ENDING", "ending") { stack in
        switch stack.ending {
        case .complete: "complete"
        case .running: "running"
        case .released: "ended"
        case .broken: "broken"
        }
      }.bad { $0.isBroken },
      ViewColumn(json: "error") { stack -> ViewValue in
        if case .broken(let fault) = stack.ending { .text("\(fault)") } else { .absent }
      },
    ]
  }

  /// A block of lines for each stack.
  public static func text(_ rows: [KernelStack], _ options: Options) -> String? {
    rows.map { stack in
      let id = stack.tid == stack.tgid ? "\(stack.tid)" : "\(stack.tgid)/\(stack.tid)"
      let frames = stack.frames.map { "  \(text($0))\n" }.joined()
      let ending =
        switch stack.ending {
        case .complete: ""
        case .running: "  (running)\n"
        case .released: "  (ended)\n"
        case .broken(let fault): "  (no further: \(fault))\n"
        }
      return "\(id) \(stack.comm.printable)\n\(frames)\(ending)"
    }.joined(separator: "\n")
  }

  private static func text(_ frame: KernelStack.Frame) -> String {
    guard let place = frame.place else {
      return "\(frame.address)\(frame.module.map { " [\($0.printable)]" } ?? "")"
    }
    return Array(place.description.utf8).printable
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[("all", "yes")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<KernelStack> {
    var table = try kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
    let pids = options.pids
    if !options.all { table.tasks.removeAll { !pids.contains($0.tgid) && !pids.contains($0.tid) } }
    let missing = pids.filter { pid in !table.tasks.contains { $0.tgid == pid || $0.tid == pid } }
    let stacks = try kernel.stacks(of: table.tasks)
    let broken = stacks.stacks.compactMap { stack in
      if case .broken(let fault) = stack.ending { fault } else { nil }
    }
    let names = missing.map { "\($0)" }.joined(separator: ", ")
    return ViewRows(
      stacks.stacks, faults: (options.all ? table.faults : []) + stacks.faults + broken,
      shortcomings: missing.isEmpty ? [] : ["there is no process or thread \(names)"])
  }
}

extension KernelStack {
  fileprivate var isBroken: Bool { if case .broken = ending { true } else { false } }
}
