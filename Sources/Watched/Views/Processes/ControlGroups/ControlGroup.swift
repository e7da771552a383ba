public import LinuxKernel
public import Memory

/// Where a task is in one hierarchy of control groups: a line of /proc/PID/cgroup.
public struct ControlGroupPlace: Hashable, Sendable {
  /// The hierarchy's id; 0 is that of version 2.
  public let hierarchy: Int
  /// The controllers that are bound to a hierarchy of version 1, and `name=…` where it has one.
  public let controllers: [String]
  public let path: [UInt8]
  /// Whether the group was removed while it had tasks that are not gone yet.
  public let isDeleted: Bool

  /// As in /proc/PID/cgroup: `0::/system.slice`.
  public var line: [UInt8] {
    Array("\(hierarchy):\(controllers.joined(separator: ",")):".utf8) + path
      + (isDeleted ? Array(" (deleted)".utf8) : [])
  }
}

/// A control group.
public struct ControlGroup: Sendable {
  /// The address of its `struct cgroup`.
  public let address: VirtualAddress
  /// The id of its hierarchy; 0 is that of version 2.
  public let hierarchy: Int
  /// The id, which is the inode number of its directory.
  public let id: UInt64
  public internal(set) var path: [UInt8]
  public let level: Int
  /// What can be controlled here: `cgroup.controllers`.
  public let controllers: [String]
  /// What its children are controlled by: `cgroup.subtree_control`.
  public let subtreeControl: [String]
  /// Whether its directory was removed; what was charged to it is not all given back.
  public let isDying: Bool
  /// Processes and threads that are in it itself.
  public internal(set) var processes = 0
  public internal(set) var threads = 0
  /// Bytes of memory in use by it and its children; nil without that controller.
  public internal(set) var memoryCurrent: UInt64?
  /// Bytes, nil for no limit.
  public internal(set) var memoryMax: UInt64?
  public internal(set) var memoryHigh: UInt64?
  /// Tasks in it and its children; nil without that controller.
  public internal(set) var pidsCurrent: UInt64?
  public internal(set) var pidsMax: UInt64?
  /// Microseconds of CPU time in each period, nil for no limit.
  public internal(set) var cpuQuota: UInt64?
  /// Microseconds; nil without the controller.
  public internal(set) var cpuPeriod: UInt64?
}

/// A controller, as a line of /proc/cgroups.
public struct ControlGroupController: Sendable {
  /// As in version 2: `io`.
  public let name: String
  /// As in version 1: `blkio`.
  public let legacyName: String
  /// The hierarchy that it is bound to; 0 is that of version 2.
  public let hierarchy: Int
  /// How many groups that has.
  public let groups: Int
  public let isEnabled: Bool
}

/// All control groups.
public struct ControlGroupTable: Faulted {
  /// Version 2 first; parents before their children, and those in the kernel's order.
  public internal(set) var groups: [ControlGroup] = []
  public internal(set) var controllers: [ControlGroupController] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
