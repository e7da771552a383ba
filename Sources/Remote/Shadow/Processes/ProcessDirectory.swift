import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import ProcessViews
import StorageViews
import TaskViews

/// The directories /proc/PID and /proc/PID/task/TID.
///
/// Source: fs/proc/base.c, `tgid_base_stuff` and `tid_base_stuff`.
struct ProcessDirectory: Sendable {
  let host: ShadowHost
  /// The thread that it is about; of a process its leader.
  let tid: Int32
  /// Whether all of the process is shown, or the one thread.
  let isWhole: Bool

  /// The directory, where there is such a thread.
  func node(of record: ProcessRecord) -> ShadowNode {
    owned(.directory(list: { try entries() }, find: { name in try entry(name) }), record)
      .owned { if isWhole { $0.links = 9 } }
  }

  /// One of its entries.
  func entry(_ name: String) throws -> ShadowNode? { try entries(only: name).first?.node }

  /// With the owner and the times that procfs gives to what belongs to a process.
  ///
  /// Source: `task_dump_owner`: the effective user, and root of what may not be looked into.
  private func owned(_ node: ShadowNode, _ record: ProcessRecord) -> ShadowNode {
    node.owned { attributes in
      attributes.time = host.constants.bootTime + Int64(record.task.startTime / 1_000_000_000)
      guard attributes.kind == .directory && attributes.permissions == 0o555 || record.isReadable else { return }
      (attributes.uid, attributes.gid) = (record.task.euid, record.task.egid)
    }
  }

  /// The entries, or the one that is called `only`: tools look up one after the other, for each of them many processes.
  private func entries(only: String? = nil) throws -> [ShadowNode.Entry] {
    let record = try host.thread(tid)
    var entries: [ShadowNode.Entry] = []
    func add(_ name: String, _ node: @autoclosure () -> ShadowNode) {
      guard only == nil || only == name else { return }
      entries.append(.init(name: name, node: owned(node(), record)))
    }
    func file(
      _ name: String, _ permissions: UInt16 = 0o444, _ make: @escaping @Sendable (ProcessRecord) throws -> [UInt8]
    ) {
      add(name, .file(permissions) { [host, tid] in try make(host.thread(tid)) })
    }
    let (host, tid, isWhole) = (host, tid, isWhole)
    if isWhole {
      add("task", .listing { try threads() })
    }
    add("fd", descriptors())
    add("fdinfo", descriptorDetails())
    add("ns", namespaces())
    if isWhole { add("map_files", mappedFiles()) }
    file("environ", 0o400) { record in try Self.environment(record, host) }
    file("status") { record in try ProcessStatus(record: record, host: host).bytes() }
    file("limits") { record in ProcessLimits.bytes(try record.details.get().process?.limits ?? []) }
    file("comm", 0o644) { $0.task.comm + [10] }
    file("cmdline") { record in
      if let fault = record.task.commandLineFault { throw ShadowError.unreadable("the command line: \(fault)") }
      return record.task.commandLine
    }
    file("stat") { record in
      try ProcessStat(record: record, threads: isWhole ? host.processes().threads(of: record.task.tgid) : []).bytes()
    }
    file("statm") { record in Array(try Self.sizes(record, host.kernel).utf8) }
    file("maps") { record in try Self.mappings(record, host) }
    file("smaps") { record in try host.kernel.reader(MemoryFiles.self).areas(record, host.kernel) }
    file("smaps_rollup") { record in try host.kernel.reader(MemoryFiles.self).sum(record, host.kernel) }
    file("numa_maps") { record in try host.kernel.reader(MemoryFiles.self).nodes(record, host.kernel) }
    add("cwd", .link { try Self.place(host.thread(tid).details.get().working, host) })
    add("root", .link { try Self.place(host.thread(tid).details.get().root, host) })
    add("exe", .link { try Self.executable(host.thread(tid), host) })
    file("mounts") { record in try MountFile.mounts(record.task, host) }
    file("mountinfo") { record in try MountFile.mountInfo(record.task, host) }
    add("net", NetworkFiles.directory(host) { try host.thread(tid).task })
    file("wchan") { record in try WaitingPlace.bytes(record, host.kernel) }
    file("cgroup") { record in
      let table = try host.kernel.details(of: [record.task], .controlGroups).whole()
      // Version 2 is not shown until something has been mounted of it (`proc_cgroup_show`).
      let isShown =
        try host.kernel.addressSpace.read(
          host.kernel.symbol("cgrp_dfl_visible", for: "the control groups"), count: 1)[0] != 0
      return (table.details.first?.controlGroups ?? []).filter { isShown || $0.hierarchy != 0 }
        .flatMap { $0.line + [10] }
    }
    file("oom_score_adj", 0o644) { record in
      Array("\(try record.details.get().process?.oomScoreAdjustment ?? 0)\n".utf8)
    }
    file("io", 0o400) { record in
      try Self.inputOutput(record, isWhole ? host.processes().threads(of: record.task.tgid) : [])
    }
    if !entries.isEmpty, only != nil { return entries }
    try addExtras({ name, node in add(name, node()) }, file)
    return entries
  }

