import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads sockets from the tables in which their protocols keep them.
///
/// | sockets | table |
/// | --- | --- |
/// | TCP | `tcp_hashinfo`, or a namespace's own: established and waiting in `ehash`, listening in `lhash2` or `listening_hash` |
/// | UDP | `udp_table`, `udplite_table`, or a namespace's own |
/// | raw | `raw_v4_hashinfo`, `raw_v6_hashinfo` |
/// | unix | a table of each namespace, or `unix_socket_table` |
/// | packet | a list of each namespace |
/// | netlink | `nl_table`: a resizable hash table for each protocol |
///
/// Only `sock_common` is there of every one: a connection in TIME-WAIT and one that begins are smaller structs.
/// Source: include/net/sock.h, include/net/inet_hashtables.h, net/unix/af_unix.c, net/netlink/af_netlink.c.
struct SocketReader: KernelReader {
  static let subject = "the sockets"

  struct Draft: Faulted {
    var sockets: [NetworkSocket] = []
    /// The `struct socket` of each socket that has one.
    var files: [VirtualAddress: VirtualAddress] = [:]
    var faults: [MemoryFault] = []
  }

  /// A run of list heads.
  private struct Buckets {
    var kind: NetworkSocket.Kind
    var address: VirtualAddress
    var count: Int
    var stride: Int
    var head: Int
    var form: ListWalker.Form
    /// How far the members' links lie from the start of their structs.
    var link: Int
  }

  private struct TCPTable: KernelShape {
    static let type = "inet_hashinfo"
    let hash = Field<VirtualAddress>("ehash")
    let mask = Field<UInt64>("ehash_mask")
    let listening = Field<VirtualAddress>("lhash2")
    let listeningMask = Field<UInt64>("lhash2_mask")
  }

  private struct ListenBucket: KernelShape {
    static let type = "inet_listen_hashbucket"
    let head = Place("nulls_head")
  }

  private struct UDPTable: KernelShape {
    static let type = "udp_table"
    let hash = Field<VirtualAddress>("hash")
    let mask = Field<UInt64>("mask")
  }

  private struct UDPSlot: KernelShape {
    static let type = "udp_hslot"
    // Without a name on some kernels: there it comes first.
    let head = Place(optional: "head")
  }

  private struct Net: KernelShape {
    static let type = "net"
    let tcp = Field<VirtualAddress>(optional: "ipv4.tcp_death_row.hashinfo")
    let udp = Field<VirtualAddress>(optional: "ipv4.udp_table")
    // One table for all namespaces until 5.19.
    let unix = Field<VirtualAddress>(optional: "unx.table.buckets")
    let packets = Place(optional: "packet.sklist")
  }

  private struct NetlinkTable: KernelShape {
    static let type = "netlink_table"
    let buckets = Place("hash.tbl")
  }

  private struct BucketTable: KernelShape {
    static let type = "bucket_table"
    let count = Field<UInt64>("size")
    let future = Field<VirtualAddress>("future_tbl")
    let buckets = Place("buckets")
  }

  private struct Common: KernelShape {
    static let type = "sock_common"
    let family = Field<UInt16>("skc_family")
    let state = Field<UInt8>("skc_state")
    let net = Field<VirtualAddress>("skc_net.net")
    let local = Field<RawBytes>("skc_rcv_saddr")
    let remote = Field<RawBytes>("skc_daddr")
    let local6 = Field<RawBytes>("skc_v6_rcv_saddr")
    let remote6 = Field<RawBytes>("skc_v6_daddr")
    let localPort = Field<UInt16>("skc_num")
    let remotePort = Field<UInt16>("skc_dport")
    let interface = Field<Int32>("skc_bound_dev_if")
    let node = Place("skc_node")
  }

  private struct Sock: KernelShape {
    static let type = "sock"
    let type = Field<UInt16>("sk_type")
    let protocolNumber = Field<UInt16>("sk_protocol")
    let file = Field<VirtualAddress>("sk_socket")
    let received = Field<Int32>("sk_backlog.rmem_alloc")
    let sent = Field<Int32>("sk_wmem_alloc")
    let backlog = Field<UInt64>("sk_ack_backlog")
    let mostBacklog = Field<UInt64>("sk_max_ack_backlog")
    let uid = Field<UInt32>("sk_uid")
    let queued = Field<Int32>("sk_receive_queue.qlen")
  }

