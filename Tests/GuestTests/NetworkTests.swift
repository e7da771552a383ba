import Foundation
import Lab
import Testing

extension GuestTests {
  /// Sockets, interfaces, routes and neighbours of a live guest's network namespaces against its own /proc/net.
  @Suite(.serialized) struct NetworkTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Gives the guest two namespaces with addresses, and sockets of every kind that its programs can open.
    ///
    /// - Returns: a process of each namespace, the initial one first.
    private func startWorkload(_ guest: Guest) throws -> [Int] {
      let output = try guest.run(
        """
        if [ ! -e /tmp/network-workload ]; then
          cat > /tmp/endpoints <<'END'
        ip link set lo up
        ip addr add 10.1.2.3/24 dev lo
        ip -6 addr add fd00:1::$1/64 dev lo
        ip route add 10.9.0.0/16 dev lo
        ip link set lo promisc on
        nc -ll -p 400$1 -e /bin/cat > /dev/null 2>&1 &
        ping -i 100 127.0.0.1 > /dev/null 2>&1 &
        sleep 1
        (sleep 100000 | nc 127.0.0.1 400$1) > /dev/null 2>&1 &
        echo gone | nc 10.1.2.3 400$1 > /dev/null 2>&1 &
        sleep 2
        END
          sh /tmp/endpoints 1
          syslogd
          unshare -n sh -c 'sh /tmp/endpoints 2; exec sleep 424242' > /dev/null 2>&1 < /dev/null &
          sleep 6
          touch /tmp/network-workload
        fi
        echo 1
        for process in /proc/[0-9]*; do
          case "$(tr '\\0' ' ' < $process/cmdline)" in "sleep 424242 ") echo ${process#/proc/};; esac
        done
        """, timeout: .seconds(120)
      ).text
      let processes = output.split(separator: "\n").compactMap { Int($0) }
      try #require(processes.count == 2, "\(output)")
      return processes
    }

    @Test(arguments: standardGuests) func networkIsThatOfTheGuest(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let hasDevice = try ExpertTests.loadDevices(guest)
      let processes = try startWorkload(guest)
      try socketsAreThoseOfProcNet(guest, processes)
      if hasDevice { try neighboursAreThoseOfTheGuest(guest, processes) }
      try interfacesAndRoutesAreThoseOfTheGuest(guest, processes)
    }

    private func interfacesAndRoutesAreThoseOfTheGuest(_ guest: Guest, _ processes: [Int]) throws {
      let source = ["--memory", guest.memoryPath]
      for process in processes {
        let directory = "/proc/\(process)/net"
        let link = try guest.run("readlink /proc/\(process)/ns/net").text
        let namespace = try #require(link.split(whereSeparator: { !$0.isNumber }).last.flatMap { Int($0) })
        func own(_ part: String) throws -> [[String: Any]] {
          try grassctl.json(["ip", part] + source).filter { $0["netns"] as? Int == namespace }
        }
        /// Name, then received bytes and packets and six more, then sent bytes and packets.
        func counters() throws -> [String: [Int]] {
          var counters: [String: [Int]] = [:]
          for line in try guest.run("tail -n +3 \(directory)/dev").text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == ":" }
            counters[String(words[0])] = words.dropFirst().compactMap { Int($0) }
          }
          return counters
        }
        let before = try counters()
        let interfaces = try own("addr")
        let after = try counters()
        #expect(Set(interfaces.compactMap { $0["ifname"] as? String }) == Set(before.keys))
        var addresses: Set<String> = []
        for interface in interfaces {
          let name = try #require(interface["ifname"] as? String)
          if let stats = interface["stats"] as? [String: Int], let first = before[name], let last = after[name] {
            for (key, column) in [("rx_bytes", 0), ("rx_packets", 1), ("tx_bytes", 8), ("tx_packets", 9)] {
              let value = try #require(stats[key])
              #expect((first[column]...last[column]).contains(value), "\(name): \(key)")
            }
          } else {
            #expect(name != "lo", "the loopback has no counters")
          }
          for address in (interface["addr_info"] as? [[String: Any]]) ?? [] {
            addresses.insert("\(name) \(address["local"] as? String ?? "")/\(address["prefixlen"] as? Int ?? -1)")
          }
          if name == "lo" {
            #expect(interface["promiscuous"] as? Bool == true)
            #expect(interface["up"] as? Bool == true)
            #expect(interface["mtu"] as? Int == 65536)
          }
        }
        // 1: lo    inet 127.0.0.1/8 scope host lo
        let enter = process == 1 ? "" : "nsenter -t \(process) -n "
        let expected = try guest.run("\(enter)ip -o addr").text.split(separator: "\n").compactMap { line -> String? in
          let words = line.split(separator: " ")
          guard words.count > 3, words[2].hasPrefix("inet") else { return nil }
          return "\(words[1]) \(words[3])"
        }
        #expect(addresses == Set(expected) && addresses.count >= 4)

