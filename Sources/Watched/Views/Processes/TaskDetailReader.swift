import Binding
public import LinuxKernel
import Memory
import Paging
public import TaskViews

/// Reads of tasks what is wanted on demand.
///
/// Source: fs/proc/array.c, `task_cap` and `task_seccomp`; fs/proc/base.c, `environ_read`.
struct TaskDetailReader: KernelReader {
  static let subject = "the details of tasks"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let credentials = Field<VirtualAddress>("real_cred")
    let mm = Field<VirtualAddress>("mm")
    let atomicFlags = Field<UInt64>("atomic_flags")
    let seccompMode = Field<Int32>(optional: "seccomp.mode")
    let seccompFilters = Field<Int32>(optional: "seccomp.filter_count")
  }

  private struct Credentials: KernelShape {
    static let type = "cred"
    // Two words until 6.3, one number since; the bytes are the same.
    let inheritable = Field<UInt64>("cap_inheritable")
    let permitted = Field<UInt64>("cap_permitted")
    let effective = Field<UInt64>("cap_effective")
    let bounding = Field<UInt64>("cap_bset")
    let ambient = Field<UInt64>("cap_ambient")
  }

  private let task: Bound<Task>, credentials: Bound<Credentials>, map: Bound<MemoryShape>

  init(kernel: Kernel) throws {
    (task, credentials, map) = try kernel.types.bind()
  }

  func read(
    _ tasks: [KernelTask], _ parts: TaskDetails.Parts, _ kernel: Kernel, budget: Int
  ) throws(KernelError) -> TaskDetailTable {
    let space = kernel.addressSpace
    var table = TaskDetailTable(details: tasks.map { _ in TaskDetails() })
    let addresses = tasks.map(\.address)
    if parts.contains(.privileges) { readPrivileges(addresses, in: space, &table) }
    if parts.contains(.environment) { readEnvironments(tasks, in: space, budget: budget, &table) }
    if parts.contains(.namespaces) {
      let reader = try kernel.reader(NamespaceReader.self)
      let namespaces = reader.namespaces(ofTasks: addresses, in: space, &table.faults)
      for (index, own) in namespaces.enumerated() { table.details[index].namespaces = own }
    }
    if parts.contains(.controlGroups) {
      let reader = try kernel.reader(ControlGroupReader.self)
      do throws(MemoryFault) {
        let places = try reader.places(ofTasks: addresses, in: space, &table.faults)
        for (index, own) in places.enumerated() { table.details[index].controlGroups = own }
      } catch {
        table.faults.append(error)
      }
    }
    return table
  }

  private func readPrivileges(_ addresses: [VirtualAddress], in space: AddressSpace, _ table: inout TaskDetailTable) {
    let tasks = space.read(task, at: addresses)
    let owners = space.read(credentials, at: tasks.pointers(\.credentials))
    tasks.forEach(&table.faults) { (task) throws(MemoryFault) in
      let owner = owners[task.index]
      table.details[task.index].privileges = TaskDetails.Privileges(
        capabilities: TaskDetails.Capabilities(
          inheritable: try owner.inheritable, permitted: try owner.permitted, effective: try owner.effective,
          bounding: try owner.bounding, ambient: try owner.ambient),
        // PFA_NO_NEW_PRIVS (include/linux/sched.h).
        noNewPrivileges: try task.atomicFlags & 1 != 0, seccompMode: Int(try task.seccompMode),
        seccompFilters: Int(try task.seccompFilters))
    }
  }

  /// An environment in its process's memory.
  private struct Area {
    var task: Int
    var root: PhysicalAddress
    var start: UInt64
    var count: Int
    var isTruncated: Bool
  }

  /// The environments of processes; threads get their leader's. Cost: three round trips.
  private func readEnvironments(
    _ tasks: [KernelTask], in space: AddressSpace, budget: Int, _ table: inout TaskDetailTable
  ) {
    let reads = space.read(task, at: tasks.map(\.address))
    var owners: [(task: Int, map: VirtualAddress)] = []
    var positions: [VirtualAddress: Int] = [:]
    for index in tasks.indices where !tasks[index].isKernelThread {
      guard let map = try? reads[index].mm, map.rawValue != 0, positions[map] == nil else { continue }
      positions[map] = owners.count
      owners.append((index, map))
    }
    let maps = space.read(map, at: owners.map(\.map))
    var areas: [Area] = []
    for (index, owner) in owners.enumerated() {
      do throws(MemoryFault) {
        if let area = try area(maps[index], of: owner.task, in: space) { areas.append(area) }
      } catch {
        table.details[owner.task].environmentFault = .unreadable(error)
      }
    }
    // The longest are cut where all together want more than there is room for.
    var share = Int.max
    var rest = max(0, budget)
    for (position, count) in areas.map(\.count).sorted().enumerated() {
      let fair = rest / (areas.count - position)
      if count > fair {
        share = fair
        break
      }
      rest -= count
    }
    var batch = ReadBatch<MemoryLocation>()
    var firsts: [Int] = []
    for index in areas.indices {
      if areas[index].count > share {
        areas[index].count = share
        areas[index].isTruncated = true
      }
      firsts.append(batch.entries.count)
      let end = areas[index].start + UInt64(areas[index].count)
      TaskReader.addPieces(of: areas[index].start..<end, areas[index].root, to: &batch)
    }
    space.walker.read(&batch)
    for (index, area) in areas.enumerated() {
      let (bytes, fault) = TaskReader.join(from: firsts[index], count: area.count, batch)
      table.details[area.task].environmentBytes = bytes
      table.details[area.task].environmentFault =
        fault.map { .unreadable($0) } ?? (area.isTruncated ? .truncated : nil)
    }
    for index in tasks.indices where !tasks[index].isKernelThread {
      guard let map = try? reads[index].mm, let position = positions[map] else { continue }
      let owner = owners[position].task
      table.details[index].environmentBytes = table.details[owner].environmentBytes
      table.details[index].environmentFault = table.details[owner].environmentFault
    }
  }

  private func area(
    _ map: Reading<MemoryShape>, of task: Int, in space: AddressSpace
  ) throws(MemoryFault) -> Area? {
    let start = try map.environmentStart
    let end = try map.environmentEnd
    guard start < end else { return nil }
    guard end >> 63 == 0 else {
      throw MemoryFault(.virtual(VirtualAddress(start)), .inconsistent("an environment outside the process's memory"))
    }
    let pgd = try map.pgd
    guard case .physical(let root) = space.location(of: pgd, count: 4096) else {
      throw MemoryFault(.virtual(pgd), .inconsistent("a root page table outside the kernel's direct map"))
    }
    // As much as the arguments of a process may have of its stack.
    let limit: UInt64 = 1 << 20
    return Area(
      task: task, root: root, start: start, count: Int(min(end - start, limit)), isTruncated: end - start > limit)
  }
}

extension Kernel {
  /// What `parts` name of `tasks`.
  ///
  /// All environments together take `environmentBudget` bytes at most; where they want more, the longest are cut to
  /// equal lengths and marked. Cost: three to ten round trips for each part, however many tasks there are.
  public func details(
    of tasks: [KernelTask], _ parts: TaskDetails.Parts, environmentBudget: Int = 16 << 20
  ) throws(KernelError) -> TaskDetailTable {
    try read(with: TaskDetailReader.self) { reader in
      try reader.read(tasks, parts, self, budget: environmentBudget)
    }
  }
}
