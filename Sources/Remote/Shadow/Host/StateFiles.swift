import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// Files of /proc that say in few lines how the host does: pressure, control groups, consoles.
enum StateFiles {
  /// The directory /proc/pressure; nil where this kernel was built or booted without it.
  ///
  /// Source: kernel/sched/psi.c, `psi_show`. The host brings its totals up to date when it is asked itself.
  static func pressure(_ kernel: Kernel) throws -> ShadowNode? {
    guard kernel.symbols.address(of: "psi_system") != nil else { return nil }
    // PSI_DEFAULT_DISABLED, psi=0.
    if let key = kernel.symbols.address(of: "psi_disabled"), try kernel.isSwitchedOn(key) { return nil }
    let resources = try kernel.pressure().map(\.resource)
    return .directory(
      named: resources.map { resource in (resource.rawValue, .file { try pressure(resource, kernel) }) })
  }

  private static func pressure(_ resource: Pressure.Resource, _ kernel: Kernel) throws -> [UInt8] {
    guard let pressure = try kernel.pressure().first(where: { $0.resource == resource }) else {
      throw ShadowError.missing
    }
    var text = ProcText()
    for (name, stall) in [("some", pressure.some), ("full", pressure.full)] {
      guard let stall else { continue }
      // Of the CPUs there is no time in which nothing could go on for the host as a whole.
      let isNone = resource == .cpu && name == "full"
      let averages = stall.averages.map { average -> String in
        let value = isNone ? 0 : UInt64(max(0, min(average * 2048, 1e15)))
        return "\(value >> 11).\(ProcText.padded("\(((value & 2047) * 100) >> 11)", 2, "0"))"
      }
      let labels = zip(["avg10", "avg60", "avg300"], averages).map { "\($0)=\($1)" }.joined(separator: " ")
      text.line("\(name) \(labels) total=\(isNone ? 0 : stall.total)")
    }
    return text.bytes
  }

  private struct Controller: KernelShape {
    static let type = "cgroup_subsys"
    let name = Field<VirtualAddress>("legacy_name"), root = Field<VirtualAddress>("root")
    let older = Field<VirtualAddress?>("legacy_cftypes"), files = Field<VirtualAddress?>("dfl_cftypes")
  }

  private struct Hierarchy: KernelShape {
    static let type = "cgroup_root"
    let number = Field<Int32>("hierarchy_id"), groups = Field<Int32>("nr_cgrps.counter")
  }

  /// /proc/cgroups.
  ///
  /// Source: kernel/cgroup/cgroup-v1.c, `proc_cgroupstats_show`.
  static func controlGroups(_ kernel: Kernel) throws -> [UInt8] {
    let count = Int(max(0, min(64, try kernel.constant("CGROUP_SUBSYS_COUNT"))))
    let controllers = try kernel.read(Controller.self, at: kernel.pointers(in: "cgroup_subsys", count: count))
    let names = kernel.addressSpace.strings(at: controllers.pointers(\.name))
    let roots = try kernel.read(Hierarchy.self, at: controllers.pointers(\.root))
    let keys = try kernel.pointers(in: "cgroup_subsys_enabled_key", count: count)
    var text = ProcText("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
    // From 6.14 on those are left out that have files of version 2 only.
    let leavesOut = try kernel.releaseNumbers() >= (6, 14)
    for (root, (name, key)) in zip(roots, zip(names, keys)) {
      let controller = controllers[root.index]
      if leavesOut, try controller.older == nil && controller.files != nil { continue }
      text.add(try name.get())
      text.line("\t\(try root.number)\t\(try root.groups)\t\(try kernel.isSwitchedOn(key) ? 1 : 0)")
    }
    return text.bytes
  }
}
