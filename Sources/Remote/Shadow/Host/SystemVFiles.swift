import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// The files of /proc/sysvipc: what processes share by System V's calls.
///
/// Source: ipc/shm.c, `sysvipc_shm_proc_show`; ipc/sem.c, `sysvipc_sem_proc_show`; ipc/msg.c, `sysvipc_msg_proc_show`.
struct SystemVFiles: KernelReader {
  static let subject = "the objects of System V"

  private struct Space: KernelShape {
    static let type = "ipc_namespace"
    let kinds = ArrayPlace("ids", most: 3)
  }

  private struct Objects: KernelShape {
    static let type = "ipc_ids"
    let head = Field<VirtualAddress>("ipcs_idr.idr_rt.xa_head")
  }

  private struct Owner: KernelShape {
    static let type = "kern_ipc_perm"
    let id = Field<Int32>("id"), key = Field<Int32>("key"), mode = Field<UInt16>("mode")
    let uid = Field<UInt32>("uid.val"), gid = Field<UInt32>("gid.val")
    let maker = Field<UInt32>("cuid.val"), makerGroup = Field<UInt32>("cgid.val")
  }

  private struct Queue: KernelShape {
    static let type = "msg_queue"
    let owner = Place("q_perm"), bytes = Field<UInt64>("q_cbytes"), count = Field<UInt64>("q_qnum")
    let sender = Field<VirtualAddress>("q_lspid"), receiver = Field<VirtualAddress>("q_lrpid")
    let sent = Field<UInt64>("q_stime"), received = Field<UInt64>("q_rtime"), changed = Field<UInt64>("q_ctime")
  }

  private struct Semaphores: KernelShape {
    static let type = "sem_array"
    let owner = Place("sem_perm"), count = Field<Int32>("sem_nsems"), changed = Field<UInt64>("sem_ctime")
    let first = Place("sems")
  }

  private struct Semaphore: KernelShape {
    static let type = "sem"
    let used = Field<Int64>("sem_otime")
  }

  private struct Segment: KernelShape {
    static let type = "shmid_kernel"
    let owner = Place("shm_perm"), file = Field<VirtualAddress>("shm_file"), size = Field<UInt64>("shm_segsz")
    let users = Field<UInt64>("shm_nattch"), maker = Field<VirtualAddress>("shm_cprid")
    let last = Field<VirtualAddress>("shm_lprid")
    let attached = Field<UInt64>("shm_atim"), detached = Field<UInt64>("shm_dtim"), changed = Field<UInt64>("shm_ctim")
  }

