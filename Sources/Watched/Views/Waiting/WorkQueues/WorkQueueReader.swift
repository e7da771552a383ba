import Binding
import CodeViews
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads queues of work, pools of workers, and what they do.
///
/// ```
/// workqueues → workqueue_struct → pool_workqueue … → its pool, works held back
/// worker_pool_idr → worker_pool → worklist, worker … → its work, its task
/// ```
/// Source: kernel/workqueue.c, `show_all_workqueues`.
struct WorkQueueReader: SettledReader {
  static let subject = "the work queues"

  private struct Queue: KernelShape {
    static let type = "workqueue_struct"
    let link = Place("list")
    let pools = Place("pwqs")
    let name = Field<[UInt8]>("name")
    let flags = Field<UInt64>("flags")
  }

  /// What joins a queue and a pool: `pool_workqueue`.
  private struct Joint: KernelShape {
    static let type = "pool_workqueue"
    let link = Place("pwqs_node")
    let inactive = Place("inactive_works", before: "5.15, f97a4a1a3f87", "delayed_works")
    let queue = Field<VirtualAddress>("wq")
    let active = Field<Int32>("nr_active")
  }

  private struct Pool: KernelShape {
    static let type = "worker_pool"
    let works = Place("worklist")
    let workers = Place("workers")
    let id = Field<Int32>("id")
    let cpu = Field<Int32>("cpu")
    let workerCount = Field<Int32>("nr_workers")
    let idleCount = Field<Int32>("nr_idle")
    let attributes = Field<VirtualAddress>("attrs")
    let lastStart = Field<UInt64>(optional: "watchdog_ts")
  }

  private struct Attributes: KernelShape {
    static let type = "workqueue_attrs"
    let nice = Field<Int32>("nice")
  }

  private struct Worker: KernelShape {
    static let type = "worker"
    let link = Place("node")
    let scheduled = Place("scheduled")
    let work = Field<VirtualAddress?>("current_work")
    let function = Field<VirtualAddress>("current_func")
    let joint = Field<VirtualAddress>("current_pwq")
    let task = Field<VirtualAddress>("task")
  }

  private struct Work: KernelShape {
    static let type = "work_struct"
    let link = Place("entry")
    let data = Field<UInt64>("data")
    let function = Field<VirtualAddress>("func")
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let tid = Field<Int32>("pid")
    let comm = Field<[UInt8]>("comm")
  }

  private let queues, poolTable: VirtualAddress
  private let queue: Bound<Queue>, joint: Bound<Joint>, pool: Bound<Pool>, attributes: Bound<Attributes>
  private let worker: Bound<Worker>, work: Bound<Work>, task: Bound<Task>
  private let tree: XArray
  /// Which bits of a work's data name its queue: the structs are aligned to it.
  private let queueMask: UInt64

  /// More works, workers and queues than any host has.
  private static let most = 1 << 20

  init(kernel: Kernel) throws {
    let types = kernel.types
    queues = try kernel.symbol("workqueues", for: Self.self)
    poolTable =
      try kernel.symbol("worker_pool_idr", for: Self.self) + types.structure("idr").field("idr_rt.xa_head").offset
    (queue, joint, pool, attributes, worker, work, task) = try types.bind()
    tree = try XArray(types: types)
    let shift = try types.enumerator("WORK_STRUCT_PWQ_SHIFT") ?? types.requiredEnumerator("WORK_STRUCT_FLAG_BITS")
    queueMask = ~((1 << UInt64(min(max(shift, 0), 16))) - 1)
  }

  /// A work half read.
  private struct Draft {
    var state: WorkItem.State
    var address: VirtualAddress
    var pool: Int?
    var worker: VirtualAddress?
    /// Known before, of works that run: their own struct may be gone.
    var function: VirtualAddress?
    var queue: VirtualAddress?
  }

  func read(_ kernel: Kernel) throws -> WorkQueueTable {
    let space = kernel.addressSpace
    let code = try kernel.reader(CodeMap.self).snapshot(in: space)
    var table = WorkQueueTable(faults: code.faults)
    let limit = min(space.mostObjects(ofSize: 32), Self.most)
    var drafts: [Draft] = []

    // Queues, and what of them waits.
    var faults: [MemoryFault] = []
    let found = space.list(of: queue, through: \.link, head: queues, limit: limit, &faults)
    if found.isEmpty, let fault = faults.first { throw fault }
    table.faults += faults
    table.queues = found.compactMap(&table.faults) { (queue) throws(MemoryFault) in
      WorkQueue(name: try queue.name, flags: try queue.flags, address: queue.address)
    }
    let indexOfQueue = Self.indices(table.queues.map(\.address))
    let joints = space.lists(
      of: joint, through: \.link, heads: table.queues.map { $0.address + queue.pools.offset }, limit: limit,
      &table.faults
    ).structs
    let held = works(at: joints.map { $0.address(of: \.inactive) }, limit, in: space, &table.faults)
    joints.forEach(&table.faults) { (joint) throws(MemoryFault) in
      guard let queue = indexOfQueue[try joint.queue] else { return }
      let active = Int(max(0, try joint.active))
      let (sum, overflow) = table.queues[queue].active.addingReportingOverflow(active)
      table.queues[queue].active = overflow ? .max : sum
      table.queues[queue].inactive += held[joint.index].count
      drafts += held[joint.index].map {
        Draft(state: .inactive, address: $0, queue: table.queues[queue].address)
      }
    }

    try readPools(in: space, limit, &table, &drafts)
    readWorks(drafts, code, in: space, &table)
    table.faults += code.symbolFaults
    return table
  }

