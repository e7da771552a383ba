import Glibc
import Shadow

extension TrappedCall {
  /// Calls of netlink(7): such sockets are conversations with us, and what is sent by them is answered for the host.
  static let netlinkCalls: [TrappedCall] = [
    TrappedCall("socket", when: [.masked(0, mask: 0xffff_ffff, 16)], [.masked(0, mask: 0xffff_ffff, 17)]) {
      question, host in
      guard question.number(0) == 16 else { return .refused(EAFNOSUPPORT, "listen to the host's packets") }
      guard let family = NetlinkSockets.Family(rawValue: question.number(2)) else {
        return .refused(EPROTONOSUPPORT, "ask by netlink of family \(question.number(2))")
      }
      let closes = question.number(1) & Int32(SOCK_CLOEXEC.rawValue) != 0
      return .value(Int64(try host.netlink.open(family, for: question, closesOnExec: closes)))
    },
    onNetlink("bind") { question, host, socket in
      let address = try question.read(question.arguments[1], count: 12)
      let port = address[4..<8].reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
      // News of the host's changes, by groups, never come.
      if port != 0 { host.netlink.setPort(port, of: socket) }
      return .value(0)
    },
    onNetlink("connect") { _, _, _ in .value(0) },
    onNetlink("getsockname") { question, _, socket in
      var address = StructBytes()
      address.add(UInt16(16))
      address.add(UInt16(0))
      address.add(socket.port)
      address.add(UInt32(0))
      let room = try question.read(question.arguments[2], count: 4).reversed().reduce(0) { $0 << 8 | Int($1) }
      try question.write(Array(address.bytes.prefix(room)), at: question.arguments[1])
      var length = StructBytes()
      length.add(Int32(address.bytes.count))
      try question.write(length.bytes, at: question.arguments[2])
      return .value(0)
    },
    // SOL_SOCKET is 1: buffers and times are the socket's own; the rest is how netlink is to speak.
    onNetlink("setsockopt") { question, _, _ in question.number(1) == 1 ? .own : .value(0) },
    onNetlink("sendto") { question, host, socket in
      let packet = try read([(question.arguments[1], question.arguments[2])], question)
      try answer(packet, socket, host)
      return .value(Int64(packet.count))
    },
    // Some programs write to it as to a file.
    onNetlink("write") { question, host, socket in
      let packet = try read([(question.arguments[1], question.arguments[2])], question)
      try answer(packet, socket, host)
      return .value(Int64(packet.count))
    },
    onNetlink("writev") { question, host, socket in
      let packet = try gathered(question.arguments[1], Int(clamping: question.arguments[2]), question)
      try answer(packet, socket, host)
      return .value(Int64(packet.count))
    },
    onNetlink("sendmsg") { question, host, socket in
      let header = try question.read(question.arguments[1], count: 56)
      let packet = try gathered(word(header, 16), Int(clamping: word(header, 24)), question)
      try answer(packet, socket, host)
      return .value(Int64(packet.count))
    },
  ]

  private static func onNetlink(
    _ name: String, _ answer: @escaping @Sendable (Question, Host, NetlinkSockets.Socket) throws -> Reply
  ) -> TrappedCall {
    TrappedCall(name, when: [.atLeast(0, UInt64(NetlinkSockets.first))]) { question, host in
      guard let socket = host.netlink.socket(question.number(0), of: question) else { return .own }
      return try answer(question, host, socket)
    }
  }

  private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
    bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// What `count` pieces gather, whose addresses and lengths lie at `pieces`.
  private static func gathered(_ pieces: UInt64, _ count: Int, _ question: Question) throws(CallError) -> [UInt8] {
    guard count <= 16 else { throw CallError(EMSGSIZE) }
    let list = try question.read(pieces, count: count * 16)
    return try read((0..<count).map { (word(list, $0 * 16), word(list, $0 * 16 + 8)) }, question)
  }

  private static func read(_ pieces: [(UInt64, UInt64)], _ question: Question) throws(CallError) -> [UInt8] {
    var packet: [UInt8] = []
    for (address, count) in pieces {
      guard packet.count + Int(clamping: min(count, 1 << 20)) <= 1 << 16 else { throw CallError(EMSGSIZE) }
      packet += try question.read(address, count: Int(count))
    }
    return packet
  }

  /// Sends the answers to what a program sent.
  private static func answer(_ packet: [UInt8], _ socket: NetlinkSockets.Socket, _ host: Host) throws {
    var packets: [[UInt8]] = []
    for request in NetlinkMessage.messages(in: packet) {
      do {
        packets += try answers(to: request, socket, host)
      } catch let error as CallError {
        packets.append(request.error(error.code, port: socket.port).bytes)
      } catch {
        // The host cannot be read.
        packets.append(request.error(EIO, port: socket.port).bytes)
      }
    }
    host.netlink.send(packets, to: socket)
  }

  private static func answers(
    to request: NetlinkMessage, _ socket: NetlinkSockets.Socket, _ host: Host
  ) throws -> [[UInt8]] {
    var found: (type: UInt16, bodies: [[UInt8]])?
    switch socket.family {
    case .route:
      // Of four kinds of requests each third asks, and the others change.
      guard request.type < 16 || request.type % 4 == 2 else { throw CallError(EPERM) }
      found = try RouteMessages.answer(request, host.answers)
    case .diagnostics:
      found = try SocketMessages.answer(request, host.answers).map { (SocketMessages.type, $0) }
    case .generic: found = try GenericMessages.answer(request, host)
    }
    guard let found else { throw CallError(EOPNOTSUPP) }
    let isDump = request.flags & NetlinkMessage.Flag.dump != 0
    var messages = found.bodies.map { body in
      NetlinkMessage(
        type: found.type, flags: isDump ? NetlinkMessage.Flag.many : 0, sequence: request.sequence, port: socket.port,
        body: body)
    }
    if isDump {
      messages.append(
        NetlinkMessage(
          type: NetlinkMessage.Kind.done, flags: NetlinkMessage.Flag.many, sequence: request.sequence,
          port: socket.port, body: [0, 0, 0, 0]))
    } else if request.flags & NetlinkMessage.Flag.acknowledge != 0 {
      messages.append(request.error(0, port: socket.port))
    }
    return packed(messages)
  }

  /// Messages in packets as large as the kernel's.
  private static func packed(_ messages: [NetlinkMessage]) -> [[UInt8]] {
    var packets: [[UInt8]] = [[]]
    for message in messages {
      let bytes = message.bytes
      // The end of a list comes in a packet of its own, as readers are used to.
      let isEnd = message.type == NetlinkMessage.Kind.done
      if packets[packets.count - 1].count + bytes.count > 8192 || isEnd && !packets[packets.count - 1].isEmpty {
        packets.append([])
      }
      packets[packets.count - 1] += bytes
    }
    return packets.filter { !$0.isEmpty }
  }
}
