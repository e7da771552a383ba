public import Memory

/// The kinds of namespaces, by their names in /proc/PID/ns.
public enum NamespaceKind: String, CaseIterable, Sendable {
  case mount = "mnt"
  case pid = "pid"
  case network = "net"
  case uts = "uts"
  case ipc = "ipc"
  case user = "user"
  case controlGroup = "cgroup"
  case time = "time"

  /// The struct that holds one.
  var structure: String {
    switch self {
    case .mount: "mnt_namespace"
    case .pid: "pid_namespace"
    case .network: "net"
    case .uts: "uts_namespace"
    case .ipc: "ipc_namespace"
    case .user: "user_namespace"
    case .controlGroup: "cgroup_namespace"
    case .time: "time_namespace"
    }
  }

  /// The kernel's variable with what can be done to one: it tells of which kind a `ns_common` is.
  var operations: String {
    switch self {
    case .mount: "mntns_operations"
    case .pid: "pidns_operations"
    case .network: "netns_operations"
    case .uts: "utsns_operations"
    case .ipc: "ipcns_operations"
    case .user: "userns_operations"
    case .controlGroup: "cgroupns_operations"
    case .time: "timens_operations"
    }
  }
}

/// A namespace of one kind.
public struct NamespaceID: Hashable, Sendable {
  /// The address of its struct.
  public let address: VirtualAddress
  /// The inode number that /proc/PID/ns shows.
  public let number: UInt64
}