        let routes = try own("route")
        func seen(_ isWanted: ([String: Any]) -> Bool) -> Set<String> {
          Set(
            routes.filter(isWanted).map { route in
              let gateway = route["gateway"] as? String ?? "-"
              return
                "\(route["dst"] as? String ?? "")/\(route["prefixlen"] as? Int ?? -1) \(gateway) \(route["metric"] as? Int ?? -1)"
            })
        }
        // Iface Destination Gateway Flags RefCnt Use Metric Mask, of the main table.
        let oracle4 = try guest.run("tail -n +2 \(directory)/route").text.split(separator: "\n").map { line in
          let words = line.split(whereSeparator: \.isWhitespace)
          let mask = try #require(UInt32(words[7], radix: 16))
          let gateway = try SocketOracle.address(words[2])
          return
            "\(try SocketOracle.address(words[1]))/\(mask.nonzeroBitCount) \(gateway == "0.0.0.0" ? "-" : gateway) \(words[6])"
        }
        #expect(seen { $0["table"] as? Int == 254 && !"\($0["dst"] ?? "")".contains(":") } == Set(oracle4))
        #expect(oracle4.contains("10.9.0.0/16 - 0"))
        let local = try guest.run("\(enter)ip route show table local").text.split(separator: "\n")
        #expect(
          routes.filter { $0["table"] as? Int == 255 && !"\($0["dst"] ?? "")".contains(":") }.count == local.count)
        // Destination, its length, source, its length, next hop, metric, references, uses, flags, interface.
        let oracle6 = try guest.run("cat \(directory)/ipv6_route").text.split(separator: "\n").compactMap {
          line -> String? in
          let words = line.split(whereSeparator: \.isWhitespace)
          // The entry that stands for no route.
          if words[5] == "ffffffff" { return nil }
          let gateway = try SocketOracle.wireAddress(words[4])
          return
            "\(try SocketOracle.wireAddress(words[0]))/\(Int(words[1], radix: 16) ?? -1) \(gateway == "::" ? "-" : gateway) \(Int(words[5], radix: 16) ?? -1)"
        }
        #expect(seen { "\($0["dst"] ?? "")".contains(":") } == Set(oracle6))
        #expect(oracle6.count >= 2)
      }
    }

    private func neighboursAreThoseOfTheGuest(_ guest: Guest, _ processes: [Int]) throws {
      func enter(_ process: Int) -> String { process == 1 ? "" : "nsenter -t \(process) -n " }
      // A device behind which nobody answers: one neighbour set by hand, those of both families that fail.
      _ = try guest.run(
        """
        cat > /tmp/neighbours <<'END'
        ip link add grass0 type dummy; ip link set grass0 arp on; ip link set grass0 up
        ip addr add 10.7.0.1/24 dev grass0; ip -6 addr add fd00:7::1/64 dev grass0
        arp -s 10.7.0.2 02:00:00:00:00:02 -i grass0
        sleep 2; ping -c 1 -W 1 10.7.0.3 & ping6 -c 1 -W 1 fd00:7::3 & sleep 5
        END
        [ -e /sys/class/net/grass0 ] && exit 0
        \(processes.map { "\(enter($0))sh /tmp/neighbours > /tmp/neighbours.\($0) 2>&1 &" }.joined(separator: "\n"))
        wait
        """)
      for process in processes {
        let output = try guest.run("readlink /proc/\(process)/ns/net; \(enter(process))ip neigh").text
        let lines = output.split(separator: "\n")
        let namespace = try #require(lines.first?.split(whereSeparator: { !$0.isNumber }).last.flatMap { Int($0) })
        // 10.7.0.2 dev grass0 lladdr 02:00:00:00:00:02 used 0/0/0 probes 0 PERMANENT
        let expected = lines.dropFirst().map { line in
          let words = line.split(separator: " ").map(String.init)
          let link = words.firstIndex(of: "lladdr").map { words[$0 + 1] } ?? ""
          return "\(words[0]) \(words[2]) \(link) \(words.last ?? "")"
        }
        let printed = try grassctl.json(["ip", "neigh", "--memory", guest.memoryPath]).filter {
          // Those for which nobody is asked are shown by request alone.
          $0["netns"] as? Int == namespace && $0["state"] as? String != "NOARP"
        }.map { neighbour in
          let state = neighbour["state"] as? String ?? ""
          let link = ["FAILED", "INCOMPLETE"].contains(state) ? "" : neighbour["lladdr"] as? String ?? ""
          return "\(neighbour["dst"] ?? "") \(neighbour["dev"] ?? "") \(link) \(state)"
        }
        let said = try guest.run("cat /tmp/neighbours.*").text
        #expect(printed.sorted() == expected.sorted(), "\(said)")
        #expect(expected.contains("10.7.0.2 grass0 02:00:00:00:00:02 PERMANENT"))
        #expect(expected.contains("10.7.0.3 grass0  FAILED"), "\(said)")
        #expect(expected.contains { $0.hasPrefix("fd00:7::3 grass0  ") }, "\(said)")
      }
    }

    private func socketsAreThoseOfProcNet(_ guest: Guest, _ processes: [Int]) throws {
      let started = try guest.run(
        """
        MODE=sockets /bin/workload > /dev/null 2>&1 & echo $! > /tmp/sockets
        MODE=sockets nsenter -t \(processes[1]) -n /bin/workload > /dev/null 2>&1 & echo $! >> /tmp/sockets
        sleep 2; for process in $(cat /tmp/sockets); do [ -e /proc/$process/fd/5 ] || echo $process has ended; done
        """
      ).text
      #expect(started == "")
      defer { _ = try? guest.run("kill $(cat /tmp/sockets)") }
      let first = try processes.map { try SocketOracle(guest, process: $0) }
      let printed = try grassctl.json(["ss", "--memory", guest.memoryPath])
      let second = try processes.map { try SocketOracle(guest, process: $0) }
      #expect(first[0].namespace != first[1].namespace)
      #expect(Set(printed.compactMap { $0["netns"] as? Int }).isSuperset(of: first.map(\.namespace)))
      for (before, after) in zip(first, second) {
        let own = printed.filter { $0["netns"] as? Int == before.namespace }
        let seen = Set(try own.compactMap { try SocketOracle.line(of: $0) })
        let stable = before.sockets.intersection(after.sockets)
        #expect(stable.subtracting(seen).sorted() == [], "sockets that were not seen")
        #expect(
          seen.subtracting(before.sockets).subtracting(after.sockets).sorted() == [],
          "sockets that the guest does not have")
        for part in [
          "tcp LISTEN", "tcp ESTAB", "tcp TIME-WAIT", "tcp CLOSE-WAIT", "tcp FIN-WAIT-2", "tcp SYN-SENT", "raw UNCONN",
          "netlink ", "unix 5 ", "packet 2 ", "packet 3 3 1 ", "udp UNCONN 0.0.0.0:5301", "udp ESTAB 127.0.0.1:5302",
          "udp UNCONN ::1:5303", "udp ESTAB ::1:5304",
        ] {
          #expect(stable.contains { $0.hasPrefix(part) }, "the guest has no \(part) to compare")
        }
      }
      #expect(printed.contains { $0["path"] as? String == "/dev/log" })
      // Bytes that wait: sent and not read, in the socket of each namespace.
      for (kind, port) in [("udp", 5301), ("tcp", 5310)] {
        let full = printed.filter {
          $0["netid"] as? String == kind && $0["local_port"] as? Int == port && $0["recv_q"] as? Int ?? 0 >= 600
        }
        #expect(Set(full.compactMap { $0["netns"] as? Int }).count == 2, "\(kind) \(port)")
      }
      // Owners: the descriptor of each must lead to the socket in the guest's own view.
      var checked = 0
      var script = ""
      var expected: [String] = []
      for socket in printed {
        for owner in (socket["owners"] as? [[String: Any]]) ?? [] {
          guard let pid = owner["pid"] as? Int, let descriptor = owner["fd"] as? Int,
            let inode = socket["inode"] as? Int
          else { continue }
          script += "readlink /proc/\(pid)/fd/\(descriptor)\n"
          expected.append("socket:[\(inode)]")
          checked += 1
        }
      }
      #expect(checked > 8)
      #expect(try guest.run(script).text.split(separator: "\n").map(String.init) == expected)
    }
  }
}

