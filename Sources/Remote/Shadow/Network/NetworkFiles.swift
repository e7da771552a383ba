import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging
import ProcessViews
import TaskViews

/// The directory /proc/PID/net: what a process's network namespace holds.
enum NetworkFiles {
  static func directory(_ host: ShadowHost, of task: @escaping @Sendable () throws -> KernelTask) -> ShadowNode {
    let kernel = host.kernel
    @Sendable func namespace() throws -> UInt64 { try Self.namespace(of: task(), kernel) }
    @Sendable func sockets() throws -> SocketFiles { try kernel.reader() }
    return .directory([
      "dev": .file { try devices(namespace: namespace(), kernel) },
      "tcp": .file { try sockets().tcpLines(2, namespace: namespace(), host) },
      "tcp6": .file { try sockets().tcpLines(10, namespace: namespace(), host) },
      "udp": .file { try sockets().udpLines(2, namespace: namespace(), host) },
      "udp6": .file { try sockets().udpLines(10, namespace: namespace(), host) },
      "unix": .file { try sockets().unixLines(namespace: namespace(), kernel) },
    ])
  }

  /// The number of a process's network namespace.
  static func namespace(of task: KernelTask, _ kernel: Kernel) throws -> UInt64 {
    let table = try kernel.details(of: [task], .namespaces).whole()
    guard let id = table.details.first?.namespaces[.network] else { throw ShadowError.missing }
    return id.number
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let core = Field<VirtualAddress?>(optional: "core_stats"), statistics = Place("stats")
    let operations = Field<VirtualAddress>("netdev_ops"), light = Field<VirtualAddress>(optional: "lstats")
  }

  private struct Operations: KernelShape {
    static let type = "net_device_ops"
    let statistics = Field<VirtualAddress>("ndo_get_stats64")
  }

  /// Packets and bytes, where a device counts no more.
  private struct Light: KernelShape {
    static let type = "pcpu_lstats"
    let packets = Field<UInt64>("packets"), bytes = Field<UInt64>("bytes")
  }

  /// Counters that the kernel keeps of what it dropped itself; missing before 5.18.
  private struct Core: KernelShape {
    static let type = "net_device_core_stats"
    let received = Field<UInt64>("rx_dropped"), sent = Field<UInt64>("tx_dropped")
  }

  /// `net_device_stats`: words in this order.
  private static let kinds = [
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
    "multicast",
    "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors",
    "rx_missed_errors", "tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors",
    "tx_window_errors", "rx_compressed", "tx_compressed",
  ]

  private typealias Traffic = (receivedPackets: UInt64, receivedBytes: UInt64, sentPackets: UInt64, sentBytes: UInt64)

  /// What a dummy device sent; it receives nothing.
  ///
  /// Source: drivers/net/dummy.c, `dummy_get_stats64`.
  private static func dummyCounters(
    of device: Reading<Device>, _ name: [UInt8], _ cpus: [PerCPU.CPU], _ kernel: Kernel
  ) throws -> Traffic {
    let function = try kernel.read(Operations.self, at: [device.operations])[0].statistics
    let variable = try device.light
    guard try kernel.symbolMap().place(of: function)?.name == "dummy_get_stats64", variable.rawValue != 0 else {
      let name = String(decoding: name, as: UTF8.self)
      throw ShadowError.unreadable("the driver of \(name) keeps its counters in a struct of its own")
    }
    var sum: Traffic = (0, 0, 0, 0)
    for cpu in try kernel.read(Light.self, at: cpus.map({ $0.address(of: variable) })) {
      sum.sentPackets &+= try cpu.packets
      sum.sentBytes &+= try cpu.bytes
    }
    return sum
  }

  /// /proc/net/dev.
  ///
  /// Source: net/core/net-procfs.c, `dev_seq_printf_stats`. Of a driver that keeps counters in a struct of its own there are
  /// none, and then the file is an error.
  private static func devices(namespace: UInt64, _ kernel: Kernel) throws -> [UInt8] {
    let interfaces = try kernel.network().whole().interfaces.filter { $0.namespace == namespace }
      .sorted { $0.index < $1.index }
    let shape = try kernel.bound(Device.self)
    let devices = try kernel.read(Device.self, at: interfaces.map(\.device))
    let cpus = try kernel.cpus()
    let space = kernel.addressSpace
    var batch = ReadBatch<VirtualAddress>()
    for interface in interfaces { batch.add(interface.device + shape.statistics.offset, count: kinds.count * 8) }
    space.read(&batch)
    var text = ProcText()
    text.line("Inter-|   Receive                                                |  Transmit")
    text.line(
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
        + "compressed")
    for (index, interface) in interfaces.enumerated() {
      let counters =
        try interface.counters.map { ($0.receivedPackets, $0.receivedBytes, $0.sentPackets, $0.sentBytes) as Traffic }
        ?? dummyCounters(of: devices[index], interface.name, cpus, kernel)
      let words = try batch.reader(index).copy().words
      let own = Dictionary(zip(kinds, words), uniquingKeysWith: { first, _ in first })
      func sum(_ names: String...) -> UInt64 { names.reduce(0) { $0 &+ (own[$1] ?? 0) } }
      var (received, sent) = (sum("rx_dropped", "rx_missed_errors"), sum("tx_dropped"))
      if let core = try devices[index].core {
        for cpu in try kernel.read(Core.self, at: cpus.map({ $0.address(of: core) })) {
          received &+= try cpu.received
          sent &+= try cpu.sent
        }
      }
      let columns: [(UInt64, Int)] = [
        (counters.receivedBytes, 7), (counters.receivedPackets, 7), (sum("rx_errors"), 4), (received, 4),
        (sum("rx_fifo_errors"), 4),
        (sum("rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors"), 5), (sum("rx_compressed"), 10),
        (sum("multicast"), 9), (counters.sentBytes, 8), (counters.sentPackets, 7), (sum("tx_errors"), 4), (sent, 4),
        (sum("tx_fifo_errors"), 4), (sum("collisions"), 5),
        (sum("tx_carrier_errors", "tx_aborted_errors", "tx_window_errors", "tx_heartbeat_errors"), 7),
        (sum("tx_compressed"), 10),
      ]
      text.add(String(repeating: " ", count: max(0, 6 - interface.name.count)))
      text.add(interface.name)
      text.line(": " + columns.map { ProcText.padded("\($0)", $1) }.joined(separator: " "))
    }
    return text.bytes
  }
}
