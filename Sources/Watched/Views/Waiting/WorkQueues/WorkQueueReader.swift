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
struct WorkQueueReader: KernelReader {
  static let subject = "the work queues"
  typealias Field = FieldSelection.Field

  private let queues, poolTable: VirtualAddress
  private let queueLink, queuePools: Int
  private let queue: FieldSelection
  private let name, flags: Field
  private let poolWorkQueue: FieldSelection
  private let poolOfQueue, queueOfPool, activeCount: Field
  private let queuesLink, inactiveWorks: Int
  private let pool: FieldSelection
  private let poolID, poolCPU, workerCount, idleCount, attributes: Field
  private let workList, workers: Int
  private let attribute: FieldSelection
  private let nice: Field
  private let worker: FieldSelection
  private let currentWork, currentFunction, currentQueue, workerTask: Field
  private let workerLink, scheduledWorks: Int
  private let work: FieldSelection
  private let workData, workFunction: Field
  private let workLink: Int
  private let task: FieldSelection
  private let tid, comm: Field
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
    var layout = try types.structure("workqueue_struct")
    queueLink = try layout.field("list").offset
    queuePools = try layout.field("pwqs").offset
    var fields = FieldSelection(layout)
    name = try fields.want("name")
    flags = try fields.want("flags")
    queue = fields
    layout = try types.structure("pool_workqueue")
    queuesLink = try layout.field("pwqs_node").offset
    inactiveWorks = try layout.field(layout.hasField("inactive_works") ? "inactive_works" : "delayed_works").offset
    fields = FieldSelection(layout)
    poolOfQueue = try fields.want("pool")
    queueOfPool = try fields.want("wq")
    activeCount = try fields.want("nr_active")
    poolWorkQueue = fields
    layout = try types.structure("worker_pool")
    workList = try layout.field("worklist").offset
    workers = try layout.field("workers").offset
    fields = FieldSelection(layout)
    poolID = try fields.want("id")
    poolCPU = try fields.want("cpu")
    workerCount = try fields.want("nr_workers")
    idleCount = try fields.want("nr_idle")
    attributes = try fields.want("attrs")
    pool = fields
    fields = FieldSelection(try types.structure("workqueue_attrs"))
    nice = try fields.want("nice")
    attribute = fields
    layout = try types.structure("worker")
    workerLink = try layout.field("node").offset
    scheduledWorks = try layout.field("scheduled").offset
    fields = FieldSelection(layout)
    currentWork = try fields.want("current_work")
    currentFunction = try fields.want("current_func")
    currentQueue = try fields.want("current_pwq")
    workerTask = try fields.want("task")
    worker = fields
    layout = try types.structure("work_struct")
    workLink = try layout.field("entry").offset
    fields = FieldSelection(layout)
    workData = try fields.want("data")
    workFunction = try fields.want("func")
    work = fields
    fields = FieldSelection(try types.structure("task_struct"))
    tid = try fields.want("pid")
    comm = try fields.want("comm")
    task = fields
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

  func read(_ code: CodeMap.Snapshot, in space: AddressSpace) throws -> WorkQueueTable {
    var table = WorkQueueTable(faults: code.faults)
    let limit = min(space.mostObjects(ofSize: 32), Self.most)
    let walker = ListWalker(space: space, form: .circular, limit: limit)
    var drafts: [Draft] = []

    // Queues, and what of them waits.
    let members = walker.members(ofHeads: [queues])
    if members.lists[0].isEmpty, let fault = members.faults.first { throw fault }
    table.faults += members.faults
    let addresses = members.lists[0].map { $0 - queueLink }
    let queueReads = space.read(queue, at: addresses)
    for index in queueReads.indices {
      do throws(MemoryFault) {
        table.queues.append(
          WorkQueue(
            name: try queueReads.string(index, name), flags: try queueReads.load(index, flags),
            address: addresses[index]))
      } catch {
        table.faults.append(error)
      }
    }
    let indexOfQueue = Dictionary(
      table.queues.enumerated().map { ($1.address, $0) }, uniquingKeysWith: { first, _ in first })
    let links = walker.members(ofHeads: table.queues.map { $0.address + queuePools })
    table.faults += links.faults
    let joints = links.lists.flatMap { $0 }.map { $0 - queuesLink }
    let jointReads = space.read(poolWorkQueue, at: joints)
    let held = walker.members(ofHeads: joints.map { $0 + inactiveWorks })
    table.faults += held.faults
    for index in joints.indices {
      do throws(MemoryFault) {
        guard let queue = indexOfQueue[try jointReads.pointer(index, queueOfPool)] else { continue }
        let active = Int(clamping: max(0, try jointReads.signed(index, activeCount)))
        let (sum, overflow) = table.queues[queue].active.addingReportingOverflow(active)
        table.queues[queue].active = overflow ? .max : sum
        table.queues[queue].inactive += held.lists[index].count
        for link in held.lists[index] {
          drafts.append(Draft(state: .inactive, address: link - workLink, queue: table.queues[queue].address))
        }
      } catch {
        table.faults.append(error)
      }
    }

    try readPools(in: space, walker, &table, &drafts)
    readWorks(drafts, code, in: space, &table)
    table.faults += code.symbolFaults
    return table
  }

