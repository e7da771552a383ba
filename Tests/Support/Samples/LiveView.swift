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
  package static let all: [LiveView] = special + KernelViews.all.flatMap(derived)

  /// Those of which more is known than that what names a row stays, and those that are no declared view.
  private static let special: [LiveView] = [
    LiveView(
      name: TaskView.name,
      mayAppear: { line in transient.contains(line.split(separator: " ", maxSplits: 1).last ?? "") },
      look: { subject in
        let table = try subject.kernel.tasks(TaskQuery(includesThreads: true))
        return Look(marks: table.faults.count, lines: lines(of: table.tasks))
      }),
    LiveView(
      name: "\(TaskView.name) --environ …",
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
      name: "\(StackView.name) --all",
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
      name: TimerView.name,
      look: { subject in
        let table = try subject.kernel.timers()
        // Those of processes that sleep for days; the others are set again and again.
        let lines = table.timers.filter { $0.expiresIn > 3_600_000_000_000 }.map {
          "\($0.address) \($0.function.address) \($0.expires) \($0.tid ?? -1)"
        }
        return Look(marks: table.faults.count, lines: Set(lines))
      }),
    LiveView(
      name: TopView.name, mayAppear: { _ in false },
      look: { subject in
        // Which processes are the busiest changes from one look to the next.
        let found = try TopView.rows(of: subject.kernel, TopView.Options([("interval", "0")]))
        let cpus = found.rows.compactMap { row in
          if case .processor(let cpu) = row { "\(cpu.state.number)" } else { nil }
        }
        return Look(marks: found.faults.count, lines: Set(cpus))
      }),
    LiveView(
      name: PressureView.name, mayAppear: { _ in false },
      look: { subject in
        Look(lines: Set(try subject.kernel.pressure().map { "\($0.resource.rawValue) \($0.some != nil)" }))
      }),
    LiveView(
      name: FreeView.name, mayAppear: { _ in false },
      look: { subject in
        let (info, fault) = try subject.kernel.memoryInfo()
        let total = info["MemTotal"] ?? 0
        let isSound = info.lines.filter { $0.name.hasPrefix("Mem") }.allSatisfy { $0.bytes <= total }
        return Look(marks: fault == nil ? 0 : 1, lines: Set(info.lines.map(\.name) + ["\(total) \(isSound)"]))
      }),
    LiveView(
      name: "read", mayAppear: { _ in false },
      look: { subject in
        guard let address = subject.kernel.symbols.address(of: "init_task") else { return Look() }
        let value = try subject.kernel.value(of: "task_struct", at: address, path: ".comm")
        return Look(lines: ["\(value.address) \(value.value)"])
      }),
    LiveView(
      name: SearchView.name, isSearch: true,
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

  /// Which lines may turn up between two looks, by the view's name.
  ///
  /// Of a view that is not here, any may.
  private static let comesAndGoes: [String: @Sendable (String) -> Bool] = [
    MappingView.name: { _ in false }, LsMod.name: { _ in false }, BPFView.name: { _ in false },
    SystemCallHookView.name: { _ in false }, WorkQueueView.name: { _ in false }, InterruptView.name: { _ in false },
    VMStatView.name: { _ in false }, HostView.name: { _ in false }, SymbolView.name: { _ in false },
    TypeView.name: { _ in false },
    OpenFileView.name: { line in
      let name = line.split(separator: " ", maxSplits: 2).last ?? ""
      return ["/", "pipe:[", "socket:[", "anon_inode:", "net:[", "mnt:["].contains(where: name.hasPrefix)
    },
    MountView.name: { $0.contains("/tmp/churn-mount") },
    NamespaceView.name: { line in [" mnt", " net", " ipc", " uts"].contains(where: line.hasSuffix) },
    ControlGroupView.name: { $0.contains("churn") },
    LockView.name: { !$0.contains("/tmp/locked") },
  ]

  /// A declared view, once for each way in which it is to be tried: a line is what names a row.
  private static func derived(_ view: any KernelView.Type) -> [LiveView] {
    guard !special.contains(where: { $0.name.split(separator: " ").first.map(String.init) == view.name }) else {
      return []
    }
    let example = ViewSubject(process: 1, text: "TEXT")
    return view.commandLines(example).enumerated().map { index, words in
      LiveView(
        name: words.joined(separator: " "), isSearch: view.readsAllMemory,
        // A guest without a network card has neither neighbours nor routes.
        canBeEmpty: view.canBeEmpty || ["neigh", "route"].contains(words.last), mayAppear: comesAndGoes[view.name],
        look: { subject in
          let texts = view.samples(ViewSubject(process: subject.process, text: text(subject.text)))[index]
          let table = try view.table(of: subject.kernel, options: texts)
          return Look(
            marks: table.faults.count + table.shortcomings.count, lines: Set(table.sections.flatMap(lines)))
        })
    }
  }

  /// What names each row of a table; of counters that a row brings by itself, their names.
  private static func lines(of section: ViewTable.Section) -> [String] {
    section.rows.flatMap { row -> [String] in
      var names: [String] = []
      var counters: [String] = []
      for (column, value) in zip(section.columns, row) {
        if column.isIdentity, value != .absent { names.append(line(of: value)) }
        if column.key == "*", case .object(let members) = value { counters += members.map(\.key) }
      }
      return (names.isEmpty ? [] : [names.joined(separator: " ")]) + counters
    }
  }

  private static func line(of value: ViewValue) -> String {
    switch value {
    case .absent, .none: "-"
    case .bool(let value): "\(value)"
    case .signed(let value): "\(value)"
    case .unsigned(let value): "\(value)"
    case .number(let value): "\(value)"
    case .bytes(let bytes): text(bytes)
    case .list(let values): values.map(line).joined(separator: ",")
    case .object(let members): members.map { "\($0.key)=\(line(of: $0.value))" }.joined(separator: ",")
    }
  }

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
