import CodeViews
public import LinuxKernel
public import Views

/// The timers that are armed.
public struct TimerView: KernelView {
  public static let name = "timers"
  public static let group = ViewGroup.waiting
  public static let summary = "Lists the timers that are armed on each CPU: what they call, when, and for whom."
  public static let discussion = """
    EXPIRES is in seconds from the kernel's last tick. A queue is a wheel (0: a CPU's own timers; with three, 1: those that any \
    CPU may run; the last: those that an idle CPU need not wake for) or the clock of a high-resolution timer. For a \
    delayed work, FOR is its function.
    """

  public static func columns(_ options: NoOptions) -> [ViewColumn<KernelTimer>] {
    [
      ViewColumn("CPU", "cpu", \.cpu), ViewColumn("QUEUE", "queue") { name(of: $0.queue) },
      ViewColumn("EXPIRES", "expires_in_ns", in: .nanoseconds, \.expiresIn).shown {
        ElapsedTime.microseconds($0.expiresIn)
      },
      ViewColumn(json: "expires", \.expires), ViewColumn("OWNER", "owner") { $0.function.ownerName },
      ViewColumn("FUNCTION", "symbol") { $0.function.symbol }.shown { $0.function.name }
        .bad { $0.function.owner == .unknown },
      ViewColumn(json: "function", in: .address) { $0.function.address },
      ViewColumn("FOR") { timer in
        timer.work.map(\.name) ?? timer.tid.map { "\($0) \(timer.comm.printable)" } ?? ""
      },
      ViewColumn(json: "tid", \.tid), ViewColumn(json: "comm") { $0.tid == nil ? ViewValue.none : .bytes($0.comm) },
      ViewColumn(json: "work") { $0.work?.name }, ViewColumn(json: "address", in: .address, \.address).identity,
    ]
  }

  private static func name(of queue: KernelTimer.Queue) -> String {
    switch queue {
    case .wheel(let number): "wheel-\(number)"
    case .clock(let name): name
    }
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<KernelTimer> {
    let table = try kernel.timers()
    return ViewRows(table.timers, faults: table.faults)
  }
}
