import KernelViews
import Samples

extension FuzzTarget {
  private typealias Place = SyntheticLinux.Place
  private static let areas: [LinuxOverlay.Area] = [
    .init(Place.initTask, 0x400), .init(Place.tasks, 0x1000), .init(Place.pids, 0x400), .init(Place.pidRoot, 0x240),
    .init(Place.pidLeaf, 0x240), .init(Place.secondPidLeaf, 0x240), .init(Place.pidNamespace, 32),
    .init(Place.credentials, 64), .init(Place.signals, 0x300), .init(Place.memoryMap, 128), .init(Place.terminal, 128),
    .init(Place.worker, 0x200),
    // The process's page tables and its memory.
    .init(physical: Int(SyntheticLinux.processRoot), 0x5000), .init(physical: 0x38_0000, 0x1000),
    .init(physical: 0x39_0000, 0x1000),
    // Memory that nothing uses yet, to build more of the same in.
    .init(physical: 0x50_0000, 0x4000),
    // What the host's state is read from.
    .init(Place.names, 0x200), .init(Place.clock, 64), .init(Place.scalars, 128), .init(Place.counters, 0x200),
    .init(Place.devices, 0x300), .init(Place.masks, 0x800),
  ]
  private static let overlay = LinuxOverlay(SyntheticLinux(), areas: areas)
  private static let kernel = overlay.openKernel()

  /// The tasks and the host's state of a small Linux, changed by the input.
  static let tasks = FuzzTarget(
    name: "tasks",
    seeds: {
      let linux = SyntheticLinux()
      func change(_ area: UInt8, _ structure: String, _ field: String, _ value: UInt64, base: UInt64 = 0) -> [UInt8] {
        LinuxOverlay.change(area, base + linux.offset(structure, field), bytes(value))
      }
      let link = linux.offset("task_struct", "tasks")
      let spare = SyntheticKernel.directMap + 0x50_0000
      return [
        // A list that loops, one that leads to a stranger, and a stranger who is a task.
        change(1, "task_struct", "tasks.next", Place.task(0) + link),
        change(1, "task_struct", "tasks.next", spare + link),
        change(1, "task_struct", "tasks.next", spare + link) + change(15, "task_struct", "pid", 9 | 9 << 32)
          + change(15, "task_struct", "tasks.next", spare + 0x400 + link),
        // A pid tree that loops, a node that is shared, one of another shift, a pid that leads elsewhere.
        change(3, "xa_node", "slots", Place.pidRoot | 2), change(3, "xa_node", "slots", Place.pidLeaf | 2, base: 24),
        LinuxOverlay.change(4, 0, [12]), change(4, "xa_node", "slots", spare, base: 72),
        change(6, "pid_namespace", "idr.idr_rt.xa_head", spare | 2),
        // Long command lines, a title, page tables that name themselves.
        change(9, "mm_struct", "arg_end", 1 << 40), change(9, "mm_struct", "env_end", 1 << 40),
        LinuxOverlay.change(14, 13, Array("title".utf8)) + change(9, "mm_struct", "arg_start", 0x7fff_1000),
        LinuxOverlay.change(12, 0, bytes(SyntheticLinux.processRoot | 0x67))
          + change(9, "mm_struct", "arg_start", 0x1000) + change(9, "mm_struct", "arg_end", 0x20_0000),
        // The host: a panic, taints, every CPU, block devices that loop.
        LinuxOverlay.change(18, 24, bytes(UInt64(3))) + LinuxOverlay.change(18, 16, bytes(UInt64.max)),
        LinuxOverlay.change(21, 0, [UInt8](repeating: 0xff, count: 64)),
        change(20, "inode", "i_sb_list.next", Place.devices + 0x100, base: 0x100),
      ]
    },
    run: { input in
      let kernel = kernel
      // Three attempts at tasks whose list may have as many strangers as memory has pages, then 4096 block devices.
      overlay.with(input, batches: 3 * 2100 + 4200, bytes: 256 << 20) {
        let query = TaskQuery(includesThreads: true, commandLineLimit: 1 << 16, commandLineBudget: 1 << 18)
        if let table = try? kernel.tasks(query) {
          require(table.tasks.count <= SyntheticKernel.size / 4096, "\(table.tasks.count) tasks in 8 MiB")
          var leaders: [Int32: Int] = [:]
          for task in table.tasks {
            require(task.commandLine.count <= 1 << 16, "a command line of \(task.commandLine.count) bytes")
            if task.isLeader { leaders[task.tgid] = task.commandLine.count }
            _ = task.arguments
          }
          let total = leaders.values.reduce(0, +)
          require(total <= 1 << 18, "command lines of \(total) bytes")
        }
        if let host = try? kernel.host() {
          require(host.possibleCPUs <= 8192, "\(host.possibleCPUs) CPUs")
          require(host.commandLine.count <= 1 << 16, "a command line of \(host.commandLine.count) bytes")
        }
      }
    })
}
