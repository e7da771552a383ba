import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging
import TaskViews

/// Reads control groups: the hierarchies, the groups in them, and which tasks are where.
///
/// ```
/// cgroup_roots → cgroup_root → cgroup → self.children …      → mem_cgroup, pids_cgroup, task_group
/// task_struct → css_set → cgrp_cset_link … → cgroup           → kernfs_node …, which have the names
/// ```
/// Source: kernel/cgroup/cgroup.c, `proc_cgroup_show` and `cgroup_path_ns`; kernel/cgroup/cgroup-v1.c,
/// `proc_cgroupstats_show`.
struct ControlGroupReader: KernelReader {
  static let subject = "the control groups"

  private struct Root: KernelShape {
    static let type = "cgroup_root"
    let link = Place("root_list")
    let group = Place("cgrp")
    let id = Field<Int32>("hierarchy_id")
    let mask = Field<UInt64>("subsys_mask")
    let name = Field<[UInt8]>("name")
    let groupCount = Field<Int32>("nr_cgrps")
  }

  private struct Group: KernelShape {
    static let type = "cgroup"
    let state = Place("self")
    let children = Place("self.children")
    let sibling = Place("self.sibling")
    let flags = Field<UInt64>("self.flags")
    let parent = Field<VirtualAddress?>("self.parent")
    let level = Field<Int32>("level")
    let node = Field<VirtualAddress>("kn")
    let subtreeControl = Field<UInt64>("subtree_control")
    let root = Field<VirtualAddress>("root")
    // As many as the mask of a hierarchy has bits.
    let controllers = ArrayPlace("subsys", most: 32)
    let memory = Element<VirtualAddress?>(optional: "subsys", at: "memory_cgrp_id")
    let pids = Element<VirtualAddress?>(optional: "subsys", at: "pids_cgrp_id")
    let cpu = Element<VirtualAddress?>(optional: "subsys", at: "cpu_cgrp_id")
  }

  private struct Subsystem: KernelShape {
    static let type = "cgroup_subsys"
    let name = Field<VirtualAddress>("name")
    let legacyName = Field<VirtualAddress>("legacy_name")
    let root = Field<VirtualAddress>("root")
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let set = Field<VirtualAddress>("cgroups")
    let flags = Field<UInt64>("flags")
  }

  private struct TaskSet: KernelShape {
    static let type = "css_set"
    let links = Place("cgrp_links")
  }

  private struct Link: KernelShape {
    static let type = "cgrp_cset_link"
    let link = Place("cgrp_link")
    let group = Field<VirtualAddress>("cgrp")
  }

  private struct Node: KernelShape {
    static let type = "kernfs_node"
    let parent = Field<VirtualAddress?>("__parent", before: "6.15, 633488947ef6", "parent")
    let name = Field<VirtualAddress>("name")
    let id = Field<UInt64>("id")
  }

  private struct MemoryState: KernelShape {
    static let type = "mem_cgroup"
    let state = Place("css")
    let usage = Field<UInt64>("memory.usage")
    let most = Field<UInt64>("memory.max")
    let high = Field<UInt64>("memory.high")
  }

  private struct PIDState: KernelShape {
    static let type = "pids_cgroup"
    let state = Place("css")
    let count = Field<UInt64>("counter")
    let most = Field<UInt64>("limit")
  }

  private struct CPUState: KernelShape {
    static let type = "task_group"
    let state = Place("css")
    let quota = Field<UInt64>("cfs_bandwidth.quota")
    let period = Field<UInt64>("cfs_bandwidth.period")
  }

  private let rootsHead, defaultRoot, subsystems: VirtualAddress
  /// Controllers that version 2 does not show: 16-bit masks (`cgrp_dfl_inhibit_ss_mask` and the implicit ones).
  private let hiddenMasks: [VirtualAddress]
  private let enabledKeys: SymbolTable
  private let root: Bound<Root>, group: Bound<Group>, subsystem: Bound<Subsystem>, task: Bound<Task>
  private let set: Bound<TaskSet>, link: Bound<Link>, node: Bound<Node>
  // Nil where this kernel has not the controller.
  private let memory: Bound<MemoryState>?
  private let pids: Bound<PIDState>?
  private let cpu: Bound<CPUState>?