  private struct TCPSock: KernelShape {
    static let type = "tcp_sock"
    let receivedNext = Field<UInt32>("rcv_nxt")
    let copied = Field<UInt32>("copied_seq")
    let written = Field<UInt32>("write_seq")
    let acknowledged = Field<UInt32>("snd_una")
  }

  private struct UDPSock: KernelShape {
    static let type = "udp_sock"
    let deficit = Field<Int32>("forward_deficit")
  }

  private struct UnixSock: KernelShape {
    static let type = "unix_sock"
    let name = Field<VirtualAddress>("addr")
    let peer = Field<VirtualAddress>("peer")
  }

  private struct UnixName: KernelShape {
    static let type = "unix_address"
    let length = Field<Int32>("len")
    let text = Place("name")
  }

  private struct NetlinkSock: KernelShape {
    static let type = "netlink_sock"
    let link = Place("node")
    let port = Field<UInt32>("portid")
    let remotePort = Field<UInt32>("dst_portid")
  }

  private struct PacketSock: KernelShape {
    static let type = "packet_sock"
    let type = Field<UInt16>("num")
    let interface = Field<Int32>("ifindex")
  }

  /// A `struct socket`, and the inode that it has.
  private struct File: KernelShape {
    static let type = "socket_alloc"
    let inode = Field<UInt64>("vfs_inode.i_ino")
  }

  private let namespaces: NetworkNamespaceReader
  private let tcpTable: VirtualAddress
  private let tcpFields: Bound<TCPTable>
  private let listenBucket: Bound<ListenBucket>
  /// The listening sockets where the table itself has their buckets: until 5.18, which had them in two tables, of which
  /// `lhash2` links them by a node of its own.
  private let ownListening: FieldLayout?
  private let udpTables: [(kind: NetworkSocket.Kind, address: VirtualAddress)]
  private let udpFields: Bound<UDPTable>
  private let udpSlot: Bound<UDPSlot>
  private let rawTables: [VirtualAddress]
  private let rawHeads: FieldLayout
  private let rawForm: ListWalker.Form
  private let net: Bound<Net>
  private let unixTable: VirtualAddress?
  private let netlinkTable: VirtualAddress
  private let netlink: Bound<NetlinkTable>
  private let bucketTable: Bound<BucketTable>
  private let common: Bound<Common>
  private let sock: Bound<Sock>
  private let tcp: Bound<TCPSock>
  private let udp: Bound<UDPSock>
  private let unix: Bound<UnixSock>
  private let unixName: Bound<UnixName>
  private let netlinkSock: Bound<NetlinkSock>
  /// Nil where the packet family is a module, whose types the kernel's own do not have.
  private let packet: Bound<PacketSock>?
  private let file: Bound<File>

  // UNIX_HASH_SIZE, include/net/af_unix.h; MAX_LINKS, include/uapi/linux/netlink.h.
  private static let unixBuckets = 512
  private static let netlinkProtocols = 32
  /// More buckets than the tables of any host have.
  private static let mostBuckets = 1 << 24
  /// After so many buckets that lead out of the kernel, what is read is no table any more.
  private static let mostAstray = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    let symbols = kernel.symbols
    namespaces = try NetworkNamespaceReader(kernel: kernel)

