public import LinuxKernel
public import Views

/// The sockets, as ss(8) lists them.
public struct SocketView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(short: "k", selects: true, help: "Only this kind.") public var kind: NetworkSocket.Kind?
    @ViewOption(short: "l", selects: true, help: "Only listening sockets.") public var listening = false
    public init() {}
  }

  public static let name = "ss"
  public static let group = ViewGroup.network
  public static let summary = "Lists the sockets of every network namespace, and who has them open."
  public static let discussion = """
    NETNS is the number that /proc/PID/ns/net shows. Queues are bytes, of a listening socket connections: those that \
    wait, and how many may; RECV-Q of a unix socket counts messages. A name that starts with @ is an abstract one.
    """

  public static func columns(_ options: Options) -> [ViewColumn<NetworkSocket>] {
    [
      ViewColumn("NETID", "netid") { $0.kind.rawValue }.identity,
      ViewColumn("STATE", "state", \.stateName),
      ViewColumn("RECV-Q", "recv_q", \.receiveQueue),
      ViewColumn("SEND-Q", "send_q", \.sendQueue),
      ViewColumn("LOCAL", text: { ends(of: $0).local }),
      ViewColumn("PEER", text: { ends(of: $0).peer }),
      ViewColumn("NETNS", "netns", \.namespace).identity,
      ViewColumn("INODE", "inode", \.inode).identity,
      ViewColumn("UID", "uid", \.uid),
      ViewColumn("PROCESS", "owners") { (socket: NetworkSocket) -> [ViewValue] in
        socket.owners.map { owner in
          .object([
            ViewValue.Member("pid", owner.pid), ViewValue.Member("fd", owner.descriptor),
            ViewValue.Member("comm", owner.comm),
          ])
        }
      }.shown { (socket: NetworkSocket) -> String in
        socket.owners.map { "\($0.comm.printable)(pid=\($0.pid),fd=\($0.descriptor))" }.joined(separator: ",")
      }.with("pid", "fd", "comm"),
      ViewColumn(json: "family", \.family), ViewColumn(json: "type", \.type),
      ViewColumn(json: "protocol", \.protocolNumber),
      ViewColumn(json: "local", \.local), ViewColumn(json: "local_port", \.localPort).identity,
      ViewColumn(json: "remote", \.remote), ViewColumn(json: "remote_port", \.remotePort),
      ViewColumn(json: "path", \.path).identity, ViewColumn(json: "peer_inode", \.peerInode),
      ViewColumn(json: "ifindex", \.interface), ViewColumn(json: "sock", in: .address, \.address),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<NetworkSocket> {
    let table = try kernel.sockets()
    let order = Dictionary(
      NetworkSocket.Kind.allCases.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    let (kind, listening) = (options.kind, options.listening)
    let sockets = table.sockets.filter { (kind == nil || $0.kind == kind) && (!listening || $0.isListening) }.sorted {
      (order[$0.kind] ?? 0, $0.namespace, $0.state, $0.localPort, $0.inode)
        < (order[$1.kind] ?? 0, $1.namespace, $1.state, $1.localPort, $1.inode)
    }
    return ViewRows(sockets, faults: table.faults)
  }

  /// Its two ends, as ss(8) writes them.
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
}

extension NetworkSocket {
  /// `TCP_LISTEN` (include/net/tcp_states.h).
  fileprivate var isListening: Bool { state == 10 }
}

extension NetworkSocket.Kind: ViewOptionValue, ViewOptionDefault {}

extension NetworkAddress: ViewRepresentable {
  public var viewValue: ViewValue { .text("\(self)") }
}