  /// More hierarchies, and deeper ones, than anybody makes.
  private static let mostRoots = 1 << 10
  private static let deepest = 1 << 10
  /// Bytes of all paths together: groups that are deep in one another have long ones.
  private static let pathBudget = 64 << 20

  init(kernel: Kernel) throws {
    let types = kernel.types
    rootsHead = try kernel.symbol("cgroup_roots", for: Self.self)
    defaultRoot = try kernel.symbol("cgrp_dfl_root", for: Self.self)
    subsystems = try kernel.symbol("cgroup_subsys", for: Self.self)
    hiddenMasks = ["cgrp_dfl_inhibit_ss_mask", "cgrp_dfl_implicit_ss_mask"].compactMap {
      kernel.symbols.address(of: $0)
    }
    enabledKeys = kernel.symbols
    (root, group, subsystem, task, set, link, node) = try types.bind()
    memory = try? Bound(types)
    pids = try? Bound(types)
    cpu = try? Bound(types)
  }

  // MARK: Controllers and hierarchies

  private struct Hierarchy {
    var id: Int
    var mask: UInt64
    var name: [UInt8]
    var groups: Int
  }

  private func hierarchies(_ roots: [VirtualAddress], in space: AddressSpace) -> [VirtualAddress: Hierarchy] {
    var result: [VirtualAddress: Hierarchy] = [:]
    for root in space.read(root, at: roots) {
      guard let id = try? root.id, let mask = try? root.mask, let name = try? root.name,
        let count = try? root.groupCount
      else { continue }
      result[root.address] = Hierarchy(id: Int(id), mask: mask, name: name, groups: Int(count))
    }
    return result
  }

  private static func hierarchy(
    of group: Reading<Group>, _ hierarchies: [VirtualAddress: Hierarchy]
  ) throws(MemoryFault) -> Hierarchy {
    guard let hierarchy = hierarchies[try group.root] else {
      throw MemoryFault(.virtual(group.address), .inconsistent("a control group of no hierarchy"))
    }
    return hierarchy
  }

  private struct Controller {
    var name: String
    var legacyName: String
    var root: VirtualAddress
  }

  /// The kernel's controllers, by the number of their bit. Cost: three round trips.
  private func controllers(in space: AddressSpace) throws(MemoryFault) -> [Controller] {
    let reads = space.read(
      subsystem, at: try space.pointers(inArrayAt: subsystems, count: group.controllers.count))
    let texts = space.strings(at: reads.pointers(\.name) + reads.pointers(\.legacyName), limit: 64)
    return try reads.map { (controller) throws(MemoryFault) in
      Controller(
        name: String(decoding: try texts[controller.index].get(), as: UTF8.self),
        legacyName: String(decoding: try texts[reads.count + controller.index].get(), as: UTF8.self),
        root: try controller.root)
    }
  }

  private static func names(_ mask: UInt64, _ controllers: [Controller], _ name: KeyPath<Controller, String>)
    -> [String]
  {
    controllers.indices.filter { mask >> UInt64($0) & 1 != 0 }.map { controllers[$0][keyPath: name] }
  }

  // MARK: Tasks

  /// Which groups the tasks at `addresses` are in; those of each hierarchy.
  private func groups(
    ofTasks addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(groups: [VirtualAddress], isExiting: Bool)] {
    let tasks = space.read(task, at: addresses)
    var sets: [VirtualAddress] = []
    var position: [VirtualAddress: Int] = [:]
    for set in tasks.pointers(\.set) where set.rawValue != 0 && position[set] == nil {
      position[set] = sets.count
      sets.append(set)
    }
    let (owners, links) = space.lists(
      of: link, through: \.link, heads: sets.map { $0 + set.links.offset },
      limit: min(max(1 << 10, sets.count &* 64), 1 << 20), &faults)
    var groupsOfSet = [[VirtualAddress]](repeating: [], count: sets.count)
    links.forEach(&faults) { (link) throws(MemoryFault) in groupsOfSet[owners[link.index]].append(try link.group) }
    return tasks.map { task in
      faults.keep { () throws(MemoryFault) in
        // PF_EXITING (include/linux/sched.h).
        (groups: try position[task.set].map { groupsOfSet[$0] } ?? [], isExiting: try task.flags & 0x4 != 0)
      } ?? (groups: [], isExiting: false)
    }
  }

