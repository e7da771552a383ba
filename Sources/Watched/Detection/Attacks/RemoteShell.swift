import Binding
public import KernelViews
import Memory

/// A process that a peer on the network talks to as a terminal would.
public struct ReverseShell: Detector {
  public static let name = "reverse-shell"
  public static let kind = Finding.Kind.attack
  public static let summary = "A process's input and output are one connection to another host: somebody works there."
  public static let rule = """
    Descriptors 0 and 1 are the same established TCP socket, and its peer is not this host's loopback. Critical where a shell \
    or an interpreter runs and the host itself made the connection; a warning where a listener of the host took it; a notice \
    where another program made it.
    """
  public static let looksLike = """
    Servers that inetd or systemd start for each connection: a listener of the host took it, and what runs is no shell. sshd \
    gives shells a terminal or pipes.
    """
  public static let remedy = """
    See who started it and what it has started: grassctl ps --tree. Keep the memory before the connection is cut; look at the \
    peer's address in what other hosts log.
    """
  public static let techniques = ["T1059.004"]
  public static let baseline = Finding.Baseline.threshold

  /// What takes commands and does them.
  private static let shells: Set<String> = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "busybox", "toybox", "pwsh", "socat",
    "nc",
    "ncat",
  ]
  private static let interpreters = ["python", "perl", "ruby", "php", "lua", "node", "tclsh"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.sockets()
    let listening = Set(table.sockets.filter { $0.kind == .tcp && $0.state == 10 }.map(\.localPort))
    let processes = try look.processes()
    var sightings: [Sighting] = []
    for socket in table.sockets where socket.kind == .tcp && socket.state == 1 {
      guard let remote = socket.remote, !remote.isLoopback else { continue }
      let descriptors = Dictionary(grouping: socket.owners, by: \.pid)
      for (pid, owners) in descriptors where Set(owners.map(\.descriptor)).isSuperset(of: [0, 1]) {
        guard let process = processes.processes.first(where: { $0.task.tgid == pid }) else { continue }
        let path = process.program?.path ?? ""
        let program = path.split(separator: "/").last.map(String.init) ?? ""
        let isShell = shells.contains(program) || interpreters.contains { program.hasPrefix($0) }
        let isAccepted = listening.contains(socket.localPort)
        let verdict: (severity: Finding.Severity, confidence: Finding.Confidence)
        switch (isShell, isAccepted) {
        case (true, false): verdict = (.critical, .strong)
        case (true, true): verdict = (.warning, .strong)
        case (false, false): verdict = (.notice, .hint)
        case (false, true): continue
        }
        let peer = "\(remote) port \(socket.remotePort)"
        sightings.append(
          Sighting(
            [.task(process.task)], verdict.severity, verdict.confidence,
            "the input and output of \(process.name) are a connection \(isAccepted ? "from" : "to") \(peer)",
            evidence: [
              .init(
                "descriptors 0 and 1", at: socket.address, seen: "TCP \(peer)", expected: "a terminal, a file or a pipe"
              ),
              .init("its program", at: process.address, seen: path.isEmpty ? nil : path),
            ], persists: [socket.address.rawValue],
            related: [.socket(socket.address, name: "port \(socket.localPort)")]))
      }
    }
    return Sightings(sightings, faults: table.faults + processes.faults)
  }
}

/// A process that looks at packets that are not for it.
public struct PacketSocket: Detector {
  public static let name = "packet-socket"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process takes packets from below the host's own network stack, or an interface takes all there are."
  public static let rule = """
    A packet socket has a filter (sk_filter), or an interface is promiscuous. A warning; info where the socket's program is one \
    that does so by its nature and lies below a directory of programs, and where an interface belongs to a bridge or a bond, or \
    tcpdump or its like has a socket.
    """
  public static let looksLike = """
    Clients of DHCP, LLDP and 802.1X, tcpdump and its like: info. A backdoor that calls itself so lies elsewhere or is removed.
    """
  public static let remedy = """
    See what the process is, and where its program came from: grassctl ps -p PID, grassctl lsof -p PID. A filter that waits for \
    one packet needs no open port.
    """
  public static let techniques = ["T1205.002", "T1040"]
  public static let baseline = Finding.Baseline.threshold