  private struct File: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode"), operations = Field<VirtualAddress>("f_op")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let pages = Field<UInt64>("i_data.nrpages")
  }

  private struct Memory: KernelShape {
    static let type = "shmem_inode_info"
    let inode = Place("vfs_inode"), swapped = Field<UInt64>("swapped")
  }

  private let space: Bound<Space>, objects: Bound<Objects>, owner: Bound<Owner>
  private let number: Int
  private let array: XArray

  /// The order of the kinds in a namespace.
  private enum Kind: Int { case semaphores, queues, segments }

  /// No kernel has numbers for more (IPCMNI_EXTEND).
  private static let most = 1 << 24
  private static let mostSemaphores: Int32 = 1 << 20

  init(kernel: Kernel) throws {
    (space, objects, owner) = try kernel.types.bind()
    array = try XArray(types: kernel.types)
    number =
      try kernel.types.structure("pid").field("numbers").offset + kernel.types.structure("upid").field("nr").offset
  }

  /// Where the objects of a kind lie of the namespace that a task is in, in the order of their numbers, with their owners.
  private func objects(_ kind: Kind, of task: KernelTask, _ kernel: Kernel) throws -> Structs<Owner> {
    let proxy = try kernel.pointers("nsproxy", of: "task_struct", at: [task.address])[0]
    guard proxy.rawValue != 0 else { throw ShadowError.missing }
    let own = try kernel.pointers("ipc_ns", of: "nsproxy", at: [proxy])[0]
    guard let place = space.shape.kinds.places(of: own)[safe: kind.rawValue] else {
      throw ShadowError.unreadable("a namespace without objects of this kind")
    }
    let head = try kernel.addressSpace.read(objects, at: [place])[0].head
    let found = array.values(head: head, in: kernel.addressSpace, limit: Self.most)
    if let fault = found.faults.first { throw fault }
    let order = zip(found.indices, found.values).sorted { $0.0 < $1.0 }.map(\.1)
    return kernel.addressSpace.read(owner, at: order)
  }

  /// The numbers that processes have in the first namespace, zero where there is none.
  private func pids(_ places: [VirtualAddress], _ kernel: Kernel) throws -> [Int32] {
    var batch = ReadBatch<VirtualAddress>()
    let known = places.filter { $0.rawValue != 0 }
    for place in known { batch.add(place + number, count: 4) }
    if !known.isEmpty { kernel.addressSpace.read(&batch) }
    var next = 0
    return try places.map { place in
      guard place.rawValue != 0 else { return 0 }
      defer { next += 1 }
      return try batch.reader(next).load(0, as: Int32.self)
    }
  }

  private static func line(_ columns: [(String, Int)]) -> String {
    columns.map { ProcText.padded($0, $1) }.joined(separator: " ")
  }

  /// What all lines begin with.
  private static func start(_ owner: Reading<Owner>) throws -> String {
    let mode = String(try owner.mode & 0o777, radix: 8)
    return line([("\(try owner.key)", 10), ("\(try owner.id)", 10)]) + "  " + ProcText.padded(mode, 4) + " "
  }

  private static func owners(_ owner: Reading<Owner>) throws -> String {
    line([try owner.uid, try owner.gid, try owner.maker, try owner.makerGroup].map { ("\($0)", 5) }) + " "
  }

  private static func times(_ times: [UInt64]) -> String { line(times.map { ("\($0)", 10) }) }

  func queues(_ task: KernelTask, _ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText(
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime"
        + "      ctime\n")
    let owners = try objects(.queues, of: task, kernel)
    let shape = try kernel.bound(Queue.self)
    let queues = kernel.addressSpace.read(shape, at: owners.addresses.map { $0 - shape.shape.owner.offset })
    let senders = try pids(queues.pointers(\.sender), kernel), receivers = try pids(queues.pointers(\.receiver), kernel)
    for (index, (owner, queue)) in zip(owners, queues).enumerated() {
      let counts = Self.line([
        ("\(try queue.bytes)", 11), ("\(try queue.count)", 10), ("\(senders[index])", 5), ("\(receivers[index])", 5),
      ])
      text.line(
        try Self.start(owner) + counts + " " + Self.owners(owner)
          + Self.times([queue.sent, queue.received, queue.changed]))
    }
    return text.bytes
  }

  func semaphores(_ task: KernelTask, _ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText(
      "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n")
    let owners = try objects(.semaphores, of: task, kernel)
    let (shape, one) = (try kernel.bound(Semaphores.self), try kernel.bound(Semaphore.self))
    let arrays = kernel.addressSpace.read(shape, at: owners.addresses.map { $0 - shape.shape.owner.offset })
    for (owner, array) in zip(owners, arrays) {
      let count = try array.count
      guard (0...Self.mostSemaphores).contains(count) else {
        throw ShadowError.unreadable("an array of \(count) semaphores")
      }
      let all = kernel.addressSpace.read(
        one, at: one.array(at: array.address(of: \.first), count: UInt64(count), limit: 1 << 20))
      let used = try all.reduce(0 as Int64) { max($0, try $1.used) }
      text.line(
        try Self.start(owner) + ProcText.padded("\(count)", 10) + " " + Self.owners(owner)
          + Self.times([UInt64(max(0, used)), array.changed]))
    }
    return text.bytes
  }

  /// Pages of each segment in memory, and swapped out.
  private func pages(of segments: Structs<Segment>, _ kernel: Kernel) throws -> [(resident: UInt64, swapped: UInt64)] {
    let memory = try kernel.bound(Memory.self)
    let files = try kernel.read(File.self, at: segments.pointers(\.file))
    let inodes = try kernel.read(Inode.self, at: files.pointers(\.inode))
    let memories = kernel.addressSpace.read(memory, at: inodes.addresses.map { $0 - memory.shape.inode.offset })
    let huge = kernel.symbols.address(of: "hugetlbfs_file_operations")
    return try segments.indices.map { index in
      guard try files[index].operations != huge else {
        throw ShadowError.unreadable("how many huge pages a segment has")
      }
      return (try inodes[index].pages, try memories[index].swapped)
    }
  }

  /// The same of all segments together.
  private func pages(_ task: KernelTask, _ kernel: Kernel) throws -> (UInt64, UInt64) {
    let shape = try kernel.bound(Segment.self)
    let owners = try objects(.segments, of: task, kernel)
    let segments = kernel.addressSpace.read(shape, at: owners.addresses.map { $0 - shape.shape.owner.offset })
    return try pages(of: segments, kernel).reduce(into: (0, 0)) { sum, size in
      sum.0 &+= size.resident
      sum.1 &+= size.swapped
    }
  }

  func segments(_ task: KernelTask, _ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText(
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime"
        + "      ctime                   rss                  swap\n")
    let owners = try objects(.segments, of: task, kernel)
    let shape = try kernel.bound(Segment.self)
    let segments = kernel.addressSpace.read(shape, at: owners.addresses.map { $0 - shape.shape.owner.offset })
    let makers = try pids(segments.pointers(\.maker), kernel), last = try pids(segments.pointers(\.last), kernel)
    let sizes = try pages(of: segments, kernel)
    for (index, (owner, segment)) in zip(owners, segments).enumerated() {
      let resident = sizes[index].resident &* 4096, swapped = sizes[index].swapped &* 4096
      let counts = Self.line([
        ("\(try segment.size)", 21), ("\(makers[index])", 5), ("\(last[index])", 5), ("\(try segment.users)", 6),
      ])
      text.line(
        try Self.start(owner) + counts + " " + Self.owners(owner)
          + Self.times([segment.attached, segment.detached, segment.changed]) + " "
          + Self.line([("\(resident)", 21), ("\(swapped)", 21)]))
    }
    return text.bytes
  }
}