  /// The places of the tasks at `addresses`, newest hierarchy first, as the kernel lists them.
  func places(
    ofTasks addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) throws(MemoryFault) -> [[ControlGroupPlace]] {
    let memberships = groups(ofTasks: addresses, in: space, &faults)
    let controllers = try self.controllers(in: space)
    let groups = space.read(group, at: Array(Set(memberships.flatMap(\.groups))).sorted())
    let hierarchies = self.hierarchies(Array(Set(groups.pointers(\.root))), in: space)
    let paths = self.paths(ofNodes: groups.pointers(\.node), in: space)
    var places: [VirtualAddress: ControlGroupPlace] = [:]
    groups.forEach(&faults) { (group) throws(MemoryFault) in
      let hierarchy = try Self.hierarchy(of: group, hierarchies)
      let isDefault = try group.root == defaultRoot
      var names = isDefault ? [] : Self.names(hierarchy.mask, controllers, \.legacyName)
      if !isDefault, !hierarchy.name.isEmpty {
        names.append("name=" + String(decoding: hierarchy.name, as: UTF8.self))
      }
      let isOnline = try group.flags & Self.online != 0
      places[group.address] = ControlGroupPlace(
        hierarchy: hierarchy.id, controllers: names, path: try paths[group.index].get(),
        isDeleted: isDefault && !isOnline)
    }
    return memberships.map { membership in
      membership.groups.compactMap { places[$0] }.sorted { $0.hierarchy > $1.hierarchy }.map { place in
        // A task that ends shows as one of the root's in hierarchies of version 1.
        guard membership.isExiting, place.hierarchy != 0 else { return place }
        return ControlGroupPlace(
          hierarchy: place.hierarchy, controllers: place.controllers, path: [UInt8(ascii: "/")], isDeleted: false)
      }
    }
  }

  /// `CSS_ONLINE` (include/linux/cgroup-defs.h).
  private static let online: UInt64 = 2

  /// The paths of directories, from their hierarchy's root down. Cost: two round trips for each level.
  private func paths(ofNodes nodes: [VirtualAddress], in space: AddressSpace) -> [Result<[UInt8], MemoryFault>] {
    var known: [VirtualAddress: Result<(parent: VirtualAddress?, name: [UInt8]), MemoryFault>] = [:]
    var level = Set(nodes)
    for _ in 0..<Self.deepest where !level.isEmpty {
      let reads = space.read(node, at: Array(level))
      let names = space.strings(at: reads.pointers(\.name), limit: 256)
      for node in reads {
        known[node.address] = Result { () throws(MemoryFault) in (try node.parent, try names[node.index].get()) }
      }
      level = Set(reads.pointers(\.parent).filter { $0.rawValue != 0 && known[$0] == nil })
    }
    var spent = 0
    return nodes.map { node in
      Result { () throws(MemoryFault) in
        var parts: [[UInt8]] = []
        var current = node
        while let (next, name) = try known[current]?.get(), let parent = next {
          parts.append(name)
          spent += name.count + 16
          guard parts.count < Self.deepest, spent < Self.pathBudget else {
            throw MemoryFault(.virtual(node), .inconsistent("a control group deeper than \(Self.deepest) levels"))
          }
          current = parent
        }
        return parts.isEmpty ? [UInt8(ascii: "/")] : parts.reversed().flatMap { [UInt8(ascii: "/")] + $0 }
      }
    }
  }

  // MARK: Groups

