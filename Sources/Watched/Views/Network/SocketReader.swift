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
  typealias Field = FieldSelection.Field

  struct Draft {
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

  private let namespaces: NetworkNamespaceReader
  private let tcpTable: VirtualAddress
  private let tcpFields: FieldSelection
  private let hash, hashMask, listening, listeningMask: Field
  private let listenStride, listenHead: Int
  /// The listening sockets where the table itself has their buckets.
  private let ownListening: FieldLayout?
  private let udpTables: [(kind: NetworkSocket.Kind, address: VirtualAddress)]
  private let udpFields: FieldSelection
  private let udpHash, udpMask: Field
  private let udpStride, udpHead: Int
  private let rawTables: [VirtualAddress]
  private let rawHeads: FieldLayout
  private let rawForm: ListWalker.Form
  private let netFields: FieldSelection
  private let netTCP, netUDP, netUnix: Field
  private let unixTable: VirtualAddress?
  private let packetList: Int?
  private let netlinkTable: VirtualAddress
  private let netlinkStride, netlinkHash, netlinkLink: Int
  private let resizable: FieldLayout
  private let bucketFields: FieldSelection
  private let bucketCount, futureTable: Field
  private let bucketsOffset: Int

  private let common: FieldSelection
  private let family, state, net, localAddress, remoteAddress, localPort, remotePort, interface: Field
  private let localAddress6, remoteAddress6: FieldLayout
  private let node: Int
  private let sock: FieldSelection
  private let type, protocolNumber, file, received, sent, backlog, mostBacklog, uid, queued: Field
  private let tcp: FieldSelection
  private let receivedNext, copied, written, acknowledged: Field
  private let udp: FieldSelection
  private let deficit: Field
  private let unix: FieldSelection
  private let unixAddress, peer: Field
  private let nameLength, name: Int
  private let netlink: FieldSelection
  private let portID, remotePortID: Field
  private let packet: FieldSelection
  private let packetType, packetInterface: Field
  private let inodeOffset: Int

  // UNIX_HASH_SIZE, include/net/af_unix.h; MAX_LINKS, include/uapi/linux/netlink.h.
  private static let unixBuckets = 512
  private static let netlinkProtocols = 32
  /// More buckets than the tables of any host have.
  private static let mostBuckets = 1 << 24

  init(kernel: Kernel) throws {
    let types = kernel.types
    let symbols = kernel.symbols
    namespaces = try NetworkNamespaceReader(kernel: kernel)

    tcpTable = try kernel.symbol("tcp_hashinfo", for: Self.self)
    var fields = FieldSelection(try types.structure("inet_hashinfo"))
    hash = try fields.want("ehash")
    hashMask = try fields.want("ehash_mask")
    listening = try fields.want("lhash2")
    listeningMask = try fields.want("lhash2_mask")
    tcpFields = fields
    // Until 5.18 listening sockets are in two tables, of which `lhash2` links them by a node of its own.
    let tables = try types.structure("inet_hashinfo")
    ownListening = tables.hasField("listening_hash") ? try tables.field("listening_hash") : nil
    let listenBucket = try types.structure("inet_listen_hashbucket")
    listenStride = listenBucket.size
    listenHead = try listenBucket.field("nulls_head").offset
    udpTables = [(.udp, "udp_table"), (.udplite, "udplite_table")].compactMap { kind, name in
      symbols.address(of: name).map { (kind, $0) }
    }
    fields = FieldSelection(try types.structure("udp_table"))
    udpHash = try fields.want("hash")
    udpMask = try fields.want("mask")
    udpFields = fields
    let slot = try types.structure("udp_hslot")
    udpStride = slot.size
    udpHead = slot.hasField("head") ? try slot.field("head").offset : 0
    rawTables = ["raw_v4_hashinfo", "raw_v6_hashinfo"].compactMap { symbols.address(of: $0) }
    rawHeads = try types.structure("raw_hashinfo").field("ht")
    rawForm = rawHeads.typeName == "hlist_nulls_head" ? .nulls : .nullTerminated
    let netStructure = try types.structure("net")
    fields = FieldSelection(netStructure)
    netTCP = try fields.wantIfPresent("ipv4.tcp_death_row.hashinfo")
    netUDP = try fields.wantIfPresent("ipv4.udp_table")
    // One table for all namespaces until 5.19.
    unixTable = symbols.address(of: "unix_socket_table")
    netUnix = try unixTable == nil ? fields.want("unx.table.buckets") : fields.wantIfPresent("unx.table.buckets")
    netFields = fields
    packetList = netStructure.hasField("packet.sklist") ? try netStructure.field("packet.sklist").offset : nil
    netlinkTable = try kernel.symbol("nl_table", for: Self.self)
    let protocolTable = try types.structure("netlink_table")
    netlinkStride = protocolTable.size
    netlinkHash = try protocolTable.field("hash").offset
    resizable = try types.structure("rhashtable").field("tbl")
    let buckets = try types.structure("bucket_table")
    bucketsOffset = try buckets.field("buckets").offset
    fields = FieldSelection(buckets)
    bucketCount = try fields.want("size")
    futureTable = try fields.want("future_tbl")
    bucketFields = fields

    let commonStructure = try types.structure("sock_common")
    fields = FieldSelection(commonStructure)
    family = try fields.want("skc_family")
    state = try fields.want("skc_state")
    net = try fields.want("skc_net.net")
    localAddress = try fields.want("skc_rcv_saddr")
    remoteAddress = try fields.want("skc_daddr")
    localPort = try fields.want("skc_num")
    remotePort = try fields.want("skc_dport")
    interface = try fields.want("skc_bound_dev_if")
    common = fields
    localAddress6 = try commonStructure.field("skc_v6_rcv_saddr")
    remoteAddress6 = try commonStructure.field("skc_v6_daddr")
    node = try commonStructure.field("skc_node").offset

    let sockStructure = try types.structure("sock")
    fields = FieldSelection(sockStructure)
    type = try fields.want("sk_type")
    protocolNumber = try fields.want("sk_protocol")
    file = try fields.want("sk_socket")
    received = try fields.want("sk_backlog.rmem_alloc")
    sent = try fields.want("sk_wmem_alloc")
    backlog = try fields.want("sk_ack_backlog")
    mostBacklog = try fields.want("sk_max_ack_backlog")
    uid = try fields.want("sk_uid")
    queued = try fields.want("sk_receive_queue.qlen")
    sock = fields
    fields = FieldSelection(try types.structure("tcp_sock"))
    receivedNext = try fields.want("rcv_nxt")
    copied = try fields.want("copied_seq")
    written = try fields.want("write_seq")
    acknowledged = try fields.want("snd_una")
    tcp = fields
    fields = FieldSelection(try types.structure("udp_sock"))
    deficit = try fields.want("forward_deficit")
    udp = fields
    fields = FieldSelection(try types.structure("unix_sock"))
    unixAddress = try fields.want("addr")
    peer = try fields.want("peer")
    unix = fields
    let address = try types.structure("unix_address")
    nameLength = try address.field("len").offset
    name = try address.field("name").offset
    let netlinkStructure = try types.structure("netlink_sock")
    fields = FieldSelection(netlinkStructure)
    portID = try fields.want("portid")
    remotePortID = try fields.want("dst_portid")
    netlink = fields
    netlinkLink = try netlinkStructure.field("node").offset
    // The packet family may be a module, whose types the kernel's own do not have.
    if types.hasStructure("packet_sock") {
      fields = FieldSelection(try types.structure("packet_sock"))
      packetType = try fields.want("num")
      packetInterface = try fields.want("ifindex")
    } else {
      fields = FieldSelection(sockStructure)
      packetType = try fields.wantIfPresent("none of this name")
      packetInterface = packetType
    }
    packet = fields
    let inode = try types.structure("socket_alloc").field("vfs_inode").offset
    inodeOffset = inode + (try types.structure("inode").field("i_ino").offset)
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
    let reads = space.read(netFields, at: nets.map(\.address))
    var tcpTables = [tcpTable]
    var udpTables = udpTables
    var runs: [Buckets] = []
    func noting(_ body: () throws(MemoryFault) -> Void) {
      do throws(MemoryFault) { try body() } catch { faults.append(error) }
    }
    for index in nets.indices {
      noting { () throws(MemoryFault) in
        let own = try reads.pointer(index, netTCP)
        if own.rawValue != 0, !tcpTables.contains(own) { tcpTables.append(own) }
        let ownUDP = try reads.pointer(index, netUDP)
        if ownUDP.rawValue != 0, !udpTables.contains(where: { $0.address == ownUDP }) {
          udpTables.append((.udp, ownUDP))
        }
        let unix = try reads.pointer(index, netUnix)
        if unix.rawValue != 0 {
          runs.append(
            Buckets(
              kind: .unix, address: unix, count: Self.unixBuckets, stride: 8, head: 0, form: .nullTerminated,
              link: node))
        }
        if let packetList {
          runs.append(
            Buckets(
              kind: .packet, address: nets[index].address + packetList, count: 1, stride: 8, head: 0,
              form: .nullTerminated, link: node))
        }
      }
    }
    if let unixTable {
      runs.append(
        Buckets(
          kind: .unix, address: unixTable, count: Self.unixBuckets, stride: 8, head: 0, form: .nullTerminated,
          link: node))
    }
    for table in rawTables {
      runs.append(
        Buckets(
          kind: .raw, address: table + rawHeads.offset, count: rawHeads.elementCount ?? 0, stride: 8, head: 0,
          form: rawForm, link: node))
    }
    let tcps = space.read(tcpFields, at: tcpTables)
    var listeners: Set<VirtualAddress> = []
    for index in tcps.indices {
      noting { () throws(MemoryFault) in
        var listen = try tcps.pointer(index, listening)
        var listenCount = Self.buckets(mask: try tcps.load(index, listeningMask))
        if let ownListening {
          (listen, listenCount) = (tcpTables[index] + ownListening.offset, ownListening.elementCount ?? 0)
        }
        runs.append(
          Buckets(
            kind: .tcp, address: try tcps.pointer(index, hash),
            count: Self.buckets(mask: try tcps.load(index, hashMask)),
            stride: 8, head: 0, form: .nulls, link: node))
        if listen.rawValue != 0, listeners.insert(listen).inserted {
          runs.append(
            Buckets(
              kind: .tcp, address: listen, count: listenCount,
              stride: listenStride,
              head: listenHead, form: .nulls, link: node))
        }
      }
    }
    let udps = space.read(udpFields, at: udpTables.map(\.address))
    for index in udps.indices {
      noting { () throws(MemoryFault) in
        runs.append(
          Buckets(
            kind: udpTables[index].kind, address: try udps.pointer(index, udpHash),
            count: Self.buckets(mask: try udps.load(index, udpMask)), stride: udpStride, head: udpHead,
            form: .nullTerminated,
            link: node))
      }
    }
    noting { () throws(MemoryFault) in
      let pointer = try space.read(netlinkTable, count: 8)
      let table = try ByteReader(pointer.span.bytes).pointer(0)
      var batch = ReadBatch<VirtualAddress>()
      for index in 0..<Self.netlinkProtocols {
        batch.add(table + index * netlinkStride + netlinkHash + resizable.offset, count: 8)
      }
      space.read(&batch)
      var tables: [VirtualAddress] = []
      for index in 0..<Self.netlinkProtocols {
        let table = try batch.reader(index).pointer(0)
        if table.rawValue != 0 { tables.append(table) }
      }
      // While a table grows, its sockets move to the next one.
      for _ in 0..<4 where !tables.isEmpty {
        let reads = space.read(bucketFields, at: tables)
        tables = []
        for index in reads.indices {
          runs.append(
            Buckets(
              kind: .netlink, address: reads.addresses[index] + bucketsOffset,
              count: Int(clamping: try reads.load(index, bucketCount)), stride: 8, head: 0, form: .nulls,
              link: netlinkLink))
          let next = try reads.pointer(index, futureTable)
          if next.rawValue != 0 { tables.append(next) }
        }
      }
    }
    return runs
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
          for bucket in 0..<run.count {
            var first = try reader.u64(bucket * run.stride + run.head)
            // The lowest bit of a bucket of a resizable table is its lock.
            if run.kind == .netlink { first &= ~1 }
            guard first != 0, form == .nullTerminated || first & 1 == 0 else { continue }
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
    let reads = space.read(common, at: found.map(\.address))
    var batch = ReadBatch<VirtualAddress>()
    for item in found {
      batch.add(item.address + localAddress6.offset, count: 16)
      batch.add(item.address + remoteAddress6.offset, count: 16)
    }
    space.read(&batch)
    for (index, item) in found.enumerated() {
      do throws(MemoryFault) {
        let family = UInt16(truncatingIfNeeded: try reads.load(index, family))
        let net = try reads.pointer(index, net)
        guard let namespace = numbers[net] else {
          throw MemoryFault(.virtual(item.address), .inconsistent("a socket of no network namespace"))
        }
        var socket = NetworkSocket(
          kind: item.kind, address: item.address, namespace: namespace, family: family,
          state: UInt8(truncatingIfNeeded: try reads.load(index, state)))
        socket.interface = Int32(truncatingIfNeeded: try reads.signed(index, interface))
        switch item.kind {
        case .tcp, .udp, .udplite, .raw:
          if family == 10 {
            socket.local = NetworkAddress(bytes: try batch.reader(index * 2).copy())
            socket.remote = NetworkAddress(bytes: try batch.reader(index * 2 + 1).copy())
          } else {
            socket.local = Self.address(try reads.load(index, localAddress))
            socket.remote = Self.address(try reads.load(index, remoteAddress))
          }
          if item.kind != .raw {
            socket.localPort = UInt32(truncatingIfNeeded: try reads.load(index, localPort))
            socket.remotePort = UInt32(
              UInt16(truncatingIfNeeded: try reads.load(index, remotePort)).byteSwapped)
          }
        case .unix, .netlink, .packet: break
        }
        draft.sockets.append(socket)
      } catch {
        draft.faults.append(error)
      }
    }
    readWhole(in: space, &draft)
  }

  /// What only whole sockets have: not those that wait (TCP_TIME_WAIT, 6) or begin (TCP_NEW_SYN_RECV, 12).
  private func readWhole(in space: AddressSpace, _ draft: inout Draft) {
    let whole = draft.sockets.indices.filter { index in
      let socket = draft.sockets[index]
      return socket.kind != .tcp || (socket.state != 6 && socket.state != 12)
    }
    func addresses(_ kinds: Set<NetworkSocket.Kind>) -> [VirtualAddress] {
      whole.map { kinds.contains(draft.sockets[$0].kind) ? draft.sockets[$0].address : VirtualAddress(0) }
    }
    let socks = space.read(sock, at: whole.map { draft.sockets[$0].address })
    let tcps = space.read(tcp, at: addresses([.tcp]))
    let udps = space.read(udp, at: addresses([.udp, .udplite]))
    let unixes = space.read(unix, at: addresses([.unix]))
    let netlinks = space.read(netlink, at: addresses([.netlink]))
    let packets = space.read(packet, at: addresses([.packet]))
    var inodes: [(socket: Int, file: VirtualAddress)] = []
    var names: [(socket: Int, address: VirtualAddress)] = []
    var peers: [(socket: Int, peer: VirtualAddress)] = []
    for (position, index) in whole.enumerated() {
      do throws(MemoryFault) {
        var socket = draft.sockets[index]
        socket.type = UInt16(truncatingIfNeeded: try socks.load(position, type))
        socket.protocolNumber = UInt16(truncatingIfNeeded: try socks.load(position, protocolNumber))
        socket.uid = UInt32(truncatingIfNeeded: try socks.load(position, uid))
        let isListening = socket.state == 10 && (socket.kind == .tcp || socket.kind == .unix)
        if isListening {
          socket.receiveQueue = try socks.load(position, backlog)
          socket.sendQueue = try socks.load(position, mostBacklog)
        } else if socket.kind == .tcp {
          // Sequence numbers wrap.
          let waiting = Int32(
            truncatingIfNeeded: try tcps.load(position, receivedNext) &- tcps.load(position, copied))
          let open = Int32(
            truncatingIfNeeded: try tcps.load(position, written) &- tcps.load(position, acknowledged))
          socket.receiveQueue = UInt64(max(0, waiting))
          socket.sendQueue = UInt64(max(0, open))
        } else {
          let kept = try socket.kind == .udp || socket.kind == .udplite ? udps.signed(position, deficit) : 0
          let received = try socket.kind == .unix ? socks.signed(position, queued) : socks.signed(position, received)
          socket.receiveQueue = UInt64(max(0, received &- kept))
          // The socket itself holds one.
          socket.sendQueue = UInt64(max(0, try socks.signed(position, sent) &- 1))
        }
        switch socket.kind {
        case .unix:
          let name = try unixes.pointer(position, unixAddress)
          let peer = try unixes.pointer(position, peer)
          if name.rawValue != 0 { names.append((index, name)) }
          if peer.rawValue != 0 { peers.append((index, peer)) }
        case .netlink:
          socket.localPort = UInt32(truncatingIfNeeded: try netlinks.load(position, portID))
          socket.remotePort = UInt32(truncatingIfNeeded: try netlinks.load(position, remotePortID))
        case .packet:
          if packetType.isPresent {
            socket.protocolNumber = UInt16(truncatingIfNeeded: try packets.load(position, packetType)).byteSwapped
            // What other sockets have in common is unused.
            socket.interface = Int32(truncatingIfNeeded: try packets.signed(position, packetInterface))
          }
        default: break
        }
        let file = try socks.pointer(position, file)
        if file.rawValue != 0 {
          draft.files[socket.address] = file
          inodes.append((index, file))
        }
        draft.sockets[index] = socket
      } catch {
        draft.faults.append(error)
      }
    }
    readInodes(inodes, peers, in: space, &draft)
    readNames(names, in: space, &draft)
  }

  private func readInodes(
    _ inodes: [(socket: Int, file: VirtualAddress)], _ peers: [(socket: Int, peer: VirtualAddress)],
    in space: AddressSpace, _ draft: inout Draft
  ) {
    var batch = ReadBatch<VirtualAddress>()
    for item in inodes { batch.add(item.file + inodeOffset, count: 8) }
    space.read(&batch)
    var known: [VirtualAddress: UInt64] = [:]
    for (position, item) in inodes.enumerated() {
      do throws(MemoryFault) {
        let inode = try batch.reader(position).u64(0)
        draft.sockets[item.socket].inode = inode
        known[draft.sockets[item.socket].address] = inode
      } catch {
        draft.faults.append(error)
      }
    }
    for item in peers { draft.sockets[item.socket].peerInode = known[item.peer] }
  }

  private func readNames(
    _ names: [(socket: Int, address: VirtualAddress)], in space: AddressSpace, _ draft: inout Draft
  ) {
    // A name has 108 bytes at most behind the two of its family (struct sockaddr_un).
    var batch = ReadBatch<VirtualAddress>()
    for item in names {
      batch.add(item.address + nameLength, count: 4)
    }
    space.read(&batch)
    var texts = ReadBatch<VirtualAddress>()
    var owners: [Int] = []
    for (position, item) in names.enumerated() {
      do throws(MemoryFault) {
        let length = try batch.reader(position).load(0, as: Int32.self)
        guard (2...112).contains(length) else {
          throw MemoryFault(.virtual(item.address), .inconsistent("a unix socket's name of \(length) bytes"))
        }
        texts.add(item.address + name + 2, count: Int(length) - 2)
        owners.append(item.socket)
      } catch {
        draft.faults.append(error)
      }
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

  private static func address(_ word: UInt64) -> NetworkAddress {
    NetworkAddress(word: word)
  }
}