  /// Files that show one thing each.
  private func addExtras(
    _ add: (String, () -> ShadowNode) -> Void,
    _ file: (String, UInt16, @escaping @Sendable (ProcessRecord) throws -> [UInt8]) -> Void
  ) throws {
    let (host, isWhole) = (host, isWhole)
    let kernel = host.kernel
    let extras = try kernel.reader(ProcessExtras.self)
    file("arch_status", 0o444) { try extras.vectorUse($0, kernel) }
    add("attr") { .directory(["current": .file(0o666) { [tid] in try extras.label(host.thread(tid), kernel) }]) }
    file("auxv", 0o400) { try extras.auxiliary($0, kernel) }
    if !isWhole { file("children", 0o444) { try extras.children($0, kernel) } }
    if kernel.symbols.address(of: "proc_cpuset_show") != nil {
      file("cpuset", 0o444) { try extras.cpuSet($0, kernel) }
    }
    for map in [ProcessExtras.UserMap.users, .groups, .projects] {
      file(map.rawValue, 0o644) { try extras.users(map, $0, kernel) }
    }
    if extras.hasAudit {
      file("loginuid", 0o644) { try extras.login($0, kernel) }
      file("sessionid", 0o444) { try extras.session($0, kernel) }
    }
    file("oom_adj", 0o644) { try ProcessExtras.oldKillAdjustment($0) }
    file("oom_score", 0o444) { try extras.killScore($0, host.processes(), kernel) }
    if extras.hasPatches { file("patch_state", 0o400) { try extras.patchState($0, kernel) } }
    file("personality", 0o400) { try extras.personality($0, kernel) }
    file("schedstat", 0o444) { try extras.schedule($0, kernel) }
    file("setgroups", 0o644) { try extras.canSetGroups($0, kernel) }
    file("stack", 0o400) { try extras.stack($0, kernel) }
    file("syscall", 0o400) { try extras.call($0, kernel) }
    guard isWhole else { return }
    if kernel.symbols.address(of: "autogroup_default") != nil {
      file("autogroup", 0o644) { try extras.autogroup($0, kernel) }
    }
    file("coredump_filter", 0o644) { try ProcessExtras.coreFilter($0) }
    file("mountstats", 0o400) { try MountFile.statistics($0.task, host) }
    if kernel.symbols.address(of: "proc_timers_operations") != nil {
      file("timers", 0o444) { try extras.timers($0, kernel) }
    }
    file("timerslack_ns", 0o666) { try extras.timerSlack($0, kernel) }
  }

  /// What is said of each open file.
  private func descriptorDetails() -> ShadowNode {
    let (host, tid) = (host, tid)
    @Sendable func entries() throws -> [ShadowNode.Entry] {
      let record = try host.thread(tid)
      let kernel = host.kernel
      var faults: [MemoryFault] = []
      let open = try kernel.reader(OpenFileReader.self).descriptors(
        of: [record.task], in: kernel.addressSpace, &faults)
      if let fault = faults.first { throw fault }
      return open.map { item in
        let node = ShadowNode.file(0o444) {
          try kernel.reader(DescriptorDetails.self).bytes(item.descriptor, item.file, of: host.thread(tid), kernel)
        }
        return ShadowNode.Entry(name: "\(item.descriptor)", node: owned(node, record))
      }
    }
    return .listing(0o555, entries)
  }

  private func threads() throws -> [ShadowNode.Entry] {
    let table = try host.processes()
    guard table[tid] != nil else { throw ShadowError.missing }
    return table.threads(of: tid).map { thread in
      let directory = ProcessDirectory(host: host, tid: thread.task.tid, isWhole: false)
      return ShadowNode.Entry(name: "\(thread.task.tid)", node: directory.node(of: thread))
    }
  }

  private func descriptors() -> ShadowNode {
    let (host, tid) = (host, tid)
    @Sendable func entries() throws -> [ShadowNode.Entry] {
      let record = try host.thread(tid)
      let table = try ShadowHost.whole { try host.kernel.openFiles(of: [record.task]) }
      return table.files.map { file in
        // Read for reading, written for writing, and the reverse is not said.
        let access = file.flags & 3
        let mode: UInt16 = (access != 1 ? 0o500 : 0) | (access != 0 ? 0o300 : 0)
        return ShadowNode.Entry(
          name: "\(file.descriptor)", node: owned(.link(mode) { file.name.display }, record))
      }
    }
    return .listing(0o500, entries)
  }