  /// Programs that need packets as they are on the wire.
  private static let known: Set<String> = [
    "dhclient", "dhcpcd", "udhcpc", "systemd-networkd", "NetworkManager", "connmand", "wpa_supplicant", "hostapd",
    "lldpd",
    "lldpad", "keepalived", "tcpdump", "dumpcap", "tshark", "wireshark", "arping", "arpwatch", "dnsmasq", "dhcpd",
    "kea-dhcp4",
    "suricata", "zeek", "snort", "busybox",
  ]

  /// Those of them that ask for what is not for the host.
  private static let sniffers: Set<String> = [
    "tcpdump", "dumpcap", "tshark", "wireshark", "arpwatch", "suricata", "zeek", "snort",
  ]

  private struct Reader: KernelReader {
    static let subject = "the filters of sockets"

    struct Sock: KernelShape {
      static let type = "sock"
      let filter = Field<VirtualAddress>("sk_filter")
    }

    struct Device: KernelShape {
      static let type = "net_device"
      let handler = Field<VirtualAddress>("rx_handler")
    }

    let sock: Bound<Sock>
    let device: Bound<Device>

    init(kernel: Kernel) throws { (sock, device) = try kernel.types.bind() }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let reader = try kernel.reader(Reader.self)
    let table = try look.sockets()
    let processes = try look.processes()
    var result = Sightings(faults: table.faults + processes.faults)
    let sockets = table.sockets.filter { $0.kind == .packet }
    var isSniffed = false
    kernel.addressSpace.read(reader.sock, at: sockets.map(\.address)).forEach(&result.faults) {
      (reading) throws(MemoryFault) in
      let socket = sockets[reading.index]
      let owners = socket.owners.compactMap { owner in processes.processes.first { $0.task.tgid == owner.pid } }
      let isKnown = !owners.isEmpty && owners.allSatisfy { isOne(of: known, $0.program) }
      if !owners.isEmpty, owners.allSatisfy({ isOne(of: sniffers, $0.program) }) { isSniffed = true }
      let filter = try reading.filter
      guard filter.rawValue != 0 else { return }
      let who = owners.first?.name ?? "a socket that no process has open"
      result.sightings.append(
        Sighting(
          owners.first.map { [.task($0.task)] } ?? [.socket(socket.address, name: "a packet socket")],
          isKnown ? .info : .warning, isKnown ? .hint : .strong,
          "\(who) looks at packets below the network stack, through a filter",
          evidence: [
            .init("sk_filter", at: socket.address, seen: "\(filter)", expected: "no filter"),
            .init("its program", at: owners.first?.address, seen: owners.first?.program?.path),
          ], persists: [socket.address.rawValue]))
    }
    let network = try look.network()
    let wide = network.interfaces.filter { $0.isPromiscuous }
    kernel.addressSpace.read(reader.device, at: wide.map(\.device)).forEach(&result.faults) {
      (reading) throws(MemoryFault) in
      let interface = wide[reading.index]
      // A bridge or a bond takes what its ports receive.
      let isPort = try reading.handler.rawValue != 0
      let name = interface.name.printable
      result.sightings.append(
        Sighting(
          [.interface(interface.name, namespace: interface.namespace)], isPort || isSniffed ? .info : .warning,
          isPort || isSniffed ? .hint : .strong, "interface \(name) takes packets that are not for this host",
          evidence: [
            .init("promiscuity", at: interface.device, seen: "\(interface.promiscuity)", expected: "0")
          ]))
    }
    return result
  }

  private static func isOne(of names: Set<String>, _ program: ProcessFile?) -> Bool {
    guard let program, !program.name.isDeleted, program.links > 0 else { return false }
    let parts = program.path.split(separator: "/").map(String.init)
    return parts.last.map(names.contains) ?? false && ["usr", "bin", "sbin", "lib", "opt"].contains(parts.first ?? "")
  }
}

extension NetworkAddress {
  /// Whether it is of this host itself: 127.0.0.0/8, ::1, and the former as IPv6 writes it.
  var isLoopback: Bool {
    switch bytes.count {
    case 4: bytes[0] == 127
    case 16: bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1 || Array(bytes[10..<13]) == [0xff, 0xff, 127]
    default: false
    }
  }
}