  /// All groups of all hierarchies.
  ///
  /// - Parameter tasks: those that are counted.
  func read(tasks: [KernelTask], in space: AddressSpace) throws(MemoryFault) -> ControlGroupTable {
    var table = ControlGroupTable()
    let controllers = try self.controllers(in: space)
    var hidden: UInt64 = 0
    for mask in hiddenMasks { hidden |= UInt64(try space.load(mask, as: UInt16.self)) }
    let roots = space.members(
      of: root, through: \.link, heads: [rootsHead], limit: Self.mostRoots, &table.faults
    ).flatMap { $0 }
    let hierarchies = self.hierarchies(roots + controllers.map(\.root), in: space)
    table.controllers = try controllers.map { controller throws(MemoryFault) in
      let hierarchy = hierarchies[controller.root]
      var isEnabled = true
      // A static key, which counts who wants it on.
      if let key = enabledKeys.address(of: "\(controller.name)_cgrp_subsys_enabled_key") {
        isEnabled = try space.load(key, as: Int32.self) > 0
      }
      return ControlGroupController(
        name: controller.name, legacyName: controller.legacyName, hierarchy: hierarchy?.id ?? 0,
        groups: hierarchy?.groups ?? 0, isEnabled: isEnabled)
    }
    let ordered = roots.sorted { (hierarchies[$0]?.id ?? .max) < (hierarchies[$1]?.id ?? .max) }
    let addresses = descendants(of: ordered.map { $0 + root.group.offset }, in: space, &table.faults)
    readGroups(addresses, hierarchies, controllers, hidden: hidden, in: space, into: &table)
    count(tasks, in: space, &table)
    return table
  }

