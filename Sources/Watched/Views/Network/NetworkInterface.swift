import Binding
import KernelInfo
public import LinuxKernel
public import Memory

/// A network interface of any namespace.
public struct NetworkInterface: Sendable {
  /// Packets and bytes since the interface was made.
  public struct Counters: Sendable {
    public var receivedPackets: UInt64
    public var receivedBytes: UInt64
    public var sentPackets: UInt64
    public var sentBytes: UInt64
  }

  public struct Address: Hashable, Sendable {
    public var address: NetworkAddress
    public var prefixLength: Int
    /// The other end of a point-to-point link, where that is not the address itself.
    public var peer: NetworkAddress?
    /// As rtnetlink(7) numbers it: 0 is global, 253 link, 254 host. Of IPv6 the kernel's own form in `rt_scope`.
    public var scope: UInt8
    /// As include/uapi/linux/if_addr.h numbers them: `IFA_F_PERMANENT` is 0x80.
    public var flags: UInt32
    /// The address of all hosts on the link, where IPv4 was told one.
    public var broadcast: NetworkAddress?
    /// The name that IPv4 gives it, empty for none.
    public var label: [UInt8]
    /// Seconds that it was given, from when it was, to be chosen and to be kept; `UInt32.max` for ever.
    public var preferredLifetime, validLifetime: UInt32
  }

  /// What the kernel says of an interface only to who asks for all.
  public struct Link: Sendable {
    /// `__LINK_STATE_*`, by bits: 0 it was started, 2 there is no carrier, 4 dormant (include/linux/netdevice.h).
    public var state: UInt64
    /// Flags that an administrator set: promiscuous mode and all multicast count from both.
    public var ownFlags: UInt32
    /// Packets.
    public var queueLength: UInt32
    public var group: UInt32
    public var mode: UInt8
    /// The address of all cards on the link.
    public var broadcast: [UInt8]
    /// The name of what queues packets, empty for none.
    public var queueing: [UInt8]
  }

  /// The address of its `net_device`.
  public var device: VirtualAddress
  /// The inode number of its namespace.
  public var namespace: UInt64
  public var index: Int32
  /// Any bytes but zero.
  public var name: [UInt8]
  /// `IFF_UP` is 1, as netdevice(7) lists them. Promiscuous mode is ``promiscuity``: the flag tells only of administrators.
  public var flags: UInt32
  /// Bytes.
  public var mtu: UInt32
  /// The hardware's type: 1 is Ethernet, 772 the loopback.
  public var type: UInt16
  /// The state by RFC 2863: 6 is up, 2 is down, 0 unknown.
  public var operationalState: UInt8
  public var hardwareAddress: NetworkAddress
  /// How many times promiscuous mode was asked for: by an administrator, or by programs that listen to all packets.
  public var promiscuity: UInt32
  public var allMulticast: UInt32
  public var addresses: [Address] = []
  /// Nil where the driver keeps them in structures of its own, whose types the kernel's table does not have.
  public var counters: Counters?
  public var link: Link

  public var isUp: Bool { flags & 1 != 0 }
  public var isPromiscuous: Bool { promiscuity > 0 || flags & 0x100 != 0 }
}

/// What the kernel knows of a neighbour on a link.
public struct Neighbour: Sendable {
  public var namespace: UInt64
  public var address: NetworkAddress
  public var hardwareAddress: NetworkAddress
  /// The name of the interface.
  public var interface: [UInt8]
  /// `NUD_REACHABLE` is 2, as include/uapi/linux/neighbour.h numbers them.
  public var state: UInt8

  /// The states as ip(8) writes them.
  public var stateName: String {
    switch state {
    case 0x01: "INCOMPLETE"
    case 0x02: "REACHABLE"
    case 0x04: "STALE"
    case 0x08: "DELAY"
    case 0x10: "PROBE"
    case 0x20: "FAILED"
    case 0x40: "NOARP"
    case 0x80: "PERMANENT"
    default: "NONE"
    }
  }
}

/// A route: where packets to a range of addresses go.
public struct Route: Sendable {
  public var namespace: UInt64
  /// 254 is the main table, 255 the local one.
  public var table: UInt32
  public var destination: NetworkAddress
  public var prefixLength: Int
  public var gateway: NetworkAddress?
  /// The name of the interface, empty for routes that lead nowhere.
  public var interface: [UInt8]
  public var metric: UInt32
  /// `RTN_UNICAST` is 1, `RTN_LOCAL` 2, as rtnetlink(7) numbers them.
  public var type: UInt8
  /// Who made it: 2 the kernel, 3 the administrator at boot, 4 the administrator.
  public var origin: UInt8
  /// How far its destinations are, as rtnetlink(7) numbers it: 0 is global, 253 link, 254 host.
  public var scope: UInt8 = 0
  /// The own address that packets are sent from, where it is said.
  public var preferredSource: NetworkAddress?
  /// The address of its `fib_info` or `fib6_info`.
  package var entry = VirtualAddress(0)

  /// The type as ip(8) writes it.
  public var typeName: String {
    let names = [
      "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit",
      "throw", "nat",
    ]
    return Int(type) < names.count ? names[Int(type)] : "\(type)"
  }
}

/// The interfaces, neighbours and routes of all network namespaces, and what could not be read of them.
public struct NetworkConfiguration: Faulted {
  public var namespaces: [NetworkNamespace] = []
  public var interfaces: [NetworkInterface] = []
  public var neighbours: [Neighbour] = []
  public var routes: [Route] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The interfaces, neighbours and routes of every network namespace.
  ///
  /// Cost: some dozen round trips where the memory is remote: lists of interfaces and addresses, and trees of routes.
  public func network() throws(KernelError) -> NetworkConfiguration {
    let routes = try reader(RouteReader.self)
    let cpus = try cpus()
    return try read(with: InterfaceReader.self) { interfaces in
      var configuration = try interfaces.read(cpus: cpus, in: addressSpace)
      routes.read(into: &configuration, in: addressSpace)
      return configuration
    }
  }
}
