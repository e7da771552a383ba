import KernelInfo
import LinuxKernel
import Memory
import ProcessViews
import StorageViews
import Synchronization
import TaskViews

/// The directory /sys/fs/cgroup: the control groups of version 2, who is in them, and what they may use.
///
/// Source: kernel/cgroup/cgroup.c, `cgroup_base_files`; mm/memcontrol.c; kernel/cgroup/pids.c; kernel/sched/core.c, `cpu_max_show`.
final class ControlGroupTree: Sendable {
  private let kernel: Kernel
  private let kept = Recent<Groups>()
  private let host = Mutex<ShadowHost?>(nil)

  private struct Groups: Sendable {
    var byPath: [[UInt8]: ControlGroup] = [:]
    var children: [[UInt8]: [[UInt8]]] = [:]
    /// Who is in a group itself.
    var threads: [[UInt8]: [KernelTask]] = [:]
  }

  init(_ kernel: Kernel) { self.kernel = kernel }

  /// The directory, where the first process sees the groups of version 2 in it.
  func node() throws -> ShadowNode? {
    let place = Array("/sys/fs/cgroup".utf8), kind = Array("cgroup2".utf8)
    guard try currentHost().mounts().contains(where: { $0.mountPoint == place && $0.fileSystem == kind }) else {
      return nil
    }
    return directory([47])
  }

  private func currentHost() throws -> ShadowHost {
    try host.withLock { host in
      if let host { return host }
      let made = try ShadowHost(kernel)
      host = made
      return made
    }
  }

  private func groups() throws -> Groups {
    let host = try currentHost()
    return try kept.value {
      var groups = Groups()
      for group in try ShadowHost.whole({ try kernel.controlGroups() }).groups
      where group.hierarchy == 0 && !group.isDying {
        groups.byPath[group.path] = group
        guard group.path != [47], let slash = group.path.lastIndex(of: 47) else { continue }
        groups.children[slash == 0 ? [47] : Array(group.path[..<slash]), default: []].append(group.path)
      }
      let table = try host.processes()
      let tasks = table.processes.flatMap { table.threads(of: $0) }.map(\.task)
      let details = try ShadowHost.whole { try kernel.details(of: tasks, .controlGroups) }
      for (task, own) in zip(tasks, details.details) {
        guard let place = own.controlGroups.first(where: { $0.hierarchy == 0 }) else { continue }
        groups.threads[place.path, default: []].append(task)
      }
      return groups
    }
  }

  private func directory(_ path: [UInt8]) -> ShadowNode {
    .listing { [self] in try entries(path) }
  }

  private func entries(_ path: [UInt8]) throws -> [ShadowNode.Entry] {
    let groups = try groups()
    guard let group = groups.byPath[path] else { throw ShadowError.missing }
    var entries = (groups.children[path] ?? []).map { child in
      ShadowNode.Entry(
        name: String(decoding: child[(child.lastIndex(of: 47).map { $0 + 1 } ?? 0)...], as: UTF8.self),
        node: directory(child))
    }
    func file(_ name: String, _ make: @escaping @Sendable (ControlGroup, Groups) throws -> String) {
      entries.append(
        .init(
          name: name,
          node: .file { [self] in
            let groups = try self.groups()
            guard let group = groups.byPath[path] else { throw ShadowError.missing }
            return Array(try make(group, groups).utf8)
          }))
    }
    file("cgroup.controllers") { group, _ in group.controllers.joined(separator: " ") + "\n" }
    file("cgroup.subtree_control") { group, _ in group.subtreeControl.joined(separator: " ") + "\n" }
    file("cgroup.procs") { _, groups in
      (groups.threads[path] ?? []).filter { $0.tid == $0.tgid }.map { "\($0.tgid)\n" }.joined()
    }
    file("cgroup.threads") { _, groups in (groups.threads[path] ?? []).map { "\($0.tid)\n" }.joined() }
    guard path != [47] else { return entries }
    let kernel = kernel
    file("cgroup.events") { group, _ in try Self.events(group, kernel) }
    @Sendable func limit(_ value: UInt64?) -> String { (value.map { "\($0)" } ?? "max") + "\n" }
    if group.memoryCurrent != nil {
      file("memory.current") { group, _ in limit(group.memoryCurrent) }
      file("memory.high") { group, _ in limit(group.memoryHigh) }
      file("memory.max") { group, _ in limit(group.memoryMax) }
    }
    if group.pidsCurrent != nil {
      file("pids.current") { group, _ in limit(group.pidsCurrent) }
      file("pids.max") { group, _ in limit(group.pidsMax) }
    }
    if group.cpuPeriod != nil {
      file("cpu.max") { group, _ in "\(group.cpuQuota.map { "\($0)" } ?? "max") \(group.cpuPeriod ?? 0)\n" }
    }
    return entries
  }

  /// Source: `cgroup_events_show`.
  private static func events(_ group: ControlGroup, _ kernel: Kernel) throws -> String {
    let own = try kernel.struct("cgroup", at: group.address)
    let isUsed = try ["nr_populated_csets", "nr_populated_domain_children", "nr_populated_threaded_children"]
      .contains { try own.unsigned($0) != 0 }
    let bit = UInt64(try kernel.constant("CGRP_FROZEN") & 63)
    return "populated \(isUsed ? 1 : 0)\nfrozen \(try own.unsigned("flags") >> bit & 1)\n"
  }
}