  /// Pools, their workers, and the works of both.
  private func readPools(
    in space: AddressSpace, _ walker: ListWalker, _ table: inout WorkQueueTable, _ drafts: inout [Draft]
  ) throws {
    let bytes = try space.read(poolTable, count: 8)
    let pools = tree.values(
      head: try ByteReader(bytes.span.bytes).pointer(0), in: space, limit: min(walker.limit, 1 << 16))
    table.faults += pools.faults
    let reads = space.read(pool, at: pools.values)
    let attributes = space.read(
      attribute, at: reads.indices.map { (try? reads.pointer($0, self.attributes)) ?? VirtualAddress(0) })
    let waiting = walker.members(ofHeads: pools.values.map { $0 + workList })
    let threads = walker.members(ofHeads: pools.values.map { $0 + workers })
    table.faults += waiting.faults + threads.faults
    var owners: [(worker: VirtualAddress, pool: Int)] = []
    for index in reads.indices {
      do throws(MemoryFault) {
        let id = Int(try reads.signed(index, poolID))
        let cpu = Int(try reads.signed(index, poolCPU))
        table.pools.append(
          WorkerPool(
            id: id, cpu: cpu < 0 ? nil : cpu, nice: Int(try attributes.signed(index, nice)),
            workers: Int(try reads.signed(index, workerCount)), idle: Int(try reads.signed(index, idleCount)),
            pending: waiting.lists[index].count))
        for link in waiting.lists[index] { drafts.append(Draft(state: .pending, address: link - workLink, pool: id)) }
        owners += threads.lists[index].map { ($0 - workerLink, id) }
      } catch {
        table.faults.append(error)
      }
    }
    table.pools.sort { $0.id < $1.id }

    let workerReads = space.read(worker, at: owners.map(\.worker))
    let joints = space.read(
      poolWorkQueue,
      at: workerReads.indices.map { (try? workerReads.pointer($0, currentQueue)) ?? VirtualAddress(0) })
    let queued = walker.members(ofHeads: owners.map { $0.worker + scheduledWorks })
    table.faults += queued.faults
    for index in owners.indices {
      for link in queued.lists[index] {
        drafts.append(
          Draft(state: .scheduled, address: link - workLink, pool: owners[index].pool, worker: owners[index].worker))
      }
      do throws(MemoryFault) {
        let current = try workerReads.pointer(index, currentWork)
        guard current.rawValue != 0 else { continue }
        drafts.append(
          Draft(
            state: .running, address: current, pool: owners[index].pool, worker: owners[index].worker,
            function: try workerReads.pointer(index, currentFunction), queue: try? joints.pointer(index, queueOfPool)))
      } catch {
        table.faults.append(error)
      }
    }
    let tasks = space.read(
      task, at: workerReads.indices.map { (try? workerReads.pointer($0, workerTask)) ?? VirtualAddress(0) })
    workerTasks(owners, workerReads, tasks, drafts, &table)
  }

  private func workerTasks(
    _ owners: [(worker: VirtualAddress, pool: Int)], _ reads: StructReads, _ tasks: StructReads, _ drafts: [Draft],
    _ table: inout WorkQueueTable
  ) {
    for index in owners.indices {
      // Workers without a task do the work of interrupts' lower halves.
      guard let address = try? reads.pointer(index, workerTask), address.rawValue != 0 else { continue }
      do throws(MemoryFault) {
        table.workers.append(
          PoolWorker(
            pool: owners[index].pool, tid: Int32(truncatingIfNeeded: try tasks.signed(index, tid)),
            comm: try tasks.string(index, comm), function: nil, address: owners[index].worker))
      } catch {
        table.faults.append(error)
      }
    }
  }

  private func readWorks(
    _ drafts: [Draft], _ code: CodeMap.Snapshot, in space: AddressSpace, _ table: inout WorkQueueTable
  ) {
    let reads = space.read(work, at: drafts.map(\.address))
    // A work that waits names its queue where it is in one: WORK_STRUCT_PWQ, bit 2.
    let joints = drafts.indices.map { index -> VirtualAddress in
      guard let data = try? reads.load(index, workData), data & 4 != 0 else { return VirtualAddress(0) }
      return VirtualAddress(data & queueMask)
    }
    let owners = space.read(poolWorkQueue, at: joints)
    let indexOfWorker = Dictionary(
      table.workers.enumerated().map { ($1.address, $0) }, uniquingKeysWith: { first, _ in first })
    let names = Dictionary(table.queues.map { ($0.address, $0.name) }, uniquingKeysWith: { first, _ in first })
    for (index, draft) in drafts.enumerated() {
      do throws(MemoryFault) {
        var function = draft.function ?? VirtualAddress(0)
        if draft.function == nil { function = try reads.pointer(index, workFunction) }
        let queue = draft.queue ?? (try? owners.pointer(index, queueOfPool))
        let item = WorkItem(
          state: draft.state, function: code.place(of: function), queue: queue.flatMap { names[$0] } ?? [],
          pool: draft.pool, tid: draft.worker.flatMap { indexOfWorker[$0] }.map { table.workers[$0].tid },
          address: draft.address)
        table.works.append(item)
        if draft.state == .running, let worker = draft.worker.flatMap({ indexOfWorker[$0] }) {
          table.workers[worker].function = item.function
        }
      } catch {
        table.faults.append(error)
      }
    }
  }
}

extension Kernel {
  /// The work queues, the pools of workers, and what is done or waits. Cost: about fifteen round trips.
  public func workQueues() throws(KernelError) -> WorkQueueTable {
    let reader = try reader(WorkQueueReader.self)
    let map = try self.reader(CodeMap.self)
    return try settled(\.faults) { () throws(KernelError) in
      try KernelError.reading(subject(of: WorkQueueReader.self)) {
        try reader.read(map.snapshot(in: addressSpace), in: addressSpace)
      }
    }
  }
}