  /// The groups below `roots` and themselves: parents before their children. Cost: a few round trips a level.
  private func descendants(
    of roots: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [VirtualAddress] {
    let limit = space.mostObjects(ofSize: group.size)
    var below: [VirtualAddress: [VirtualAddress]] = [:]
    var seen = Set(roots)
    var level = roots
    var links: Set<VirtualAddress> = []
    for _ in 0..<Self.deepest where !level.isEmpty {
      let lists = space.members(
        of: group, through: \.sibling, heads: level.map { $0 + group.children.offset }, limit: limit, seen: &links,
        &faults)
      var next: [VirtualAddress] = []
      for (parent, list) in zip(level, lists) {
        for group in list {
          guard seen.count < limit, seen.insert(group).inserted else {
            faults.append(
              MemoryFault(.virtual(group), .inconsistent("a tree that holds a group twice, or more than \(limit)")))
            continue
          }
          below[parent, default: []].append(group)
          next.append(group)
        }
      }
      level = next
    }
    if let deep = level.first {
      faults.append(MemoryFault(.virtual(deep), .inconsistent("control groups of more than \(Self.deepest) levels")))
    }
    var result: [VirtualAddress] = []
    var open = Array(roots.reversed())
    while let group = open.popLast() {
      result.append(group)
      open += (below[group] ?? []).reversed()
    }
    return result
  }

  private func readGroups(
    _ addresses: [VirtualAddress], _ hierarchies: [VirtualAddress: Hierarchy], _ controllers: [Controller],
    hidden: UInt64, in space: AddressSpace, into table: inout ControlGroupTable
  ) {
    let groups = space.read(group, at: addresses)
    let nodes = space.read(node, at: groups.pointers(\.node))
    let paths = self.paths(ofNodes: nodes.addresses, in: space)
    var controlOf: [VirtualAddress: UInt64] = [:]
    var memories: [State] = []
    var pids: [State] = []
    var cpus: [State] = []
    groups.forEach(&table.faults) { (group) throws(MemoryFault) in
      let hierarchy = try Self.hierarchy(of: group, hierarchies)
      let parent = try group.parent
      let isDefault = try group.root == defaultRoot
      let control = try group.subtreeControl
      controlOf[group.address(of: \.state)] = control
      // What the parent passes on; a root has all of its hierarchy.
      var available = isDefault ? hierarchy.mask & ~hidden : hierarchy.mask
      if let parent, isDefault { available = controlOf[parent] ?? 0 }
      let found = ControlGroup(
        address: group.address, hierarchy: hierarchy.id, id: try nodes[group.index].id,
        path: try paths[group.index].get(), level: Int(try group.level),
        controllers: Self.names(available, controllers, isDefault ? \.name : \.legacyName),
        subtreeControl: isDefault ? Self.names(control, controllers, \.name) : [],
        isDying: try group.flags & Self.online == 0)
      // The root has no limits, and keeps no account of its own.
      if parent != nil {
        if let state = try group.memory { memories.append((table.groups.count, state)) }
        if let state = try group.pids { pids.append((table.groups.count, state)) }
        if let state = try group.cpu { cpus.append((table.groups.count, state)) }
      }
      table.groups.append(found)
    }
    readLimits(memory, \.state, memories, in: space, &table) { (group, state) throws(MemoryFault) in
      let (most, high) = (try state.most, try state.high)
      group.memoryCurrent = try state.usage &* 4096
      group.memoryMax = Self.limit(most, none: Self.pageCounterMax).map { $0 &* 4096 }
      group.memoryHigh = Self.limit(high, none: Self.pageCounterMax).map { $0 &* 4096 }
    }
    readLimits(self.pids, \.state, pids, in: space, &table) { (group, state) throws(MemoryFault) in
      let count = try state.count
      // PIDS_MAX: one more than there can be (kernel/cgroup/pids.c, PID_MAX_LIMIT).
      group.pidsMax = Self.limit(try state.most, none: 4 << 20 | 1)
      group.pidsCurrent = count
    }
    readLimits(cpu, \.state, cpus, in: space, &table) { (group, state) throws(MemoryFault) in
      let period = try state.period
      // RUNTIME_INF (kernel/sched/sched.h).
      group.cpuQuota = Self.limit(try state.quota, none: .max).map { $0 / 1000 }
      group.cpuPeriod = period / 1000
    }
  }

  /// `PAGE_COUNTER_MAX` (include/linux/page_counter.h).
  private static let pageCounterMax = UInt64(Int64.max) / 4096

  private static func limit(_ value: UInt64, none: UInt64) -> UInt64? { value >= none ? nil : value }

  /// What a controller keeps for a group: the group's number, and the address of the part that all controllers share.
  private typealias State = (group: Int, address: VirtualAddress)

  private func readLimits<Shape>(
    _ bound: Bound<Shape>?, _ part: KeyPath<Shape, Place>, _ states: [State], in space: AddressSpace,
    _ table: inout ControlGroupTable, _ set: (inout ControlGroup, Reading<Shape>) throws(MemoryFault) -> Void
  ) {
    guard let bound else { return }
    let offset = bound.shape[keyPath: part].offset
    space.read(bound, at: states.map { $0.address - offset }).forEach(&table.faults) { (state) throws(MemoryFault) in
      try set(&table.groups[states[state.index].group], state)
    }
  }

  private func count(_ tasks: [KernelTask], in space: AddressSpace, _ table: inout ControlGroupTable) {
    var threads: [VirtualAddress: Int] = [:]
    var processes: [VirtualAddress: Int] = [:]
    let memberships = groups(ofTasks: tasks.map(\.address), in: space, &table.faults)
    for (task, membership) in zip(tasks, memberships) {
      // A process that has ended and awaits its parent is in no group any more (`cgroup_exit`).
      let isDead = task.state == .zombie || task.state == .dead
      for group in membership.groups {
        if !isDead { threads[group, default: 0] += 1 }
        if task.isLeader, !isDead || task.threadCount > 1 { processes[group, default: 0] += 1 }
      }
    }
    for index in table.groups.indices {
      table.groups[index].threads = threads[table.groups[index].address] ?? 0
      table.groups[index].processes = processes[table.groups[index].address] ?? 0
    }
  }
}

extension Kernel {
  /// All control groups, and the controllers that there are.
  ///
  /// Cost: that of all tasks, and about five round trips for each level of the deepest hierarchy.
  public func controlGroups() throws(KernelError) -> ControlGroupTable {
    let tasks = try tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
    var table = try read(with: ControlGroupReader.self, about: ControlGroupReader.subject) { reader in
      try reader.read(tasks: tasks.tasks, in: addressSpace)
    }
    table.faults += tasks.faults
    return table
  }
}
