import Binding
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// The lines of /proc/net/tcp, tcp6, udp, udp6 and unix.
///
/// Source: net/ipv4/tcp_ipv4.c, `tcp4_seq_show`; net/ipv6/tcp_ipv6.c; net/ipv4/udp.c, `udp4_format_sock`; net/ipv6/datagram.c;
/// net/unix/af_unix.c, `unix_seq_show`.
struct SocketFiles: KernelReader {
  static let subject = "the files of sockets"

  private struct Sock: KernelShape {
    static let type = "sock"
    let uses = Field<Int32>("__sk_common.skc_refcnt.refs.counter"), drops = Field<UInt32>("sk_drops.counter")
    let file = Field<VirtualAddress>("sk_socket"), net = Field<VirtualAddress>("__sk_common.skc_net.net")
    let next = Field<VirtualAddress>("sk_timer.entry.pprev"), expires = Field<UInt64>("sk_timer.expires")
    let port = Field<UInt16>("__sk_common.skc_num")
  }

  private struct Connection: KernelShape {
    static let type = "inet_connection_sock"
    let pending = Field<UInt64>("icsk_pending"), timeout = Field<UInt64>(optional: "icsk_timeout")
    // The timer itself says when, from 6.18 on.
    let timer = Field<UInt64>(optional: "icsk_retransmit_timer.expires")
    let retransmits = Field<UInt64>("icsk_retransmits"), probes = Field<UInt64>("icsk_probes_out")
    let retransmission = Field<UInt64>("icsk_rto"), delay = Field<UInt64>("icsk_ack.ato")
    let quick = Field<UInt64>("icsk_ack.quick"), pingPong = Field<UInt64>("icsk_ack.pingpong")
    let fast = Field<Int32>("icsk_accept_queue.fastopenq.max_qlen")
  }

  private struct TCP: KernelShape {
    static let type = "tcp_sock"
    let written = Field<UInt32>("write_seq"), acknowledged = Field<UInt32>("snd_una")
    let window = Field<UInt32>("snd_cwnd"), threshold = Field<UInt32>("snd_ssthresh")
  }

  private struct Waiting: KernelShape {
    static let type = "inet_timewait_sock"
    let uses = Field<Int32>("__tw_common.skc_refcnt.refs.counter"), state = Field<UInt64>("tw_substate")
    let expires = Field<UInt64>("tw_timer.expires")
  }

  private struct Request: KernelShape {
    static let type = "request_sock"
    let expires = Field<UInt64>("rsk_timer.expires"), tries = Field<UInt8>("num_timeout")
  }

  private struct Net: KernelShape {
    static let type = "net"
    let mix = Field<UInt32>("hash_mix"), table = Field<VirtualAddress?>(optional: "ipv4.udp_table")
    let threshold = Field<UInt8>(optional: "ipv4.sysctl_tcp_pingpong_thresh")
  }

  private struct UDPTable: KernelShape {
    static let type = "udp_table"
    let mask = Field<UInt64>("mask")
  }

  private let sock: Bound<Sock>, connection: Bound<Connection>, tcp: Bound<TCP>, waiting: Bound<Waiting>
  private let request: Bound<Request>, net: Bound<Net>, udpTable: Bound<UDPTable>
  private let clock: ClockReader
  private let jiffies: VirtualAddress

  init(kernel: Kernel) throws {
    let types = kernel.types
    (sock, connection, tcp, waiting) = try types.bind()
    (request, net, udpTable) = try types.bind()
    clock = try ClockReader(kernel: kernel)
    jiffies = try kernel.symbol(
      kernel.symbols.address(of: "jiffies_64") == nil ? "jiffies" : "jiffies_64", for: Self.self)
  }