/// The sockets that the guest says a namespace has, each as a line.
struct SocketOracle {
  var namespace: Int
  var sockets: Set<String> = []

  private static let states = [
    "01": "ESTAB", "02": "SYN-SENT", "03": "SYN-RECV", "04": "FIN-WAIT-1", "05": "FIN-WAIT-2", "06": "TIME-WAIT",
    "07": "UNCONN", "08": "CLOSE-WAIT", "09": "LAST-ACK", "0A": "LISTEN", "0B": "CLOSING", "0C": "SYN-RECV",
  ]

  init(_ guest: Guest, process: Int) throws {
    let output = try guest.run(
      """
      readlink /proc/\(process)/ns/net; cd /proc/\(process)/net
      for file in tcp tcp6 udp udp6 raw raw6; do tail -n +2 $file | sed "s/^/$file /"; done
      tail -n +2 unix | sed 's/^/unix /'; tail -n +2 netlink | sed 's/^/netlink /'
      tail -n +2 packet | sed 's/^/packet /'
      """
    ).text
    let lines = output.split(separator: "\n")
    namespace = try #require(lines.first?.split(whereSeparator: { !$0.isNumber }).last.flatMap { Int($0) })
    for line in lines.dropFirst() {
      let words = line.split(separator: " ").map(String.init)
      // A name may hold blanks: it is what follows eight words.
      let name = line.split(separator: " ", maxSplits: 8).dropFirst(8).joined()
      switch words[0] {
      case "unix":
        // Num RefCount Protocol Flags Type St Inode Path: flag 0x10000 is that of a listening one.
        guard words.count >= 8 else { continue }
        let isListening = words[4] == "00010000"
        sockets.insert(
          "unix \(Int(words[5], radix: 16) ?? 0) \(isListening) \(words[7]) \(name)")
      case "netlink":
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        guard words.count >= 11 else { continue }
        sockets.insert("netlink \(words[2]) \(words[3]) \(words[10])")
      case "packet":
        // sk RefCnt Type Proto Iface R Rmem User Inode
        guard words.count >= 10 else { continue }
        sockets.insert(
          "packet \(words[3]) \(Int(words[4], radix: 16) ?? -1) \(words[5]) \(words[8]) \(words[9])")
      default:
        // kind sl local remote st tx:rx tr:when retrnsmt uid timeout inode
        guard words.count >= 11, let state = Self.states[words[4]] else { continue }
        let kind = words[0].hasSuffix("6") ? String(words[0].dropLast()) : words[0]
        let ends = try [words[2], words[3]].map { try Self.end($0) }
        let queues = words[5].split(separator: ":").compactMap { Int($0, radix: 16) }
        // A listening socket has no queue of bytes, and /proc does not show how many connections may wait.
        let sent = state == "LISTEN" ? 0 : queues[0]
        sockets.insert("\(kind) \(state) \(ends[0]) \(ends[1]) \(sent) \(queues[1]) \(words[10])")
      }
    }
  }