/// Limits and sums of System V's objects, of the namespace of the first process.
public struct SystemVObjects: Sendable {
  /// Objects of one kind: how many there are, and the highest index among them, below zero where there is none.
  public struct Kind: Sendable {
    public var count: UInt64
    public var highest: Int32
    /// Pages, of segments only.
    public var resident: UInt64 = 0
    public var swapped: UInt64 = 0
  }

  public var segments, queues, semaphoreSets: Kind
  public var largestSegment, mostSegmentPages, mostSegments, segmentPages: UInt64
  public var largestMessage, largestQueue, mostQueues, messages, messageBytes: UInt64
  /// SEMMSL, SEMMNS, SEMOPM, SEMMNI.
  public var semaphoreLimits: [UInt64]
  public var semaphores: UInt64
}

extension SystemVFiles {
  private struct Limits: KernelShape {
    static let type = "ipc_namespace"
    let semaphoreLimits = Field<RawBytes>("sem_ctls"), semaphores = Field<UInt32>("used_sems")
    let largestMessage = Field<UInt32>("msg_ctlmax"), largestQueue = Field<UInt32>("msg_ctlmnb")
    let mostQueues = Field<UInt32>("msg_ctlmni")
    // Counters of each CPU since 6.1, 72d1e611082e.
    let messages = Place("percpu_msg_hdrs", before: "6.1", "msg_hdrs")
    let bytes = Place("percpu_msg_bytes", before: "6.1", "msg_bytes"), isShared = Place(optional: "percpu_msg_bytes")
    let largestSegment = Field<UInt64>("shm_ctlmax"), mostPages = Field<UInt64>("shm_ctlall")
    let pages = Field<UInt64>("shm_tot"), mostSegments = Field<UInt32>("shm_ctlmni")
  }

  private struct Counts: KernelShape {
    static let type = "ipc_ids"
    let count = Field<Int32>("in_use"), highest = Field<Int32>("max_idx")
  }

  /// Cost: some round trips, and a few for the segments.
  func sums(_ task: KernelTask, _ kernel: Kernel) throws -> SystemVObjects {
    let proxy = try kernel.pointers("nsproxy", of: "task_struct", at: [task.address])[0]
    guard proxy.rawValue != 0 else { throw ShadowError.missing }
    let place = try kernel.pointers("ipc_ns", of: "nsproxy", at: [proxy])[0]
    let own = try kernel.read(Limits.self, at: [place])[0]
    let counts = try kernel.read(Counts.self, at: space.shape.kinds.places(of: place))
    guard counts.count == 3 else { throw ShadowError.unreadable("a namespace of \(counts.count) kinds of objects") }
    func kind(_ kind: Kind) throws -> SystemVObjects.Kind {
      .init(count: UInt64(max(0, try counts[kind.rawValue].count)), highest: try counts[kind.rawValue].highest)
    }
    func sum(_ counter: VirtualAddress) throws -> UInt64 {
      UInt64(
        max(
          0,
          own.shape.isShared.isPresent
            ? try kernel.perCPUCounter(at: counter)
            : Int64(try kernel.addressSpace.load(counter, as: Int32.self))))
    }
    let limits = try own.semaphoreLimits.bytes.words32.map { UInt64($0) }
    guard limits.count >= 4 else { throw ShadowError.unreadable("the limits of semaphores") }
    var segments = try kind(.segments)
    (segments.resident, segments.swapped) = try pages(task, kernel)
    return SystemVObjects(
      segments: segments, queues: try kind(.queues), semaphoreSets: try kind(.semaphores),
      largestSegment: try own.largestSegment, mostSegmentPages: try own.mostPages,
      mostSegments: UInt64(try own.mostSegments), segmentPages: try own.pages,
      largestMessage: UInt64(try own.largestMessage), largestQueue: UInt64(try own.largestQueue),
      mostQueues: UInt64(try own.mostQueues), messages: try sum(own.address(of: \.messages)),
      messageBytes: try sum(own.address(of: \.bytes)), semaphoreLimits: limits, semaphores: UInt64(try own.semaphores))
  }
}

extension HostAnswers {
  /// What shmctl(2), msgctl(2) and semctl(2) say of all objects.
  public func systemV() throws(ShadowError) -> SystemVObjects {
    try ShadowError.answering { try host.kernel.reader(SystemVFiles.self).sums(host.thread(1).task, host.kernel) }
  }
}
