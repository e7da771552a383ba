import ArgumentParser
import KernelViews
import Output

struct SS: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ss",
    abstract: "Lists the sockets of every network namespace, and who has them open.",
    discussion: """
      NETNS is the number that /proc/PID/ns/net shows. Queues are bytes, of a listening socket connections: those that \
      wait, and how many may; RECV-Q of a unix socket counts messages. A name that starts with @ is an abstract one.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Option(name: .shortAndLong, help: "Only this kind: tcp, udp, udplite, raw, unix, netlink or packet.")
  var kind: String?

  @Flag(name: .shortAndLong, help: "Only listening sockets.")
  var listening = false

  func validate() throws {
    if let kind, NetworkSocket.Kind(rawValue: kind) == nil {
      throw ValidationError("--kind takes \(NetworkSocket.Kind.allCases.map(\.rawValue).joined(separator: ", ")).")
    }
  }

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.sockets() }
    let order = Dictionary(
      NetworkSocket.Kind.allCases.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    let sockets = table.sockets.filter { socket in
      (kind == nil || socket.kind.rawValue == kind) && (!listening || socket.state == 10)
    }.sorted {
      (order[$0.kind] ?? 0, $0.namespace, $0.state, $0.localPort, $0.inode)
        < (order[$1.kind] ?? 0, $1.namespace, $1.state, $1.localPort, $1.inode)
    }
    writeOutput(output.json ? JSON.lines(sockets.map { json(of: $0) }) : Array(text(of: sockets).utf8))
    try reportFaults(table.faults)
  }

  private func text(of sockets: [NetworkSocket]) -> String {
    var table = Table([
      ("NETID", .left), ("STATE", .left), ("RECV-Q", .right), ("SEND-Q", .right), ("LOCAL", .left), ("PEER", .left),
      ("NETNS", .right), ("INODE", .right), ("UID", .right), ("PROCESS", .left),
    ])
    for socket in sockets {
      let (local, peer) = Self.ends(of: socket)
      table.add([
        socket.kind.rawValue, socket.stateName, "\(socket.receiveQueue)", "\(socket.sendQueue)", local, peer,
        "\(socket.namespace)", "\(socket.inode)", "\(socket.uid)",
        socket.owners.map { "\($0.comm.printable)(pid=\($0.pid),fd=\($0.descriptor))" }.joined(separator: ","),
      ])
    }
    return table.text()
  }

  private static func ends(of socket: NetworkSocket) -> (local: String, peer: String) {
    func end(_ address: NetworkAddress?, _ port: UInt32) -> String {
      let text = address.map { $0.bytes.count == 16 ? "[\($0)]" : "\($0)" } ?? ""
      return "\(text):\(socket.kind == .raw ? "\(socket.protocolNumber)" : port == 0 ? "*" : "\(port)")"
    }
    switch socket.kind {
    case .unix:
      let name = socket.path.first == 0 ? [UInt8(ascii: "@")] + socket.path.dropFirst() : socket.path
      return (name.isEmpty ? "*" : name.printable, socket.peerInode.map { "\($0)" } ?? "*")
    case .netlink: return ("\(socket.protocolNumber):\(socket.localPort)", "\(socket.remotePort)")
    case .packet: return ("0x\(String(socket.protocolNumber, radix: 16)):\(socket.interface)", "*")
    default: return (end(socket.local, socket.localPort), end(socket.remote, socket.remotePort))
    }
  }

  private func json(of socket: NetworkSocket) -> JSON {
    .object([
      ("netid", .string(socket.kind.rawValue)), ("family", .integer(socket.family)), ("type", .integer(socket.type)),
      ("protocol", .integer(socket.protocolNumber)), ("state", .string(socket.stateName)),
      ("local", socket.local.map { .string("\($0)") } ?? .null), ("local_port", .integer(socket.localPort)),
      ("remote", socket.remote.map { .string("\($0)") } ?? .null), ("remote_port", .integer(socket.remotePort)),
      ("path", .bytes(socket.path)), ("peer_inode", socket.peerInode.map { .unsigned($0) } ?? .null),
      ("recv_q", .unsigned(socket.receiveQueue)), ("send_q", .unsigned(socket.sendQueue)),
      ("ifindex", .integer(socket.interface)), ("netns", .unsigned(socket.namespace)),
      ("inode", .unsigned(socket.inode)), ("uid", .integer(socket.uid)),
      (
        "owners",
        .array(
          socket.owners.map { owner in
            .object([("pid", .integer(owner.pid)), ("fd", .integer(owner.descriptor)), ("comm", .bytes(owner.comm))])
          })
      ),
      ("sock", .string("\(socket.address)")),
    ])
  }
}