  /// `tcp` or `tcp6` of a namespace.
  func tcpLines(_ family: UInt16, namespace: UInt64, _ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let all = try host.sockets().filter {
      $0.kind == .tcp && $0.family == family && $0.namespace == namespace
    }
    // Those that listen have a table of their own, which comes first.
    let sockets = all.filter { $0.state == 10 } + all.filter { $0.state != 10 }
    let space = kernel.addressSpace
    let addresses = sockets.map(\.address)
    let (socks, connections, tcps) = (
      space.read(sock, at: addresses), space.read(connection, at: addresses), space.read(tcp, at: addresses)
    )
    let (waits, requests) = (space.read(waiting, at: addresses), space.read(request, at: addresses))
    let nets = try sockets.isEmpty ? [] : space.read(net, at: [socks[0].net]).map { $0 }
    let time = try time(kernel)
    let pointers = try HashedPointer(kernel)
    let is6 = family == 10
    var text = ProcText()
    Self.addHeading(
      is6
        ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
          + "tm->when retrnsmt   uid  timeout inode"
        : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
      width: is6 ? 0 : 149, &text)
    for (index, socket) in sockets.enumerated() {
      let place = "\(ProcText.padded("\(index)", 4)): \(Self.places(socket))"
      var line: String
      switch socket.state {
      case 6:
        let wait = waits[index]
        let state = try wait.state & 0xff
        line = "\(place) \(upper(state, 2)) 00000000:00000000 03:\(upper(time.ticks(until: try wait.expires), 8)) "
        line += "00000000     0        0 0 \(try wait.uses) \(pointers.text(socket.address))"
      case 12:
        let request = requests[index]
        line = "\(place) 03 00000000:00000000 01:\(upper(time.ticks(until: try request.expires), 8)) "
        line += "\(upper(UInt64(try request.tries), 8)) \(ProcText.padded("\(socket.uid)", 5))        0 0 0 "
        line += pointers.text(socket.address)
      default:
        let (sock, connection, tcp) = (socks[index], connections[index], tcps[index])
        let (timer, expires) = try Self.timer(sock, connection)
        let threshold = try nets.first?.threshold ?? 0
        let limit: UInt64 =
          net.threshold.isPresent ? UInt64(threshold) : host.constants.isAtLeast(6, 2) ? 3 : 1
        // Eight bits each.
        let isPingPong = try connection.pingPong & 0xff >= limit
        line = "\(place) \(upper(UInt64(socket.state), 2)) "
        line += "\(upper(UInt64(try tcp.written &- tcp.acknowledged), 8)):\(upper(socket.receiveQueue, 8)) "
        line += "\(upper(UInt64(timer), 2)):\(upper(expires.map(time.ticks(until:)) ?? 0, 8)) "
        line += "\(upper(try connection.retransmits & 0xff, 8)) "
        line += "\(ProcText.padded("\(socket.inode == 0 ? 0 : socket.uid)", 5)) "
        line += "\(ProcText.padded("\(try connection.probes & 0xff)", 8)) \(socket.inode) \(try sock.uses) "
        line += "\(pointers.text(socket.address)) \(time.ticks(try connection.retransmission)) "
        line += "\(time.ticks(try connection.delay & 0xff)) "
        line += "\((try connection.quick & 0xff) << 1 | (isPingPong ? 1 : 0)) \(try tcp.window) "
        // TCP_INFINITE_SSTHRESH.
        let slowStart = try tcp.threshold
        line += socket.state == 10 ? "\(try connection.fast)" : slowStart >= 0x7fff_ffff ? "-1" : "\(slowStart)"
      }
      text.line(is6 ? line : ProcText.filled(line, 149))
    }
    return text.bytes
  }

  /// The number of the timer that runs, and when it expires, in ticks since the boot.
  private static func timer(
    _ sock: Reading<Sock>, _ connection: Reading<Connection>
  ) throws -> (Int, UInt64?) {
    let expires = connection.shape.timeout.isPresent ? try connection.timeout : try connection.timer
    // ICSK_TIME_*, from include/net/inet_connection_sock.h.
    switch try connection.pending & 0xff {
    case 1, 5, 6: return (1, expires)
    case 3: return (4, expires)
    default: return try sock.next.rawValue != 0 ? (2, sock.expires) : (0, nil)
    }
  }

