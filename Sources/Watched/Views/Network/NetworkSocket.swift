import Binding
import KernelInfo
public import LinuxKernel
public import Memory
import TaskViews

/// One socket, of any network namespace.
public struct NetworkSocket: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case tcp, udp, udplite, raw, unix, netlink, packet
  }

  /// A process that has the socket open.
  public struct Owner: Hashable, Sendable {
    public var pid: Int32
    public var descriptor: Int
    public var comm: [UInt8]
  }

  public var kind: Kind
  /// The address of its `struct sock`, or of what stands for one that waits or begins.
  public var address: VirtualAddress
  /// The inode number of its namespace.
  public var namespace: UInt64
  /// `AF_INET` is 2, `AF_INET6` is 10.
  public var family: UInt16
  /// `SOCK_STREAM` is 1, `SOCK_DGRAM` 2, `SOCK_RAW` 3, `SOCK_SEQPACKET` 5; zero where it is unknown.
  public var type: UInt16 = 0
  /// The protocol of IP or netlink, or the Ethernet type of a packet socket.
  public var protocolNumber: UInt16 = 0
  /// As include/net/tcp_states.h numbers them.
  public var state: UInt8
  public var local: NetworkAddress?
  public var remote: NetworkAddress?
  /// Ports; of netlink sockets their port ids.
  public var localPort: UInt32 = 0
  public var remotePort: UInt32 = 0
  /// The number of the interface that it is bound to, zero for none.
  public var interface: Int32 = 0
  /// The path of a unix socket; an abstract name starts with a zero byte.
  public var path: [UInt8] = []
  /// The inode number of the other end of a unix socket.
  public var peerInode: UInt64?
  /// Bytes that wait to be read; of a listening socket, connections that wait to be accepted; of a unix socket, messages.
  public var receiveQueue: UInt64 = 0
  /// Bytes sent and not yet acknowledged; of a listening socket, how many connections may wait.
  public var sendQueue: UInt64 = 0
  /// Zero where no file belongs to the socket any more.
  public var inode: UInt64 = 0
  public var uid: UInt32 = 0
  public var owners: [Owner] = []

  /// The state as ss(8) writes it.
  public var stateName: String {
    let names = [
      "UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT",
      "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECV",
    ]
    return Int(state) < names.count ? names[Int(state)] : names[0]
  }
}

/// The sockets of a host, and what could not be read of them.
public struct SocketTable: Faulted {
  public var sockets: [NetworkSocket] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The sockets of every network namespace, with the processes that have them open.
  ///
  /// Cost: some dozen round trips where the memory is remote: hash tables, chains, and the processes' file tables.
  public func sockets() throws(KernelError) -> SocketTable {
    let owners = try self.reader(SocketOwnerReader.self)
    return try read(with: SocketReader.self) { reader in
      var table = try reader.read(in: addressSpace)
      let tasks = try tasks(TaskQuery(includesCommandLines: false)).tasks
      let found = owners.owners(among: tasks, in: addressSpace)
      // File tables change all the time; a socket without owners is no damage of the socket.
      for index in table.sockets.indices {
        if let file = table.files[table.sockets[index].address] { table.sockets[index].owners = found[file] ?? [] }
      }
      return SocketTable(sockets: table.sockets, faults: table.faults)
    }
  }

  /// The sockets of every network namespace, of whose owners nothing is known.
  ///
  /// Cost: some round trips where the memory is remote: hash tables and chains.
  public func socketsWithoutOwners() throws(KernelError) -> SocketTable {
    try read(with: SocketReader.self) { reader in
      let table = try reader.read(in: addressSpace)
      return SocketTable(sockets: table.sockets, faults: table.faults)
    }
  }
}
