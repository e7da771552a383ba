import Glibc
import Memory
import NetworkViews
import Shadow

/// Answers of sock_diag(7): what `ss` asks.
///
/// Source: include/uapi/linux/inet_diag.h, unix_diag.h, packet_diag.h, netlink_diag.h.
enum SocketMessages {
  /// SOCK_DIAG_BY_FAMILY.
  static let type: UInt16 = 20

  /// The bodies of the answers; nil where nothing is known of such requests.
  static func answer(_ request: NetlinkMessage, _ answers: HostAnswers) throws -> [[UInt8]]? {
    guard request.type == type, request.flags & NetlinkMessage.Flag.dump != 0 else { return nil }
    let (family, proto) = (request.number(0, as: UInt8.self), request.number(1, as: UInt8.self))
    func sockets(_ kind: NetworkSocket.Kind) throws -> [NetworkSocket] {
      try answers.sockets().filter { $0.kind == kind }
    }
    switch family {
    case 2, 10:
      let kinds: [UInt8: NetworkSocket.Kind] = [6: .tcp, 17: .udp, 136: .udplite, 255: .raw]
      guard let kind = kinds[proto] else { return nil }
      let states: UInt32 = request.number(4)
      return try sockets(kind).filter { $0.family == family && states >> UInt32($0.state) & 1 != 0 }.map(internet)
    case 1:
      let states: UInt32 = request.number(4)
      return try sockets(.unix).filter { states >> UInt32($0.state) & 1 != 0 }.map(local)
    case 16: return try sockets(.netlink).map(netlink)
    case 17: return try sockets(.packet).map(packet)
    default: return nil
    }
  }

  private static func identity(_ socket: NetworkSocket, _ bytes: inout StructBytes) {
    // What names it for a second question.
    bytes.add(socket.address.rawValue)
  }

  /// `inet_diag_msg`.
  private static func internet(_ socket: NetworkSocket) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt8(truncatingIfNeeded: socket.family))
    // A connection that begins is told in the state that it will be in.
    bytes.add(socket.state == 12 ? 3 : socket.state)
    bytes.add(UInt16(0))
    for port in [socket.localPort, socket.remotePort] { bytes.add(UInt16(truncatingIfNeeded: port).byteSwapped) }
    for address in [socket.local, socket.remote] {
      let known = (address?.bytes ?? []).prefix(16)
      for byte in known + [UInt8](repeating: 0, count: 16 - known.count) { bytes.add(byte) }
    }
    bytes.add(socket.interface)
    identity(socket, &bytes)
    bytes.add(UInt32(0))
    bytes.add(UInt32(clamping: socket.receiveQueue))
    bytes.add(UInt32(clamping: socket.sendQueue))
    bytes.add(socket.uid)
    bytes.add(UInt32(truncatingIfNeeded: socket.inode))
    return bytes.bytes
  }

  /// `unix_diag_msg`.
  private static func local(_ socket: NetworkSocket) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt8(1))
    bytes.add(UInt8(truncatingIfNeeded: socket.type))
    bytes.add(socket.state)
    bytes.add(UInt8(0))
    bytes.add(UInt32(truncatingIfNeeded: socket.inode))
    identity(socket, &bytes)
    if !socket.path.isEmpty {
      // An abstract name has no end but its length; a path's zero is not counted.
      bytes.add(0, socket.path)
    }
    if let peer = socket.peerInode { bytes.add(2, UInt32(truncatingIfNeeded: peer)) }
    var queues = StructBytes()
    queues.add(UInt32(clamping: socket.receiveQueue))
    queues.add(UInt32(clamping: socket.sendQueue))
    bytes.add(4, queues.bytes)
    return bytes.bytes
  }

  /// `netlink_diag_msg`.
  private static func netlink(_ socket: NetworkSocket) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt8(16))
    bytes.add(UInt8(truncatingIfNeeded: socket.type))
    bytes.add(UInt8(truncatingIfNeeded: socket.protocolNumber))
    bytes.add(socket.state)
    bytes.add(socket.localPort)
    bytes.add(socket.remotePort)
    bytes.add(UInt32(0))
    bytes.add(UInt32(truncatingIfNeeded: socket.inode))
    identity(socket, &bytes)
    return bytes.bytes
  }

  /// `packet_diag_msg`.
  private static func packet(_ socket: NetworkSocket) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt8(17))
    bytes.add(UInt8(truncatingIfNeeded: socket.type))
    bytes.add(socket.protocolNumber)
    bytes.add(UInt32(truncatingIfNeeded: socket.inode))
    identity(socket, &bytes)
    // PACKET_DIAG_INFO: `packet_diag_info`, of which the interface is known.
    var info = StructBytes()
    info.add(socket.interface)
    for _ in 0..<5 { info.add(UInt32(0)) }
    bytes.add(0, info.bytes)
    return bytes.bytes
  }
}