  private static func indices(_ addresses: [VirtualAddress]) -> [VirtualAddress: Int] {
    Dictionary(addresses.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// The works in each of the lists at `heads`.
  private func works(
    at heads: [VirtualAddress], _ limit: Int, in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [[VirtualAddress]] {
    space.members(of: work, through: \.link, heads: heads, limit: limit, &faults)
  }

  /// Pools, their workers, and the works of both.
  private func readPools(
    in space: AddressSpace, _ limit: Int, _ table: inout WorkQueueTable, _ drafts: inout [Draft]
  ) throws {
    let found = tree.values(head: try space.pointer(at: poolTable), in: space, limit: min(limit, 1 << 16))
    table.faults += found.faults
    let pools = space.read(pool, at: found.values)
    let attributes = space.read(attributes, at: pools.pointers(\.attributes))
    let waiting = works(at: pools.map { $0.address(of: \.works) }, limit, in: space, &table.faults)
    let threads = space.members(
      of: worker, through: \.link, heads: pools.map { $0.address(of: \.workers) }, limit: limit, &table.faults)
    var owners: [(worker: VirtualAddress, pool: Int)] = []
    table.pools = pools.compactMap(&table.faults) { (pool) throws(MemoryFault) in
      let id = Int(try pool.id)
      let cpu = Int(try pool.cpu)
      let read = WorkerPool(
        id: id, cpu: cpu < 0 ? nil : cpu, nice: Int(try attributes[pool.index].nice),
        workers: Int(try pool.workerCount), idle: Int(try pool.idleCount), pending: waiting[pool.index].count,
        lastStart: try pool.lastStart)
      drafts += waiting[pool.index].map { Draft(state: .pending, address: $0, pool: id) }
      owners += threads[pool.index].map { ($0, id) }
      return read
    }
    table.pools.sort { $0.id < $1.id }

    let workers = space.read(worker, at: owners.map(\.worker))
    let joints = space.read(joint, at: workers.pointers(\.joint))
    let queued = works(at: workers.map { $0.address(of: \.scheduled) }, limit, in: space, &table.faults)
    workers.forEach(&table.faults) { (worker) throws(MemoryFault) in
      let pool = owners[worker.index].pool
      drafts += queued[worker.index].map {
        Draft(state: .scheduled, address: $0, pool: pool, worker: worker.address)
      }
      guard let current = try worker.work else { return }
      drafts.append(
        Draft(
          state: .running, address: current, pool: pool, worker: worker.address, function: try worker.function,
          queue: try? joints[worker.index].queue))
    }
    // Workers without a task do the work of interrupts' lower halves.
    let threaded = zip(owners, workers.pointers(\.task)).filter { $1.rawValue != 0 }
    table.workers = space.read(task, at: threaded.map(\.1)).compactMap(&table.faults) { (task) throws(MemoryFault) in
      let owner = threaded[task.index].0
      return PoolWorker(
        pool: owner.pool, tid: try task.tid, comm: try task.comm, function: nil, address: owner.worker)
    }
  }

  private func readWorks(
    _ drafts: [Draft], _ code: CodeMap.Snapshot, in space: AddressSpace, _ table: inout WorkQueueTable
  ) {
    let works = space.read(work, at: drafts.map(\.address))
    // A work that waits names its queue where it is in one: WORK_STRUCT_PWQ, bit 2.
    let joints = works.map { work in
      guard let data = try? work.data, data & 4 != 0 else { return VirtualAddress(0) }
      return VirtualAddress(data & queueMask)
    }
    let owners = space.read(joint, at: joints)
    let indexOfWorker = Self.indices(table.workers.map(\.address))
    let names = Dictionary(table.queues.map { ($0.address, $0.name) }, uniquingKeysWith: { first, _ in first })
    table.works = works.compactMap(&table.faults) { (work) throws(MemoryFault) in
      let draft = drafts[work.index]
      let address = if let known = draft.function { known } else { try work.function }
      let function = code.place(of: address)
      let queue = draft.queue ?? (try? owners[work.index].queue)
      let worker = draft.worker.flatMap { indexOfWorker[$0] }
      if draft.state == .running, let worker { table.workers[worker].function = function }
      return WorkItem(
        state: draft.state, function: function, queue: queue.flatMap { names[$0] } ?? [], pool: draft.pool,
        tid: worker.map { table.workers[$0].tid }, address: draft.address)
    }
  }
}

extension Kernel {
  /// The work queues, the pools of workers, and what is done or waits. Cost: about fifteen round trips.
  public func workQueues() throws(KernelError) -> WorkQueueTable { try read(WorkQueueReader.self) }
}
