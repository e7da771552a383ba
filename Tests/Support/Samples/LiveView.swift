import KernelInfo
package import KernelViews
import Memory

/// A view as tests repeat it: what it marks, and what it shows, each thing as a line.
package struct LiveView: Sendable {
  package struct Look {
    /// What the view says it could not read.
    package var marks = 0
    package var lines: Set<String> = []
  }

  /// What the views of one guest need to know: a process with many mappings, and text that lies in a file's page.
  package struct Subject {
    package let kernel: Kernel
    package let process: Int32
    package let text: [UInt8]

    package init(kernel: Kernel, process: Int32, text: [UInt8]) {
      (self.kernel, self.process, self.text) = (kernel, process, text)
    }
  }

  package let name: String
  /// Whether all of the memory is read.
  package private(set) var isSearch = false
  /// Whether a guest may have nothing of it.
  package private(set) var canBeEmpty = false
  /// What a line may be that neither the time before nor the time after knows; nil where it may be anything.
  package private(set) var mayAppear: (@Sendable (String) -> Bool)?
  package let look: @Sendable (Subject) throws -> Look

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

  /// All of them.
  ///
  /// Lines leave out what changes while nothing else does: counters, states, what a worker works on.
  package static let all: [LiveView] = [
    LiveView(
      name: "ps", mayAppear: { line in transient.contains(line.split(separator: " ", maxSplits: 1).last ?? "") },
      look: { subject in
        let table = try subject.kernel.tasks(TaskQuery(includesThreads: true))
        return Look(marks: table.faults.count, lines: lines(of: table.tasks))
      }),
    LiveView(
      name: "ps --environ …",
      look: { subject in
        let tasks = try subject.kernel.tasks()
        let table = try subject.kernel.details(
          of: tasks.tasks, [.environment, .namespaces, .controlGroups, .privileges])
        let lines = zip(tasks.tasks, table.details).map { task, details in
          "\(task.tid) \(text(details.environmentBytes)) \(details.namespaces.values.map(\.number).sorted()) "
            + "\(details.controlGroups.map { text($0.line) }.sorted()) \(details.privileges?.capabilities.bounding ?? 0)"
        }
        return Look(marks: tasks.faults.count + table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "stack --all",
      look: { subject in
        let tasks = try subject.kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
        let table = try subject.kernel.stacks(of: tasks.tasks)
        // The kernel's own threads sleep now here and now there.
        let users = Set(tasks.tasks.filter { !$0.isKernelThread }.map(\.tid))
        let lines = table.stacks.filter { users.contains($0.tid) }.map { stack in
          "\(stack.tid) " + stack.frames.map { "\($0.address)" }.joined(separator: " ")
        }
        return Look(marks: tasks.faults.count + table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "maps",
      mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.mappings(ofProcess: subject.process)
        let lines = table.mappings.map { "\($0.range) \($0.permissions) \($0.offset) \(text($0.name))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "lsof",
      mayAppear: { line in
        let name = line.split(separator: " ", maxSplits: 2).last ?? ""
        return ["/", "pipe:[", "socket:[", "anon_inode:", "net:[", "mnt:["].contains(where: name.hasPrefix)
      },
      look: { subject in
        let table = try subject.kernel.openFiles()
        let lines = table.files.map { "\($0.pid) \($0.descriptor) \(text($0.name.display))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "mount", mayAppear: { $0.contains("/tmp/churn-mount") },
      look: { subject in
        let table = try subject.kernel.mounts()
        let lines = table.mounts.map { "\($0.id) \($0.parentID) \(text($0.mountPoint)) \(text($0.fileSystem))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "lsmod", canBeEmpty: true, mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.modules()
        return Look(marks: table.faults.count, lines: Set(table.modules.map { text($0.name) }))
      }),
    LiveView(
      name: "lsns",
      mayAppear: { line in ["mnt ", "net ", "ipc ", "uts "].contains(where: line.hasPrefix) },
      look: { subject in
        let table = try subject.kernel.namespaces()
        let lines = table.namespaces.map { "\($0.kind.rawValue) \($0.id.number)" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "cgroups", mayAppear: { $0.contains("churn") },
      look: { subject in
        let table = try subject.kernel.controlGroups()
        let lines = table.groups.map { "\($0.hierarchy) \($0.level) \(text($0.path))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "ss",
      look: { subject in
        let table = try subject.kernel.sockets()
        let lines = table.sockets.map {
          "\($0.kind.rawValue) \($0.namespace) \($0.inode) \($0.localPort) \(text($0.path))"
        }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "ip",
      look: { subject in
        let table = try subject.kernel.network()
        var lines: [String] = table.interfaces.map { "\($0.namespace) \($0.index) \(text($0.name)) \($0.addresses)" }
        lines += table.routes.map { "\($0.namespace) \($0.table) \($0.destination)/\($0.prefixLength) \($0.metric)" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "hooks", mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.hooks(Set(Hook.Kind.allCases))
        // Hooks of packets belong to network namespaces, which come and go.
        let lines = table.hooks.filter { $0.namespace == nil }.map {
          "\($0.kind.rawValue) \($0.name) \($0.code.address) \($0.code.owner)"
        }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "bpf", canBeEmpty: true, mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.bpf()
        let lines = table.programs.map { "\($0.id) \(text($0.name))" } + table.maps.map { "\($0.id) \(text($0.name))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "files",
      look: { subject in
        let table = try subject.kernel.cachedFiles()
        let lines = table.files.map { "\($0.major):\($0.minor) \($0.inode) \($0.address) \(text($0.name.display))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "timers",
      look: { subject in
        let table = try subject.kernel.timers()
        // Those of processes that sleep for days; the others are set again and again.
        let lines = table.timers.filter { $0.expiresIn > 3_600_000_000_000 }.map {
          "\($0.address) \($0.function.address) \($0.expires) \($0.tid ?? -1)"
        }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "workqueues", mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.workQueues()
        let lines = table.queues.map { "queue \(text($0.name))" } + table.pools.map { "pool \($0.id)" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "locks", mayAppear: { !$0.contains("/tmp/locked") },
      look: { subject in
        let table = try subject.kernel.locks()
        let lines = table.fileLocks.map {
          "\($0.kind) \($0.mode) \($0.pid) \($0.inode) \($0.start) \($0.end) \($0.isWaiting) "
            + text($0.name?.display ?? [])
        }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "slabtop",
      look: { subject in
        let table = try subject.kernel.slabs()
        return Look(marks: table.faults.count, lines: Set(table.caches.map { "\(text($0.name)) \($0.objectSize)" }))
      }),
    LiveView(
      name: "interrupts", mayAppear: { _ in false },
      look: { subject in
        let table = try subject.kernel.interrupts()
        let lines = table.lines.map { "\($0.name) \(text($0.chip)) \($0.actions.map(text))" }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "top", mayAppear: { _ in false },
      look: { subject in
        let sample = try subject.kernel.processors()
        return Look(marks: sample.faults.count, lines: Set(sample.cpus.map { "\($0.number)" }))
      }),
    LiveView(
      name: "psi", mayAppear: { _ in false },
      look: { subject in
        Look(lines: Set(try subject.kernel.pressure().map { "\($0.resource.rawValue) \($0.some != nil)" }))
      }),
    LiveView(
      name: "vmstat", mayAppear: { _ in false },
      look: { subject in
        let statistics = try subject.kernel.vmStatistics()
        let lines = statistics.zones.map { "\($0.node) \(text($0.name)) \($0.start) \($0.present)" }
        return Look(marks: statistics.faults.count, lines: Set(lines + statistics.counters.map(\.name)))
      }),
    LiveView(
      name: "free", mayAppear: { _ in false },
      look: { subject in
        let (info, fault) = try subject.kernel.memoryInfo()
        let total = info["MemTotal"] ?? 0
        let isSound = info.lines.filter { $0.name.hasPrefix("Mem") }.allSatisfy { $0.bytes <= total }
        return Look(marks: fault == nil ? 0 : 1, lines: Set(info.lines.map(\.name) + ["\(total) \(isSound)"]))
      }),
    LiveView(
      name: "info", mayAppear: { _ in false },
      look: { subject in
        let host = try subject.kernel.host()
        return Look(
          marks: host.faults.count,
          lines: ["\(host.nodename) \(host.release) \(host.version) \(host.onlineCPUs) \(text(host.commandLine))"])
      }),
    LiveView(
      name: "dmesg",
      look: { subject in
        let log = try subject.kernel.log()
        return Look(marks: log.torn, lines: Set(log.records.map { "\($0.sequence) \($0.time) \(text($0.text))" }))
      }),
    LiveView(
      name: "read", mayAppear: { _ in false },
      look: { subject in
        guard let address = subject.kernel.symbols.address(of: "init_task") else { return Look() }
        let value = try subject.kernel.value(of: "task_struct", at: address, path: ".comm")
        return Look(lines: ["\(value.address) \(value.value)"])
      }),
    LiveView(
      name: "sym", mayAppear: { _ in false },
      look: { subject in
        Look(lines: Set(try subject.kernel.symbolMap().places(named: "schedule").map { "\($0.address)" }))
      }),
    LiveView(
      name: "search", isSearch: true,
      look: { subject in
        let hits = try subject.kernel.search(subject.text)
        // Other copies of the text are in buffers that are used again.
        let lines = hits.hits.compactMap { hit -> String? in
          if case .file(_, let inode, _) = hit.owner { return "\(hit.address) \(inode)" }
          return nil
        }
        return Look(marks: hits.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: "strings --containing", isSearch: true,
      look: { subject in
        var lines: Set<String> = []
        let faults = subject.kernel.forEachString(shortest: 4, containing: subject.text) { _, string in
          // Text before the page's own belongs to whatever lies before the page.
          if let start = string.firstRange(of: subject.text) { lines.insert(text(Array(string[start]))) }
          return true
        }
        return Look(marks: faults.count, lines: lines)
      }),
  ]

  /// Lines for tasks: workers get their names from what they work on.
  private static func lines(of tasks: [KernelTask]) -> Set<String> {
    Set(tasks.map { "\($0.tid) \($0.comm.starts(with: Array("kworker/".utf8)) ? "kworker" : text($0.comm))" })
  }

  /// What the processes are called that come and go in a busy guest.
  private static let transient: Set<Substring> = [
    // What busybox runs as another of its programs is named after /proc/self/exe at first.
    "sh", "head", "tail", "rm", "mount", "umount", "unshare", "mkdir", "rmdir", "ip", "nc", "sleep", "true", "dd",
    "busybox", "kworker", "cat", "flock", "exe",
    // The kernel's new threads are called as the one that they come from, until whoever wants them goes on.
    "kthreadd",
  ]
}
