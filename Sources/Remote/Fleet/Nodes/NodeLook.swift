import LinuxKernel
import Memory
import Paging
import Shadow
import StorageViews

/// One look into a host's memory for what node_exporter would say of it, were it there to be asked.
struct NodeLook {
  /// The host's own clock, as of its last tick.
  struct Clock: Hashable {
    /// Nanoseconds since its boot.
    var uptime: UInt64
    /// Seconds since 1970.
    var wall: Int64
  }

  var metrics = NodeMetrics()
  /// As the look began and as it ended: a host of which these differ goes on.
  var began, ended: Clock
  /// Collectors that had nothing to say, and why.
  var failures: [(collector: String, reason: String)] = []

  /// Looks.
  ///
  /// Cost: some hundred round trips, tens of milliseconds.
  ///
  /// - Throws: why nothing at all can be said.
  init(at kernel: Kernel) throws {
    began = try Self.clock(of: kernel)
    ended = began
    let answers = try HostAnswers(of: kernel)
    let tree = ShadowTree(root: try ProcTree.directory(of: kernel))
    func files(_ path: String) throws -> String { String(decoding: try tree.contents(of: path), as: UTF8.self) }
    func collect(_ name: String, _ body: (inout NodeMetrics) throws -> Void) {
      // Half of what a collector says is not said.
      var metrics = metrics
      do {
        try body(&metrics)
        self.metrics = metrics
      } catch {
        failures.append((name, "\(error)"))
      }
      let isWhole = failures.last?.collector != name
      self.metrics.add(
        "node_scrape_collector_success", .gauge, "node_exporter: Whether a collector succeeded.",
        [("collector", name)], isWhole ? 1 : 0)
    }
    collect("time") {
      $0.add("node_time_seconds", .gauge, "System time in seconds since epoch (1970).", Double(began.wall))
    }
    collect("uname") { metrics in
      let names = try answers.names()
      metrics.add(
        "node_uname_info", .gauge, "Labeled system information as provided by the uname system call.",
        [
          ("sysname", names.system), ("release", names.release), ("version", names.version),
          ("machine", names.machine), ("nodename", names.node), ("domainname", names.domain),
        ].map { ($0.0, String(decoding: $0.1, as: UTF8.self)) }, 1)
    }
    for collector in NodeMetrics.collectors { collect(collector.name) { try collector.collect(&$0, files) } }
    collect("filesystem") { try Self.fileSystems(of: kernel, &$0) }
    ended = try Self.clock(of: kernel)
  }

  private static func clock(of kernel: Kernel) throws -> Clock {
    let reader = try ClockReader(kernel: kernel)
    var batch = ReadBatch<VirtualAddress>()
    let record = reader.add(to: &batch)
    kernel.addressSpace.read(&batch)
    let (uptime, wall) = try reader.read(record, batch)
    return Clock(uptime: uptime, wall: wall)
  }

  // MARK: File systems

  /// Those that the first process sees.
  ///
  /// Of a kind whose counting is not known it is said that it could not be asked.
  private static func fileSystems(of kernel: Kernel, _ metrics: inout NodeMetrics) throws {
    let rooms = try kernel.fileSystemRooms()
    let table = try kernel.mounts()
    if let fault = table.faults.first { throw fault }
    var known: Set<[String]> = []
    for mount in table.mounts {
      let names = [mount.source, mount.mountPoint, mount.fileSystem].map { String(decoding: $0, as: UTF8.self) }
      guard !isLeftOut(kind: names[2], at: names[1]), known.insert(names).inserted else { continue }
      let labels = Array(zip(["device", "mountpoint", "fstype"], names))
      func add(_ name: String, _ help: String, _ value: Double) {
        metrics.add("node_filesystem_\(name)", .gauge, help, labels, value)
      }
      let isReadOnly = mount.options.contains("ro") || mount.superOptions.contains("ro")
      let room = rooms[mount.major << 20 | mount.minor]
      add(
        "device_error", "Whether an error occurred while getting statistics for the given device.",
        room == nil ? 1 : 0)
      guard let room else { continue }
      add("readonly", "Filesystem read-only status.", isReadOnly ? 1 : 0)
      let block = Double(room.blockSize)
      add("size_bytes", "Filesystem size in bytes.", Double(room.blocks) * block)
      add("free_bytes", "Filesystem free space in bytes.", Double(room.freeBlocks) * block)
      add(
        "avail_bytes", "Filesystem space available to non-root users in bytes.", Double(room.availableBlocks) * block)
      add("files", "Filesystem total file nodes.", Double(room.files))
      add("files_free", "Filesystem total free file nodes.", Double(room.freeFiles))
    }
  }

  /// What node_exporter leaves out by default: what has no room of its own, and what others keep below their folders.
  private static func isLeftOut(kind: String, at mountPoint: String) -> Bool {
    let kinds: Set<String> = [
      "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "fusectl",
      "hugetlbfs", "iso9660", "mqueue", "nsfs", "overlay", "proc", "procfs", "pstore", "rpc_pipefs", "securityfs",
      "selinuxfs", "squashfs", "sysfs", "tracefs",
    ]
    let own = ["/dev", "/proc", "/sys"].contains { mountPoint == $0 || mountPoint.hasPrefix($0 + "/") }
    let below = ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"].contains {
      mountPoint.hasPrefix($0) && mountPoint != $0
    }
    return kinds.contains(kind) || own || below
  }
}