  /// The line of a socket that grassctl printed; nil for kinds that /proc/net does not show.
  static func line(of socket: [String: Any]) throws -> String? {
    let kind = try #require(socket["netid"] as? String)
    let inode = try #require(socket["inode"] as? Int)
    let type = try #require(socket["type"] as? Int)
    let protocolNumber = try #require(socket["protocol"] as? Int)
    let state = try #require(socket["state"] as? String)
    let port = try #require(socket["local_port"] as? Int)
    switch kind {
    case "unix":
      var path = try #require(socket["path"] as? String)
      if path.first == "\0" || path.hasPrefix("\u{0}") { path = "@" + path.dropFirst() }
      return "unix \(type) \(state == "LISTEN") \(inode) \(path)"
    case "netlink": return "netlink \(protocolNumber) \(port) \(inode)"
    case "packet":
      return "packet \(type) \(protocolNumber) \(socket["ifindex"] ?? "") \(socket["uid"] ?? "") \(inode)"
    default:
      let (local, remote) = (socket["local"] as? String ?? "", socket["remote"] as? String ?? "")
      let remotePort = try #require(socket["remote_port"] as? Int)
      let sent = state == "LISTEN" ? 0 : try #require(socket["send_q"] as? Int)
      let received = try #require(socket["recv_q"] as? Int)
      return
        "\(kind) \(state) \(local):\(kind == "raw" ? protocolNumber : port) \(remote):\(remotePort) \(sent) \(received) \(inode)"
    }
  }

  /// `0100007F:1F90` as 127.0.0.1:8080: words of the wire's order, read as numbers of this machine.
  private static func end(_ text: String) throws -> String {
    let parts = text.split(separator: ":")
    return "\(try address(parts[0])):\(try #require(Int(parts[1], radix: 16)))"
  }

  /// An address whose words are numbers of this machine.
  static func address(_ text: Substring) throws -> String {
    var bytes: [UInt8] = []
    var rest = text
    while rest.count >= 8 {
      let word = try #require(UInt32(rest.prefix(8), radix: 16))
      bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) }
      rest = rest.dropFirst(8)
    }
    return try format(bytes)
  }

  /// An address in the order of the wire.
  static func wireAddress(_ text: Substring) throws -> String {
    var bytes: [UInt8] = []
    var rest = text
    while rest.count >= 2 {
      bytes.append(try #require(UInt8(rest.prefix(2), radix: 16)))
      rest = rest.dropFirst(2)
    }
    return try format(bytes)
  }

  private static func format(_ bytes: [UInt8]) throws -> String {
    var text = [CChar](repeating: 0, count: 64)
    try #require(inet_ntop(bytes.count == 16 ? AF_INET6 : AF_INET, bytes, &text, 64) != nil)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