    tcpTable = try kernel.symbol("tcp_hashinfo", for: Self.self)
    tcpFields = try Bound(types)
    let tables = try types.structure("inet_hashinfo")
    ownListening = tables.hasField("listening_hash") ? try tables.field("listening_hash") : nil
    listenBucket = try Bound(types)
    udpTables = [(.udp, "udp_table"), (.udplite, "udplite_table")].compactMap { kind, name in
      symbols.address(of: name).map { (kind, $0) }
    }
    udpFields = try Bound(types)
    udpSlot = try Bound(types)
    rawTables = ["raw_v4_hashinfo", "raw_v6_hashinfo"].compactMap { symbols.address(of: $0) }
    rawHeads = try types.structure("raw_hashinfo").field("ht")
    rawForm = rawHeads.typeName == "hlist_nulls_head" ? .nulls : .nullTerminated
    net = try Bound(types)
    unixTable = symbols.address(of: "unix_socket_table")
    // One of the two there must be.
    if unixTable == nil { _ = try types.structure("net").field("unx.table.buckets") }
    netlinkTable = try kernel.symbol("nl_table", for: Self.self)
    netlink = try Bound(types)
    bucketTable = try Bound(types)
    common = try Bound(types)
    sock = try Bound(types)
    tcp = try Bound(types)
    udp = try Bound(types)
    unix = try Bound(types)
    unixName = try Bound(types)
    netlinkSock = try Bound(types)
    packet = types.hasStructure("packet_sock") ? try Bound(types) : nil
    file = try Bound(types)
  }

  func read(in space: AddressSpace) throws -> Draft {
    var draft = Draft()
    let (nets, faults) = namespaces.read(in: space)
    if nets.isEmpty, let fault = faults.first { throw fault }
    draft.faults = faults
    let numbers = Dictionary(nets.map { ($0.address, $0.number) }, uniquingKeysWith: { first, _ in first })
    let runs = buckets(of: nets, in: space, &draft.faults)
    let found = members(of: runs, in: space, &draft.faults)
    readCommon(found, numbers, in: space, &draft)
    return draft
  }

  /// The tables of all protocols.
  private func buckets(
    of nets: [NetworkNamespace], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [Buckets] {
    var tcpTables = [tcpTable]
    var udpTables = udpTables
    var runs: [Buckets] = []
    /// Lists of plain heads, whose members are linked by the node that all sockets have.
    func add(_ kind: NetworkSocket.Kind, _ address: VirtualAddress, _ count: Int, _ form: ListWalker.Form) {
      runs.append(
        Buckets(kind: kind, address: address, count: count, stride: 8, head: 0, form: form, link: common.node.offset))
    }
    space.read(net, at: nets.map(\.address)).forEach(&faults) { (net) throws(MemoryFault) in
      let tcp = try net.tcp
      if tcp.rawValue != 0, !tcpTables.contains(tcp) { tcpTables.append(tcp) }
      let udp = try net.udp
      if udp.rawValue != 0, !udpTables.contains(where: { $0.address == udp }) { udpTables.append((.udp, udp)) }
      let unix = try net.unix
      if unix.rawValue != 0 { add(.unix, unix, Self.unixBuckets, .nullTerminated) }
      if net.shape.packets.isPresent { add(.packet, net.address(of: \.packets), 1, .nullTerminated) }
    }
    if let unixTable { add(.unix, unixTable, Self.unixBuckets, .nullTerminated) }
    for table in rawTables { add(.raw, table + rawHeads.offset, rawHeads.elementCount ?? 0, rawForm) }
    var listeners: Set<VirtualAddress> = []
    space.read(tcpFields, at: tcpTables).forEach(&faults) { (table) throws(MemoryFault) in
      var listen = try table.listening
      var listenCount = Self.buckets(mask: try table.listeningMask)
      if let ownListening {
        (listen, listenCount) = (table.address + ownListening.offset, ownListening.elementCount ?? 0)
      }
      add(.tcp, try table.hash, Self.buckets(mask: try table.mask), .nulls)
      if listen.rawValue != 0, listeners.insert(listen).inserted {
        runs.append(
          Buckets(
            kind: .tcp, address: listen, count: listenCount, stride: listenBucket.size, head: listenBucket.head.offset,
            form: .nulls, link: common.node.offset))
      }
    }
    space.read(udpFields, at: udpTables.map(\.address)).forEach(&faults) { (table) throws(MemoryFault) in
      runs.append(
        Buckets(
          kind: udpTables[table.index].kind, address: try table.hash, count: Self.buckets(mask: try table.mask),
          stride: udpSlot.size, head: udpSlot.head.offset, form: .nullTerminated, link: common.node.offset))
    }
    do throws(MemoryFault) {
      try addNetlink(to: &runs, in: space, &faults)
    } catch {
      faults.append(error)
    }
    return runs
  }

  private func addNetlink(
    to runs: inout [Buckets], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) throws(MemoryFault) {
    let table = try space.pointer(at: netlinkTable)
    var batch = ReadBatch<VirtualAddress>()
    for index in 0..<Self.netlinkProtocols {
      batch.add(table + index * netlink.size + netlink.buckets.offset, count: 8)
    }
    space.read(&batch)
    var tables: [VirtualAddress] = []
    for index in 0..<Self.netlinkProtocols {
      let table = try batch.reader(index).pointer(0)
      if table.rawValue != 0 { tables.append(table) }
    }
    // While a table grows, its sockets move to the next one.
    for _ in 0..<4 where !tables.isEmpty {
      let reads = space.read(bucketTable, at: tables)
      tables = []
      reads.forEach(&faults) { (table) throws(MemoryFault) in
        runs.append(
          Buckets(
            kind: .netlink, address: table.address(of: \.buckets), count: Int(clamping: try table.count), stride: 8,
            head: 0, form: .nulls, link: netlinkSock.link.offset))
        let next = try table.future
        if next.rawValue != 0 { tables.append(next) }
      }
    }
  }

  /// How many buckets a table has whose indices are cut by `mask`; too many for any where there are no such masks.
  static func buckets(mask: UInt64) -> Int { mask < UInt64(mostBuckets) ? Int(mask) + 1 : .max }

  /// The structs in all tables, each once.
  private func members(
    of runs: [Buckets], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(kind: NetworkSocket.Kind, address: VirtualAddress)] {
    var batch = ReadBatch<VirtualAddress>()
    var accepted: [Buckets] = []
    for run in runs {
      guard (0...Self.mostBuckets).contains(run.count) else {
        faults.append(MemoryFault(.virtual(run.address), .inconsistent("a hash table of \(run.count) buckets")))
        continue
      }
      accepted.append(run)
      batch.add(run.address, count: run.count * run.stride)
    }
    space.read(&batch)
    var found: [(kind: NetworkSocket.Kind, address: VirtualAddress)] = []
    let limit = space.mostObjects(ofSize: 128)
    for form in [ListWalker.Form.nulls, .nullTerminated] {
      var starts: [ListWalker.Start] = []
      var owners: [Buckets] = []
      for (index, run) in accepted.enumerated() where run.form == form {
        do throws(MemoryFault) {
          let reader = try batch.reader(index)
          var astray = 0
          for bucket in 0..<run.count {
            let place = bucket * run.stride + run.head
            var first = try reader.u64(place)
            // The lowest bit of a bucket of a resizable table is its lock.
            if run.kind == .netlink { first &= ~1 }
            guard first != 0, form == .nullTerminated || first & 1 == 0 else { continue }
            guard VirtualAddress(first).isKernels else {
              faults.append(
                MemoryFault(
                  .virtual(run.address + place), .inconsistent("a bucket that leads to 0x\(String(first, radix: 16))")))
              astray += 1
              guard astray < Self.mostAstray else { break }
              continue
            }
            starts.append(ListWalker.Start(head: VirtualAddress(0), first: VirtualAddress(first)))
            owners.append(run)
          }
        } catch {
          faults.append(error)
        }
      }
      let members = ListWalker(space: space, form: form, limit: limit).members(of: starts)
      faults += members.faults
      for (run, links) in zip(owners, members.lists) {
        // A link at the start of a struct and one in its midst are never the same socket twice.
        found += links.map { (run.kind, $0 - run.link) }
      }
    }
    return found
  }

  private func readCommon(
    _ found: [(kind: NetworkSocket.Kind, address: VirtualAddress)], _ numbers: [VirtualAddress: UInt64],
    in space: AddressSpace, _ draft: inout Draft
  ) {
    draft.sockets = space.read(common, at: found.map(\.address)).compactMap(&draft.faults) {
      (common) throws(MemoryFault) in
      let kind = found[common.index].kind
      guard let namespace = numbers[try common.net] else {
        throw MemoryFault(.virtual(common.address), .inconsistent("a socket of no network namespace"))
      }
      var socket = NetworkSocket(
        kind: kind, address: common.address, namespace: namespace, family: try common.family, state: try common.state)
      socket.interface = try common.interface
      switch kind {
      case .tcp, .udp, .udplite, .raw:
        // AF_INET6.
        let is6 = socket.family == 10
        socket.local = NetworkAddress(bytes: try is6 ? common.local6.bytes : common.local.bytes)
        socket.remote = NetworkAddress(bytes: try is6 ? common.remote6.bytes : common.remote.bytes)
        if kind != .raw {
          socket.localPort = UInt32(try common.localPort)
          socket.remotePort = UInt32(try common.remotePort.byteSwapped)
        }
      case .unix, .netlink, .packet: break
      }
      return socket
    }
    readWhole(in: space, &draft)
  }

  /// What only whole sockets have: not those that wait (TCP_TIME_WAIT, 6) or begin (TCP_NEW_SYN_RECV, 12).
  private func readWhole(in space: AddressSpace, _ draft: inout Draft) {
    let whole = draft.sockets.indices.filter { index in
      let socket = draft.sockets[index]
      return socket.kind != .tcp || (socket.state != 6 && socket.state != 12)
    }
    let sockets = whole.map { draft.sockets[$0] }
    func addresses(_ kinds: Set<NetworkSocket.Kind>) -> [VirtualAddress] {
      sockets.map { kinds.contains($0.kind) ? $0.address : VirtualAddress(0) }
    }
    let tcps = space.read(tcp, at: addresses([.tcp]))
    let udps = space.read(udp, at: addresses([.udp, .udplite]))
    let unixes = space.read(unix, at: addresses([.unix]))
    let netlinks = space.read(netlinkSock, at: addresses([.netlink]))
    let packets = packet.map { space.read($0, at: addresses([.packet])) }
    var files: [(socket: Int, file: VirtualAddress)] = []
    var names: [(socket: Int, address: VirtualAddress)] = []
    var peers: [(socket: Int, peer: VirtualAddress)] = []
    space.read(sock, at: sockets.map(\.address)).forEach(&draft.faults) { (sock) throws(MemoryFault) in
      let index = whole[sock.index]
      var socket = sockets[sock.index]
      socket.type = try sock.type
      socket.protocolNumber = try sock.protocolNumber
      socket.uid = try sock.uid
      if socket.state == 10, socket.kind == .tcp || socket.kind == .unix {
        socket.receiveQueue = try sock.backlog
        socket.sendQueue = try sock.mostBacklog
      } else if socket.kind == .tcp {
        let tcp = tcps[sock.index]
        // Sequence numbers wrap.
        socket.receiveQueue = UInt64(max(0, Int32(bitPattern: try tcp.receivedNext &- tcp.copied)))
        socket.sendQueue = UInt64(max(0, Int32(bitPattern: try tcp.written &- tcp.acknowledged)))
      } else {
        let kept = try socket.kind == .udp || socket.kind == .udplite ? Int64(udps[sock.index].deficit) : 0
        let received = Int64(try socket.kind == .unix ? sock.queued : sock.received)
        socket.receiveQueue = UInt64(max(0, received - kept))
        // The socket itself holds one.
        socket.sendQueue = UInt64(max(0, Int64(try sock.sent) - 1))
      }
      switch socket.kind {
      case .unix:
        let name = try unixes[sock.index].name
        let peer = try unixes[sock.index].peer
        if name.rawValue != 0 { names.append((index, name)) }
        if peer.rawValue != 0 { peers.append((index, peer)) }
      case .netlink:
        socket.localPort = try netlinks[sock.index].port
        socket.remotePort = try netlinks[sock.index].remotePort
      case .packet:
        if let packet = packets?[sock.index] {
          socket.protocolNumber = try packet.type.byteSwapped
          // What other sockets have in common is unused.
          socket.interface = try packet.interface
        }
      default: break
      }
      let file = try sock.file
      if file.rawValue != 0 {
        draft.files[socket.address] = file
        files.append((index, file))
      }
      draft.sockets[index] = socket
    }
    readInodes(files, peers, in: space, &draft)
    readNames(names, in: space, &draft)
  }

  private func readInodes(
    _ files: [(socket: Int, file: VirtualAddress)], _ peers: [(socket: Int, peer: VirtualAddress)],
    in space: AddressSpace, _ draft: inout Draft
  ) {
    var known: [VirtualAddress: UInt64] = [:]
    space.read(file, at: files.map(\.file)).forEach(&draft.faults) { (file) throws(MemoryFault) in
      let socket = files[file.index].socket
      let inode = try file.inode
      draft.sockets[socket].inode = inode
      known[draft.sockets[socket].address] = inode
    }
    for item in peers { draft.sockets[item.socket].peerInode = known[item.peer] }
  }

  private func readNames(
    _ names: [(socket: Int, address: VirtualAddress)], in space: AddressSpace, _ draft: inout Draft
  ) {
    var texts = ReadBatch<VirtualAddress>()
    var owners: [Int] = []
    space.read(unixName, at: names.map(\.address)).forEach(&draft.faults) { (name) throws(MemoryFault) in
      // A name has 108 bytes at most behind the two of its family (struct sockaddr_un).
      let length = try name.length
      guard (2...112).contains(length) else {
        throw MemoryFault(.virtual(name.address), .inconsistent("a unix socket's name of \(length) bytes"))
      }
      texts.add(name.address(of: \.text) + 2, count: Int(length) - 2)
      owners.append(names[name.index].socket)
    }
    space.read(&texts)
    for (position, socket) in owners.enumerated() {
      do throws(MemoryFault) {
        var text = try texts.reader(position).copy()
        if text.first != 0, let end = text.firstIndex(of: 0) { text.removeSubrange(end...) }
        draft.sockets[socket].path = text
      } catch {
        draft.faults.append(error)
      }
    }
  }
}
