import CodeViews
public import LinuxKernel
public import Views

/// The kernel's pools of workers and what they do.
public struct WorkQueueView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(help: "List the queues, too.") public var queues = false
    public init() {}
  }

  public enum Row: Sendable {
    case pool(WorkerPool)
    case work(WorkItem)
    case queue(WorkQueue)
    case worker(PoolWorker)

    fileprivate var pool: WorkerPool? { if case .pool(let pool) = self { pool } else { nil } }
    fileprivate var work: WorkItem? { if case .work(let work) = self { work } else { nil } }
    fileprivate var queue: WorkQueue? { if case .queue(let queue) = self { queue } else { nil } }
    fileprivate var worker: PoolWorker? { if case .worker(let worker) = self { worker } else { nil } }
  }

  public static let name = "workqueues"
  public static let group = ViewGroup.waiting
  public static let summary = "Lists the kernel's pools of workers, what they do, and what waits for them."
  public static let discussion = """
    A pool of a CPU has its number, others serve several. Works are running, scheduled (next for a worker that is busy), \
    pending in a pool, or inactive: held back by their queue. JSON tells apart by kind: queue, pool, worker, work.
    """

  public static func sections(_ options: Options) -> [ViewSection<Row>] {
    [
      ViewSection(pools, takes: { $0.pool != nil }), ViewSection(works, takes: { $0.work != nil }),
      ViewSection(queues, isInTable: options.queues, takes: { $0.queue != nil }),
      ViewSection(workers, isInTable: false, takes: { $0.worker != nil }),
    ]
  }

  private static var pools: [ViewColumn<Row>] {
    [
      ViewColumn(json: "kind") { _ in "pool" }, ViewColumn("POOL", "id") { $0.pool?.id }.identity,
      ViewColumn("CPU", "cpu") { $0.pool?.cpu }.shown { $0.pool?.cpu.map { "\($0)" } ?? "-" },
      ViewColumn("NICE", "nice") { $0.pool?.nice }, ViewColumn("WORKERS", "workers") { $0.pool?.workers },
      ViewColumn("IDLE", "idle") { $0.pool?.idle }, ViewColumn("PENDING", "pending") { $0.pool?.pending },
    ]
  }

  private static var works: [ViewColumn<Row>] {
    [
      ViewColumn(json: "kind") { _ in "work" }, ViewColumn("STATE", "state") { $0.work?.state.rawValue },
      ViewColumn("POOL", "pool") { $0.work?.pool }.shown { $0.work?.pool.map { "\($0)" } ?? "-" },
      ViewColumn("WORKER", "tid") { $0.work?.tid }.shown { $0.work?.tid.map { "\($0)" } ?? "-" },
      ViewColumn("QUEUE", "queue") { $0.work?.queue },
    ] + place { $0.work?.function } + [ViewColumn(json: "address", in: .address) { $0.work?.address }]
  }

  private static var queues: [ViewColumn<Row>] {
    [
      ViewColumn(json: "kind") { _ in "queue" }, ViewColumn("ACTIVE", "active") { $0.queue?.active },
      ViewColumn("INACTIVE", "inactive") { $0.queue?.inactive },
      ViewColumn("FLAGS", "flags") { $0.queue?.flags }.shown { "0x\(String($0.queue?.flags ?? 0, radix: 16))" },
      ViewColumn("QUEUE", "name") { $0.queue?.name }.identity,
      ViewColumn(json: "address", in: .address) { $0.queue?.address },
    ]
  }

  private static var workers: [ViewColumn<Row>] {
    [
      ViewColumn(json: "kind") { _ in "worker" }, ViewColumn("POOL", "pool") { $0.worker?.pool },
      ViewColumn("TID", "tid") { $0.worker?.tid }, ViewColumn("COMM", "comm") { $0.worker?.comm },
    ] + place { $0.worker?.function }
  }

  private static func place(_ code: @escaping @Sendable (Row) -> CodePlace?) -> [ViewColumn<Row>] {
    [
      ViewColumn("OWNER", "owner") { code($0)?.ownerName },
      ViewColumn("FUNCTION", "symbol") { code($0)?.symbol }.shown { code($0)?.name ?? "" },
      ViewColumn(json: "function", in: .address) { code($0)?.address },
    ]
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[("queues", "yes")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    let table = try kernel.workQueues()
    let rows: [Row] =
      table.queues.map { .queue($0) } + table.pools.map { .pool($0) } + table.workers.map { .worker($0) }
      + table.works.map { .work($0) }
    return ViewRows(rows, faults: table.faults)
  }
}