  /// A link for each part of a file that the process has mapped.
  ///
  /// Source: fs/proc/base.c, `proc_map_files_readdir`.
  private func mappedFiles() -> ShadowNode {
    let (host, tid) = (host, tid)
    @Sendable func entries() throws -> [ShadowNode.Entry] {
      let record = try host.thread(tid)
      guard try record.details.get().memory != nil else { return [] }
      return try ShadowHost.whole({ try host.kernel.mappings(ofProcess: tid) }).mappings
        // What has a file has a device; a segment of System V may be the one with number zero.
        .filter { $0.inode != 0 || $0.minor != 0 || $0.major != 0 }.map {
          mapping in
          let (first, last) = (mapping.range.lowerBound.rawValue, mapping.range.upperBound.rawValue)
          let permissions: UInt16 =
            (mapping.permissions.hasPrefix("r") ? 0o400 : 0)
            | (mapping.permissions.dropFirst().hasPrefix("w") ? 0o200 : 0)
          return ShadowNode.Entry(
            name: "\(String(first, radix: 16))-\(String(last, radix: 16))",
            node: owned(.link(permissions) { mapping.name }, record))
        }
    }
    return .listing(0o500, entries)
  }

  private func namespaces() -> ShadowNode {
    let (host, tid) = (host, tid)
    @Sendable func entries() throws -> [ShadowNode.Entry] {
      let record = try host.thread(tid)
      let table = try host.kernel.details(of: [record.task], .namespaces).whole()
      let own = (table.details.first?.namespaces ?? [:]).map { kind, id in
        (name: kind.rawValue, target: "\(kind.rawValue):[\(id.number)]")
      }
      let all = own + (try ChildNamespaces.links(of: record.task.address, host.kernel))
      return all.sorted { $0.name < $1.name }.map { link in
        ShadowNode.Entry(name: link.name, node: owned(.link { Array(link.target.utf8) }, record))
      }
    }
    return .listing(0o511, entries)
  }

  // MARK: Contents

  /// Source: `proc_pid_statm`.
  private static func sizes(_ record: ProcessRecord, _ kernel: Kernel) throws -> String {
    guard let counted = try record.details.get().memory else { return "0 0 0 0 0 0 0\n" }
    let memory = try kernel.reader(ResidentPages.self).shownInSizes(counted, kernel)
    let (shared, data) = (memory.filePages &+ memory.sharedPages, memory.data &+ memory.stack)
    return "\(memory.total) \(memory.resident) \(shared) \(memory.text >> 12) 0 \(data) 0\n"
  }

  /// Source: `do_io_accounting`.
  private static func inputOutput(_ record: ProcessRecord, _ threads: [ProcessRecord]) throws -> [UInt8] {
    let details = try record.details.get()
    var total = details.inputOutput
    if !threads.isEmpty, let process = details.process {
      total = process.inputOutput
      for thread in threads { total += try thread.details.get().inputOutput }
    }
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"]
    return zip(names, total.counters).flatMap { Array("\($0): \($1)\n".utf8) }
  }

  private static func environment(_ record: ProcessRecord, _ host: ShadowHost) throws -> [UInt8] {
    let details = try host.processes().environment(of: record, host.kernel)
    if let fault = details.environmentFault { throw ShadowError.unreadable("the environment: \(fault)") }
    return details.environmentBytes
  }

  private static func mappings(_ record: ProcessRecord, _ host: ShadowHost) throws -> [UInt8] {
    guard let memory = try record.details.get().memory else { return [] }
    let table = try ShadowHost.whole { try host.kernel.mappings(ofProcess: record.task.tgid) }
    return ProcessMaps.bytes(table.mappings, vsyscall: try VirtualCallPage.permissions(of: memory, host.kernel))
  }

  private static func place(_ path: ProcessRecord.VirtualPath?, _ host: ShadowHost) throws -> [UInt8] {
    guard let path else { throw ShadowError.missing }
    let reader = try host.kernel.reader(PathReader.self)
    let names = reader.names(
      of: [FilePath(mount: path.mount, dentry: path.dentry)], in: host.kernel.addressSpace)
    return try names[0].get().display
  }

  private static func executable(_ record: ProcessRecord, _ host: ShadowHost) throws -> [UInt8] {
    guard let memory = try record.details.get().memory, memory.executable.rawValue != 0 else {
      throw ShadowError.missing
    }
    let (paths, fields) = (try host.kernel.reader(PathReader.self), try OpenFileFields(host.kernel.types))
    let files = fields.read([memory.executable], paths: paths, in: host.kernel.addressSpace)
    guard let file = try files[0]?.get() else { throw ShadowError.missing }
    return file.name.display
  }
}

extension Faulted {
  /// Itself, where nothing of it is missing.
  func whole() throws -> Self {
    if let fault = faults.first { throw ShadowError.unreadable("\(fault)") }
    return self
  }
}

extension Kernel {
  /// The open files of tasks.
  ///
  /// Cost: as ``openFiles(ofProcess:)`` without the list of tasks.
  fileprivate func openFiles(of tasks: [KernelTask]) throws(KernelError) -> OpenFileTable {
    try read(with: OpenFileReader.self) { reader in reader.read(tasks, in: addressSpace) }
  }
}