  /// `udp`, `udp6`, `udplite` or `udplite6` of a namespace.
  func udpLines(
    _ family: UInt16, kind: NetworkSocket.Kind = .udp, namespace: UInt64, _ host: ShadowHost
  ) throws -> [UInt8] {
    let kernel = host.kernel
    let sockets = try host.sockets().filter {
      $0.kind == kind && $0.family == family && $0.namespace == namespace
    }
    let space = kernel.addressSpace
    let socks = space.read(sock, at: sockets.map(\.address))
    let pointers = try HashedPointer(kernel)
    let is6 = family == 10
    var text = ProcText()
    Self.addHeading(
      is6
        ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
          + "tm->when retrnsmt   uid  timeout inode ref pointer drops"
        : "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
          + "pointer drops",
      width: is6 ? 0 : 127, &text)
    guard !sockets.isEmpty else { return text.bytes }
    let own = space.read(net, at: [try socks[0].net])[0]
    let table =
      try kind == .udp
      ? own.table ?? kernel.symbol("udp_table", for: Self.self) : kernel.symbol("udplite_table", for: Self.self)
    let mask = try space.read(udpTable, at: [table])[0].mask & 0xffff_ffff
    let mix = try own.mix
    for (sock, socket) in zip(socks, sockets) {
      // `udp_hashfn`.
      let bucket = UInt64(UInt32(try sock.port) &+ mix) & mask
      let line = try "\(ProcText.padded("\(bucket)", 5)): \(datagramRow(socket, sock, pointers))"
      text.line(is6 ? line : ProcText.filled(line, 127))
    }
    return text.bytes
  }

  /// `raw` or `raw6` of a namespace.
  ///
  /// Source: net/ipv4/raw.c, `raw_sock_seq_show`.
  func rawLines(_ family: UInt16, namespace: UInt64, _ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let sockets = try host.sockets().filter {
      $0.kind == .raw && $0.family == family && $0.namespace == namespace
    }
    let socks = kernel.addressSpace.read(sock, at: sockets.map(\.address))
    let nets = kernel.addressSpace.read(net, at: socks.pointers(\.net))
    let pointers = try HashedPointer(kernel)
    let is6 = family == 10
    var text = ProcText()
    Self.addHeading(
      is6
        ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
          + "tm->when retrnsmt   uid  timeout inode ref pointer drops"
        : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
          + "pointer drops",
      width: 0, &text)
    for (index, (sock, socket)) in zip(socks, sockets).enumerated() {
      let number = try sock.port
      // `raw_hashfunc`: 256 buckets; until 6.0 the number itself.
      let mixed = (try nets[index].mix ^ UInt32(number)) &* 0x61c8_8647
      let bucket = host.constants.isAtLeast(6, 1) ? mixed >> 24 : UInt32(number) & 255
      var ends = socket
      (ends.localPort, ends.remotePort) = (UInt32(number), 0)
      text.line(try "\(ProcText.padded("\(bucket)", is6 ? 5 : 4)): \(datagramRow(ends, sock, pointers))")
    }
    return text.bytes
  }

  /// What `udp` and `raw` show of a socket behind its bucket.
  private func datagramRow(
    _ socket: NetworkSocket, _ sock: Reading<Sock>, _ pointers: HashedPointer
  ) throws -> String {
    "\(Self.places(socket)) \(upper(UInt64(socket.state), 2)) "
      + "\(upper(socket.sendQueue, 8)):\(upper(socket.receiveQueue, 8)) 00:00000000 00000000 "
      + "\(ProcText.padded("\(socket.inode == 0 ? 0 : socket.uid)", 5))        0 \(socket.inode) \(try sock.uses) "
      + "\(pointers.text(socket.address)) \(try sock.drops)"
  }

