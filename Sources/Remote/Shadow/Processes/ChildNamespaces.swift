import Binding
import KernelInfo
import LinuxKernel
import Memory

/// The namespaces that a thread's children will be in: `pid_for_children` and `time_for_children` of /proc/PID/ns.
///
/// Source: kernel/pid_namespace.c, `pidns_for_children_get`; kernel/time/namespace.c, `timens_for_children_get`.
enum ChildNamespaces {
  private struct Task: KernelShape {
    static let type = "task_struct"
    let proxy = Field<VirtualAddress>("nsproxy")
  }

  private struct Proxy: KernelShape {
    static let type = "nsproxy"
    let pid = Field<VirtualAddress?>("pid_ns_for_children"),
      time = Field<VirtualAddress?>(optional: "time_ns_for_children")
  }

  private struct PIDNamespace: KernelShape {
    static let type = "pid_namespace"
    let number = Field<UInt32>("ns.inum"), reaper = Field<VirtualAddress?>("child_reaper")
  }

  private struct TimeNamespace: KernelShape {
    static let type = "time_namespace"
    let number = Field<UInt32>("ns.inum")
  }

  /// Names in the directory, and what the links say.
  static func links(of task: VirtualAddress, _ kernel: Kernel) throws -> [(name: String, target: String)] {
    let proxy = try kernel.read(Task.self, at: [task])[0].proxy
    // A task that ends has given it back.
    guard proxy.rawValue != 0 else { return [] }
    let own = try kernel.read(Proxy.self, at: [proxy])[0]
    var links: [(String, String)] = []
    if let address = try own.pid {
      let namespace = try kernel.read(PIDNamespace.self, at: [address])[0]
      // One without its first process is not there yet.
      if try namespace.reaper != nil { links.append(("pid_for_children", "pid:[\(try namespace.number)]")) }
    }
    if let address = try own.time {
      let number = try kernel.read(TimeNamespace.self, at: [address])[0].number
      links.append(("time_for_children", "time:[\(number)]"))
    }
    return links
  }
}
