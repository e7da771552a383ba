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

  typealias Field = FieldSelection.Field
  private let rootsHead: VirtualAddress
  private let rootLink: Int
  private let rootGroup: Int
  private let defaultRoot: VirtualAddress
  /// Controllers that version 2 does not show: 16-bit masks (`cgrp_dfl_inhibit_ss_mask` and the implicit ones).
  private let hiddenMasks: [VirtualAddress]
  private let subsystems: VirtualAddress
  private let subsystemCount: Int
  private let enabledKeys: SymbolTable
  private let root: FieldSelection
  private let hierarchyID, subsystemMask, rootName, groupCount: Field
  private let group: FieldSelection
  private let flags, level, node, subtreeControl, groupRoot, parent: Field
  private let states: [Field]
  private let selfOffset, children, sibling: Int
  private let subsystem: FieldSelection
  private let name, legacyName, subsystemRoot: Field
  private let task: FieldSelection
  private let taskSet, taskFlags: Field
  private let links, linkOffset: Int
  private let link: FieldSelection
  private let linkGroup: Field
  private let nodeSelection: FieldSelection
  private let nodeParent, nodeName, nodeID: Field
  private let memory, pids, cpu: Limits?
  private let groupSize: Int

  /// What a controller keeps for a group.
  private struct Limits {
    let index: Int
    let selection: FieldSelection
    let fields: [Field]

    /// Nil where this kernel has not the controller.
    init?(_ types: TypeTable, _ controller: String, _ structure: String, _ paths: [String]) {
      guard let index = types.enumerator("\(controller)_cgrp_id").flatMap({ Int(exactly: $0) }), index >= 0,
        let layout = try? types.structure(structure), let base = try? layout.field("css").offset
      else { return nil }
      var fields = FieldSelection(layout)
      guard base == 0, let wanted = try? paths.map({ try fields.want($0) }) else { return nil }
      self.index = index
      self.fields = wanted
      selection = fields
    }
  }

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
    let rootLayout = try types.structure("cgroup_root")
    rootLink = try rootLayout.field("root_list").offset
    rootGroup = try rootLayout.field("cgrp").offset
    var fields = FieldSelection(rootLayout)
    hierarchyID = try fields.want("hierarchy_id")
    subsystemMask = try fields.want("subsys_mask")
    rootName = try fields.want("name")
    groupCount = try fields.want("nr_cgrps")
    root = fields

    let layout = try types.structure("cgroup")
    groupSize = layout.size
    selfOffset = try layout.field("self").offset
    children = try layout.field("self.children").offset
    sibling = try layout.field("self.sibling").offset
    fields = FieldSelection(layout)
    flags = try fields.want("self.flags")
    parent = try fields.want("self.parent")
    level = try fields.want("level")
    node = try fields.want("kn")
    subtreeControl = try fields.want("subtree_control")
    groupRoot = try fields.want("root")
    let array = try layout.field("subsys")
    // As many as the mask of a hierarchy has bits.
    subsystemCount = min(array.elementCount ?? 0, 32)
    states = (0..<subsystemCount).map { fields.want(offset: array.offset + $0 * 8, size: 8) }
    group = fields

    fields = FieldSelection(try types.structure("cgroup_subsys"))
    name = try fields.want("name")
    legacyName = try fields.want("legacy_name")
    subsystemRoot = try fields.want("root")
    subsystem = fields
    fields = FieldSelection(try types.structure("task_struct"))
    taskSet = try fields.want("cgroups")
    taskFlags = try fields.want("flags")
    task = fields
    links = try types.structure("css_set").field("cgrp_links").offset
    let linkLayout = try types.structure("cgrp_cset_link")
    linkOffset = try linkLayout.field("cgrp_link").offset
    fields = FieldSelection(linkLayout)
    linkGroup = try fields.want("cgrp")
    link = fields
    let nodeLayout = try types.structure("kernfs_node")
    fields = FieldSelection(nodeLayout)
    nodeParent = try fields.want(nodeLayout.hasField("__parent") ? "__parent" : "parent")
    nodeName = try fields.want("name")
    nodeID = try fields.want("id")
    nodeSelection = fields
    memory = Limits(types, "memory", "mem_cgroup", ["memory.usage", "memory.max", "memory.high"])
    pids = Limits(types, "pids", "pids_cgroup", ["counter", "limit"])
    cpu = Limits(types, "cpu", "task_group", ["cfs_bandwidth.quota", "cfs_bandwidth.period"])
  }

  // MARK: Controllers and hierarchies

  private struct Hierarchy {
    var id: Int
    var mask: UInt64
    var name: [UInt8]
    var groups: Int
  }

  private func hierarchies(_ roots: [VirtualAddress], in space: AddressSpace) -> [VirtualAddress: Hierarchy] {
    let reads = space.read(root, at: roots)
    var result: [VirtualAddress: Hierarchy] = [:]
    for index in reads.indices {
      guard let id = try? reads.signed(index, hierarchyID), let mask = try? reads.load(index, subsystemMask),
        let name = try? reads.string(index, rootName), let count = try? reads.signed(index, groupCount)
      else { continue }
      result[roots[index]] = Hierarchy(id: Int(id), mask: mask, name: name, groups: Int(count))
    }
    return result
  }

  private struct Controller {
    var name: String
    var legacyName: String
    var root: VirtualAddress
  }

  /// The kernel's controllers, by the number of their bit. Cost: three round trips.
  private func controllers(in space: AddressSpace) throws(MemoryFault) -> [Controller] {
    let bytes = try space.read(subsystems, count: subsystemCount * 8)
    let reader = ByteReader(bytes.span.bytes)
    var addresses: [VirtualAddress] = []
    for index in 0..<subsystemCount { addresses.append(try reader.pointer(index * 8)) }
    let reads = space.read(subsystem, at: addresses)
    var names: [VirtualAddress] = []
    for index in reads.indices {
      names += [try reads.pointer(index, name), try reads.pointer(index, legacyName)]
    }
    let texts = space.strings(at: names, limit: 64)
    var controllers: [Controller] = []
    for index in reads.indices {
      controllers.append(
        Controller(
          name: String(decoding: try texts[index * 2].get(), as: UTF8.self),
          legacyName: String(decoding: try texts[index * 2 + 1].get(), as: UTF8.self),
          root: try reads.pointer(index, subsystemRoot)))
    }
    return controllers
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
    for index in tasks.indices {
      guard let set = try? tasks.pointer(index, taskSet), set.rawValue != 0, position[set] == nil else { continue }
      position[set] = sets.count
      sets.append(set)
    }
    let members = ListWalker(
      space: space, form: .circular, limit: min(max(1 << 10, sets.count &* 64), 1 << 20)
    ).members(ofHeads: sets.map { $0 + links })
    faults += members.faults
    let linkAddresses = members.lists.flatMap { $0.map { $0 - linkOffset } }
    let linkReads = space.read(link, at: linkAddresses)
    var groupsOfSet: [[VirtualAddress]] = []
    var next = 0
    for list in members.lists {
      groupsOfSet.append((next..<next + list.count).compactMap { try? linkReads.pointer($0, linkGroup) })
      next += list.count
    }
    var result: [(groups: [VirtualAddress], isExiting: Bool)] = []
    for index in tasks.indices {
      do throws(MemoryFault) {
        // PF_EXITING (include/linux/sched.h).
        let isExiting = try tasks.load(index, taskFlags) & 0x4 != 0
        let set = try tasks.pointer(index, taskSet)
        result.append((position[set].map { groupsOfSet[$0] } ?? [], isExiting))
      } catch {
        faults.append(error)
        result.append(([], false))
      }
    }
    return result
  }

  /// The places of the tasks at `addresses`, newest hierarchy first, as the kernel lists them.
  func places(
    ofTasks addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) throws(MemoryFault) -> [[ControlGroupPlace]] {
    let memberships = groups(ofTasks: addresses, in: space, &faults)
    let controllers = try self.controllers(in: space)
    let unique = Array(Set(memberships.flatMap(\.groups))).sorted()
    let reads = space.read(group, at: unique)
    let roots = unique.indices.map { (try? reads.pointer($0, groupRoot)) ?? VirtualAddress(0) }
    let hierarchies = self.hierarchies(Array(Set(roots)), in: space)
    let paths = self.paths(
      ofNodes: unique.indices.map { (try? reads.pointer($0, node)) ?? VirtualAddress(0) }, in: space)
    var places: [VirtualAddress: ControlGroupPlace] = [:]
    for index in unique.indices {
      do throws(MemoryFault) {
        guard let hierarchy = hierarchies[roots[index]] else {
          throw MemoryFault(.virtual(unique[index]), .inconsistent("a control group of no hierarchy"))
        }
        let isDefault = roots[index] == defaultRoot
        var names = isDefault ? [] : Self.names(hierarchy.mask, controllers, \.legacyName)
        if !isDefault, !hierarchy.name.isEmpty {
          names.append("name=" + String(decoding: hierarchy.name, as: UTF8.self))
        }
        let isOnline = try reads.load(index, flags) & Self.online != 0
        places[unique[index]] = ControlGroupPlace(
          hierarchy: hierarchy.id, controllers: names, path: try paths[index].get(), isDeleted: isDefault && !isOnline)
      } catch {
        faults.append(error)
      }
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
    var known: [VirtualAddress: Result<(parent: VirtualAddress, name: [UInt8]), MemoryFault>] = [:]
    var level = Array(Set(nodes))
    for _ in 0..<Self.deepest where !level.isEmpty {
      let reads = space.read(nodeSelection, at: level)
      let names = space.strings(
        at: level.indices.map { (try? reads.pointer($0, nodeName)) ?? VirtualAddress(0) }, limit: 256)
      var next: Set<VirtualAddress> = []
      for (index, address) in level.enumerated() {
        do throws(MemoryFault) {
          let parent = try reads.pointer(index, nodeParent)
          known[address] = .success((parent, try names[index].get()))
          if parent.rawValue != 0 { next.insert(parent) }
        } catch {
          known[address] = .failure(error)
        }
      }
      level = next.filter { known[$0] == nil }
    }
    var spent = 0
    return nodes.map { node in
      do throws(MemoryFault) {
        var parts: [[UInt8]] = []
        var current = node
        while let (parent, name) = try known[current]?.get(), parent.rawValue != 0 {
          parts.append(name)
          spent += name.count + 16
          guard parts.count < Self.deepest, spent < Self.pathBudget else {
            throw MemoryFault(.virtual(node), .inconsistent("a control group deeper than \(Self.deepest) levels"))
          }
          current = parent
        }
        return .success(parts.isEmpty ? [UInt8(ascii: "/")] : parts.reversed().flatMap { [UInt8(ascii: "/")] + $0 })
      } catch {
        return .failure(error)
      }
    }
  }

  // MARK: Groups

  /// All groups of all hierarchies.
  ///
  /// - Parameter tasks: those that are counted.
  func read(tasks: [KernelTask], in space: AddressSpace) throws(KernelError) -> ControlGroupTable {
    try settled({ $0.faults }) { () throws(KernelError) in
      do throws(MemoryFault) {
        return try attempt(tasks, in: space)
      } catch {
        throw KernelError(Self.subject, .memory(error))
      }
    }
  }

  private func attempt(_ tasks: [KernelTask], in space: AddressSpace) throws(MemoryFault) -> ControlGroupTable {
    var table = ControlGroupTable()
    let controllers = try self.controllers(in: space)
    var hidden: UInt64 = 0
    for mask in hiddenMasks {
      let bytes = try space.read(mask, count: 2)
      hidden |= UInt64(try ByteReader(bytes.span.bytes).u16(0))
    }
    let list = ListWalker(space: space, form: .circular, limit: Self.mostRoots).members(ofHeads: [rootsHead])
    table.faults += list.faults
    let roots = (list.lists.first ?? []).map { $0 - rootLink }
    let hierarchies = self.hierarchies(roots + controllers.map(\.root), in: space)
    table.controllers = try controllers.map { controller throws(MemoryFault) in
      let hierarchy = hierarchies[controller.root]
      var isEnabled = true
      // A static key, which counts who wants it on.
      if let key = enabledKeys.address(of: "\(controller.name)_cgrp_subsys_enabled_key") {
        let bytes = try space.read(key, count: 4)
        isEnabled = try ByteReader(bytes.span.bytes).load(0, as: Int32.self) > 0
      }
      return ControlGroupController(
        name: controller.name, legacyName: controller.legacyName, hierarchy: hierarchy?.id ?? 0,
        groups: hierarchy?.groups ?? 0, isEnabled: isEnabled)
    }
    let ordered = roots.sorted { (hierarchies[$0]?.id ?? .max) < (hierarchies[$1]?.id ?? .max) }
    let addresses = descendants(of: ordered.map { $0 + rootGroup }, in: space, &table.faults)
    try readGroups(addresses, hierarchies, controllers, hidden: hidden, in: space, into: &table)
    count(tasks, in: space, &table)
    return table
  }

  /// The groups below `roots` and themselves: parents before their children. Cost: a few round trips a level.
  private func descendants(
    of roots: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [VirtualAddress] {
    let limit = space.mostObjects(ofSize: groupSize)
    var below: [VirtualAddress: [VirtualAddress]] = [:]
    var seen = Set(roots)
    var level = roots
    var links: Set<VirtualAddress> = []
    for _ in 0..<Self.deepest where !level.isEmpty {
      let members = ListWalker(space: space, form: .circular, limit: limit).members(
        ofHeads: level.map { $0 + children }, seen: &links)
      faults += members.faults
      var next: [VirtualAddress] = []
      for (parent, list) in zip(level, members.lists) {
        for group in list.map({ $0 - sibling }) {
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
  ) throws(MemoryFault) {
    let reads = space.read(group, at: addresses)
    let nodes = addresses.indices.map { (try? reads.pointer($0, node)) ?? VirtualAddress(0) }
    let ids = space.read(nodeSelection, at: nodes)
    let paths = self.paths(ofNodes: nodes, in: space)
    var controlOf: [VirtualAddress: UInt64] = [:]
    for index in addresses.indices {
      controlOf[addresses[index] + selfOffset] = try? reads.load(index, subtreeControl)
    }
    var states: [(group: Int, memory: VirtualAddress?, pids: VirtualAddress?, cpu: VirtualAddress?)] = []
    for index in addresses.indices {
      do throws(MemoryFault) {
        let rootAddress = try reads.pointer(index, groupRoot)
        guard let hierarchy = hierarchies[rootAddress] else {
          throw MemoryFault(.virtual(addresses[index]), .inconsistent("a control group of no hierarchy"))
        }
        let parent = try reads.pointer(index, parent)
        let isDefault = rootAddress == defaultRoot
        // What the parent passes on; a root has all of its hierarchy.
        let available =
          parent.rawValue == 0 || !isDefault ? hierarchy.mask & (isDefault ? ~hidden : .max) : controlOf[parent] ?? 0
        let group = ControlGroup(
          address: addresses[index], hierarchy: hierarchy.id, id: try ids.load(index, nodeID),
          path: try paths[index].get(), level: Int(try reads.signed(index, level)),
          controllers: Self.names(available, controllers, isDefault ? \.name : \.legacyName),
          subtreeControl: isDefault ? Self.names(try reads.load(index, subtreeControl), controllers, \.name) : [],
          isDying: try reads.load(index, flags) & Self.online == 0)
        func state(_ limits: Limits?) throws(MemoryFault) -> VirtualAddress? {
          // The root has no limits, and keeps no account of its own.
          guard parent.rawValue != 0, let limits, limits.index < self.states.count else { return nil }
          let address = try reads.pointer(index, self.states[limits.index])
          return address.rawValue == 0 ? nil : address
        }
        states.append((table.groups.count, try state(memory), try state(pids), try state(cpu)))
        table.groups.append(group)
      } catch {
        table.faults.append(error)
      }
    }
    readLimits(memory, states.compactMap { state in state.memory.map { (state.group, $0) } }, in: space, &table) {
      (group, values) in
      group.memoryCurrent = values[0] &* 4096
      group.memoryMax = Self.limit(values[1], none: Self.pageCounterMax).map { $0 &* 4096 }
      group.memoryHigh = Self.limit(values[2], none: Self.pageCounterMax).map { $0 &* 4096 }
    }
    readLimits(pids, states.compactMap { state in state.pids.map { (state.group, $0) } }, in: space, &table) {
      (group, values) in
      group.pidsCurrent = values[0]
      // PIDS_MAX: one more than there can be (kernel/cgroup/pids.c, PID_MAX_LIMIT).
      group.pidsMax = Self.limit(values[1], none: 4 << 20 | 1)
    }
    readLimits(cpu, states.compactMap { state in state.cpu.map { (state.group, $0) } }, in: space, &table) {
      (group, values) in
      // RUNTIME_INF (kernel/sched/sched.h).
      group.cpuQuota = Self.limit(values[0], none: .max).map { $0 / 1000 }
      group.cpuPeriod = values[1] / 1000
    }
  }

  /// `PAGE_COUNTER_MAX` (include/linux/page_counter.h).
  private static let pageCounterMax = UInt64(Int64.max) / 4096

  private static func limit(_ value: UInt64, none: UInt64) -> UInt64? { value >= none ? nil : value }

  private func readLimits(
    _ limits: Limits?, _ places: [(group: Int, address: VirtualAddress)], in space: AddressSpace,
    _ table: inout ControlGroupTable, _ set: (inout ControlGroup, [UInt64]) -> Void
  ) {
    guard let limits else { return }
    let reads = space.read(limits.selection, at: places.map(\.address))
    for (index, place) in places.enumerated() {
      do throws(MemoryFault) {
        var values: [UInt64] = []
        for field in limits.fields { values.append(try reads.load(index, field)) }
        set(&table.groups[place.group], values)
      } catch {
        table.faults.append(error)
      }
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
    var table = try reader(ControlGroupReader.self).read(tasks: tasks.tasks, in: addressSpace)
    table.faults += tasks.faults
    return table
  }
}