  /// `icmp` or `icmp6` of a namespace: only where nobody has a socket to ping with.
  ///
  /// Source: net/ipv4/ping.c, `ping_v4_seq_show`.
  func pingLines(_ family: UInt16, _ kernel: Kernel) throws -> [UInt8] {
    let count = try kernel.types.structure("ping_table").field("hash").elementCount ?? 0
    let table = try kernel.symbol("ping_table", for: Self.self) + kernel.offset(of: "hash", in: "ping_table")
    // The end of a list of the other kind is an odd number.
    guard
      try kernel.addressSpace.pointers(inArrayAt: table, count: min(count, 4096)).allSatisfy({
        $0.rawValue == 0 || $0.rawValue & 1 != 0
      })
    else { throw ShadowError.unreadable("somebody has a socket to ping with, and those are not known here") }
    var text = ProcText()
    Self.addHeading(
      family == 10
        ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
          + "tm->when retrnsmt   uid  timeout inode ref pointer drops"
        : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
          + "pointer drops",
      width: family == 10 ? 0 : 127, &text)
    return text.bytes
  }

  private struct Netlink: KernelShape {
    static let type = "netlink_sock"
    let groups = Field<VirtualAddress>("groups"), isDumping = Field<Bool>("cb_running")
  }

  private struct Memory: KernelShape {
    static let type = "sock"
    let received = Field<Int32>("sk_backlog.rmem_alloc"), sent = Field<Int32>("sk_wmem_alloc.refs.counter")
  }

  /// `netlink` of a namespace.
  ///
  /// Source: net/netlink/af_netlink.c, `netlink_native_seq_show`.
  func netlinkLines(namespace: UInt64, _ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let sockets = try host.sockets().filter { $0.kind == .netlink && $0.namespace == namespace }
    let addresses = sockets.map(\.address)
    let socks = kernel.addressSpace.read(sock, at: addresses)
    let (owns, memories) = (try kernel.read(Netlink.self, at: addresses), try kernel.read(Memory.self, at: addresses))
    let groups = kernel.addressSpace.pointers(at: owns.pointers(\.groups)).map(\.rawValue)
    let pointers = try HashedPointer(kernel)
    var text = ProcText(
      "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n")
    for (index, socket) in sockets.enumerated() {
      let first = try owns[index].groups.rawValue == 0 ? 0 : groups[index] & 0xffff_ffff
      let columns: [(String, Int)] = [
        ("\(socket.protocolNumber)", 3), ("\(socket.localPort)", 10), (ProcText.hex(first, 8), 8),
        ("\(try memories[index].received)", 8), ("\(try memories[index].sent &- 1)", 8),
        (try owns[index].isDumping ? "1" : "0", 5), ("\(try socks[index].uses)", 8), ("\(try socks[index].drops)", 8),
        ("\(socket.inode)", 8),
      ]
      text.line(
        ([pointers.text(socket.address)] + columns.map { ProcText.filled($0, $1) }).joined(separator: " "))
    }
    return text.bytes
  }

  private struct Packet: KernelShape {
    static let type = "packet_sock"
    let flags = Field<UInt64>(optional: "flags"), isRunning = Field<Bool>(optional: "running")
  }

  /// `packet` of a namespace.
  ///
  /// Source: net/packet/af_packet.c, `packet_seq_show`.
  func packetLines(namespace: UInt64, _ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let sockets = try host.sockets().filter { $0.kind == .packet && $0.namespace == namespace }
    let addresses = sockets.map(\.address)
    let socks = kernel.addressSpace.read(sock, at: addresses)
    let (owns, memories) = (try kernel.read(Packet.self, at: addresses), try kernel.read(Memory.self, at: addresses))
    let pointers = try HashedPointer(kernel)
    // A bit of its own until 6.3.
    let running = kernel.types.enumerator("PACKET_SOCK_RUNNING").map { UInt64(1) << UInt64($0 & 63) }
    var text = ProcText("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n")
    for (index, socket) in sockets.enumerated() {
      let isRunning = try running.map { try owns[index].flags & $0 != 0 } ?? (owns[index].isRunning)
      let columns: [(String, Int)] = [
        ("\(try socks[index].uses)", 6), ("\(socket.type)", 4),
        (ProcText.hex(UInt64(socket.protocolNumber), 4) + "  ", 0), ("\(socket.interface)", 5),
        (isRunning ? "1" : "0", 1),
        ("\(try memories[index].received)", 6), ("\(socket.inode == 0 ? 0 : socket.uid)", 6), ("\(socket.inode)", 6),
      ]
      text.line(
        ([pointers.text(socket.address)] + columns.map { ProcText.filled($0, $1) }).joined(separator: " "))
    }
    return text.bytes
  }

  /// `unix` of a namespace.
  func unixLines(namespace: UInt64, _ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let sockets = try host.sockets().filter { $0.kind == .unix && $0.namespace == namespace }
    let socks = kernel.addressSpace.read(sock, at: sockets.map(\.address))
    let pointers = try HashedPointer(kernel)
    var text = ProcText("Num       RefCount Protocol Flags    Type St Inode Path\n")
    for (sock, socket) in zip(socks, sockets) {
      let (isConnected, hasFile) = (socket.state == 1, try sock.file.rawValue != 0)
      // SS_UNCONNECTED, SS_CONNECTED; without a file SS_CONNECTING, SS_DISCONNECTING (include/uapi/linux/net.h).
      let state = hasFile ? isConnected ? 3 : 1 : isConnected ? 2 : 4
      text.add("\(pointers.text(socket.address)): \(upper(UInt64(try sock.uses), 8)) 00000000 ")
      // __SO_ACCEPTCON.
      text.add("\(upper(socket.state == 10 ? 0x10000 : 0, 8)) \(upper(UInt64(socket.type), 4)) ")
      text.add("\(upper(UInt64(state), 2)) \(ProcText.padded("\(socket.inode)", 5))")
      if !socket.path.isEmpty { text.add([32] + socket.path.map { $0 == 0 ? UInt8(ascii: "@") : $0 }) }
      text.line("")
    }
    return text.bytes
  }

  private func upper(_ value: UInt64, _ width: Int) -> String { ProcText.hex(value, width).uppercased() }

  private static func addHeading(_ heading: String, width: Int, _ text: inout ProcText) {
    text.line(ProcText.filled(heading, width))
  }

  /// Both ends as numbers of this machine's order, and their ports.
  private static func places(_ socket: NetworkSocket) -> String {
    func place(_ address: NetworkAddress?, _ port: UInt32) -> String {
      let bytes = address?.bytes ?? [0, 0, 0, 0]
      let words = stride(from: 0, to: bytes.count - 3, by: 4).map { start in
        (0..<4).reversed().map { ProcText.hex(UInt64(bytes[start + $0]), 2) }.joined()
      }
      return "\(words.joined()):\(ProcText.hex(UInt64(port), 4))".uppercased()
    }
    return "\(place(socket.local, socket.localPort)) \(place(socket.remote, socket.remotePort))"
  }

  /// The kernel's clock of ticks.
  private struct Time {
    var now: UInt64
    var nanosecondsPerTick: UInt64

    /// Hundredths of a second.
    func ticks(_ count: UInt64) -> UInt64 { count.multipliedReportingOverflow(by: nanosecondsPerTick).0 / 10_000_000 }
    func ticks(until tick: UInt64) -> UInt64 { ticks(UInt64(max(0, Int64(bitPattern: tick &- now)))) }
  }

  private func time(_ kernel: Kernel) throws -> Time {
    var batch = ReadBatch<VirtualAddress>()
    let record = clock.add(to: &batch)
    let entry = batch.add(jiffies, count: 8)
    kernel.addressSpace.read(&batch)
    return Time(
      now: try batch.reader(entry).u64(0),
      nanosecondsPerTick: UInt64(max(1, try clock.readTick(record, batch).nanosecondsPerTick)))
  }
}
