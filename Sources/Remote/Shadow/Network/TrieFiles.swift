import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The tries in which a network namespace keeps its routes of version 4: /proc/net/fib_trie and fib_triestat.
///
/// An inner node has a bit string of its own and an array of children, as many as two to the power of its bits; a leaf has routes. A
/// node's struct lies within one that says who its parent is.
///
/// Source: net/ipv4/fib_trie.c, `fib_trie_seq_show` and `trie_collect_stats`; the order is that of `fib_trie_get_next`.
struct TrieFiles {
  let kernel: Kernel
  /// The `struct net`.
  let net: VirtualAddress

  private struct Table: KernelShape {
    static let type = "fib_table"
    let link = Place("tb_hlist"), number = Field<UInt32>("tb_id"), data = Field<VirtualAddress>("tb_data")
  }

  private struct Node: KernelShape {
    static let type = "key_vector"
    let key = Field<UInt32>("key"), position = Field<UInt8>("pos"), bits = Field<UInt8>("bits")
    let leaf = Place("leaf"), children = Place("tnode"), first = Field<VirtualAddress>("leaf.first")
  }

  private struct Outer: KernelShape {
    static let type = "tnode"
    let node = Place("kv"), empty = Field<UInt32>("empty_children"), full = Field<UInt32>("full_children")
  }

  private struct Route: KernelShape {
    static let type = "fib_alias"
    let link = Place("fa_list"), info = Field<VirtualAddress>("fa_info"), length = Field<UInt8>("fa_slen")
    let kind = Field<UInt8>("fa_type"), service = Field<UInt8>("fa_tos", before: "6.0, 1c8ca8fa4bd1", "fa_dscp")
  }

  private struct Info: KernelShape {
    static let type = "fib_info"
    let scope = Field<UInt8>("fib_scope")
  }

  private struct Entry {
    var depth: Int
    var key: UInt32
    var position, bits: Int
    var full: UInt32 = 0, empty: UInt32 = 0
    /// Nil of an inner node.
    var routes: [(length: UInt8, kind: UInt8, service: UInt8, scope: UInt8)]?
  }

  /// No host has as many nodes.
  private static let most = 1 << 21

  private var space: AddressSpace { kernel.addressSpace }

  private func tables() throws -> [(number: UInt32, trie: VirtualAddress, entries: [Entry])] {
    let hash = try space.pointer(at: net + kernel.offset(of: "ipv4.fib_table_hash", in: "net"))
    // FIB_TABLE_HASHSZ is 256 with tables of one's own, 2 without.
    let count = kernel.symbols.address(of: "fib4_rules_ops_template") == nil ? 2 : 256
    let heads = try space.pointers(inArrayAt: hash, count: count)
    let starts = heads.filter { $0.rawValue != 0 }.map { ListWalker.Start(head: VirtualAddress(0), first: $0) }
    var faults: [MemoryFault] = []
    let tables = space.lists(
      of: try kernel.bound(Table.self), through: \.link, from: starts, form: .nullTerminated, limit: 1 << 16, &faults
    ).structs
    if let fault = faults.first { throw fault }
    return try tables.map { table in (try table.number, try table.data, try entries(below: try table.data)) }
  }

  /// The nodes of a trie, level by level, then in their order.
  private func entries(below trie: VirtualAddress) throws -> [Entry] {
    guard trie.rawValue != 0 else { return [] }
    let (node, outer) = (try kernel.bound(Node.self), try kernel.bound(Outer.self))
    // The root has one child, and is none itself.
    let first = try space.pointer(at: trie + node.children.offset)
    guard first.rawValue != 0 else { return [] }
    var known: [VirtualAddress: (entry: Entry, children: [VirtualAddress])] = [:]
    var level = [first]
    while !level.isEmpty {
      let nodes = space.read(node, at: level)
      let outers = space.read(outer, at: level.map { $0 - outer.node.offset })
      var batch = ReadBatch<VirtualAddress>()
      for item in nodes {
        let bits = try item.bits
        guard bits <= 20, known.count < Self.most else {
          throw ShadowError.unreadable("a node of 2^\(bits) children in the routes' trie, or more than \(Self.most)")
        }
        if bits > 0 { batch.add(item.address(of: \.children), count: 8 << Int(bits)) }
      }
      if !batch.entries.isEmpty { space.read(&batch) }
      var (next, position): ([VirtualAddress], Int) = ([], 0)
      for item in nodes {
        var entry = Entry(depth: 0, key: try item.key, position: Int(try item.position), bits: Int(try item.bits))
        var children: [VirtualAddress] = []
        if entry.bits > 0 {
          (entry.full, entry.empty) = (try outers[item.index].full, try outers[item.index].empty)
          children = try batch.words(position).map { VirtualAddress($0) }.filter { $0.rawValue != 0 }
          position += 1
        } else {
          entry.routes = []
        }
        guard known.updateValue((entry, children), forKey: item.address) == nil else {
          throw ShadowError.unreadable("a trie of routes that holds a node twice")
        }
        next += children
      }
      level = next
    }
    var leaves: [VirtualAddress] = []
    var entries: [Entry] = []
    var stack = [(node: first, depth: 0)]
    while let (address, depth) = stack.popLast() {
      guard let (found, children) = known[address] else { continue }
      var entry = found
      // A leaf counts its parents, an inner node itself, too.
      entry.depth = entry.bits > 0 ? depth + 1 : depth
      if entry.bits == 0 { leaves.append(address) }
      entries.append(entry)
      for child in children.reversed() { stack.append((child, depth + 1)) }
    }
    try addRoutes(of: leaves, to: &entries)
    return entries
  }

  private func addRoutes(of leaves: [VirtualAddress], to entries: inout [Entry]) throws {
    let node = try kernel.bound(Node.self)
    let heads = space.read(node, at: leaves)
    var faults: [MemoryFault] = []
    let starts = try heads.map { ListWalker.Start(head: VirtualAddress(0), first: try $0.first) }
    let (owners, routes) = space.lists(
      of: try kernel.bound(Route.self), through: \.link, from: starts, form: .nullTerminated, limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    let infos = try kernel.read(Info.self, at: routes.pointers(\.info))
    let places = entries.indices.filter { entries[$0].bits == 0 }
    for route in routes {
      entries[places[owners[route.index]]].routes?.append(
        (try route.length, try route.kind, try route.service, try infos[route.index].scope))
    }
  }

  private static func title(_ number: UInt32) -> String {
    // RT_TABLE_LOCAL and RT_TABLE_MAIN.
    number == 255 ? "Local:" : number == 254 ? "Main:" : "Id \(number):"
  }

  private static func address(_ key: UInt32) -> String {
    (0..<4).map { "\(key >> UInt32(24 - $0 * 8) & 0xff)" }.joined(separator: ".")
  }

  // RT_SCOPE_* and RTN_*, from include/uapi/linux/rtnetlink.h.
  private static let scopes: [UInt8: String] = [0: "universe", 200: "site", 253: "link", 254: "host", 255: "nowhere"]
  private static let kinds = [
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
  ]

  func routes() throws -> [UInt8] {
    var text = ProcText()
    for (number, _, entries) in try tables() where !entries.isEmpty {
      text.line(Self.title(number))
      for entry in entries {
        func indent(_ depth: Int) -> String { String(repeating: "   ", count: max(0, depth)) }
        guard let routes = entry.routes else {
          text.line(
            "\(indent(entry.depth - 1))  +-- \(Self.address(entry.key))/\(32 - entry.position - entry.bits) \(entry.bits) "
              + "\(entry.full) \(entry.empty)")
          continue
        }
        text.line("\(indent(entry.depth))  |-- \(Self.address(entry.key))")
        for route in routes {
          let scope = Self.scopes[route.scope] ?? "scope=\(route.scope)"
          let kind = Self.kinds[safe: Int(route.kind)] ?? "type \(route.kind)"
          let service = route.service == 0 ? "" : " tos=\(route.service)"
          text.line("\(indent(entry.depth + 1))  /\(32 - Int(route.length)) \(scope) \(kind)\(service)")
        }
      }
    }
    return text.bytes
  }

  /// Source: `fib_triestat_seq_show` and `trie_show_stats`.
  func statistics() throws -> [UInt8] {
    let outer = try kernel.types.structure("tnode")
    let node = try kernel.types.structure("key_vector")
    let inner = try outer.field("kv").offset + node.field("tnode").offset
    let (leaf, route) = (inner + 8, try kernel.types.structure("fib_alias").size)
    var text = ProcText("Basic info: size of leaf: \(leaf) bytes, size of tnode: \(inner) bytes.\n")
    for (number, trie, entries) in try tables() {
      text.line(Self.title(number))
      let leaves = entries.filter { $0.routes != nil }, nodes = entries.filter { $0.routes == nil }
      let depth = leaves.reduce(0) { $0 + $1.depth }
      let average = leaves.isEmpty ? 0 : depth * 100 / leaves.count
      let routes = leaves.reduce(0) { $0 + ($1.routes?.count ?? 0) }
      text.line("\tAver depth:     \(average / 100).\(ProcText.padded("\(average % 100)", 2, "0"))")
      text.line("\tMax depth:      \(leaves.map(\.depth).max() ?? 0)")
      text.line("\tLeaves:         \(leaves.count)")
      text.line("\tPrefixes:       \(routes)")
      text.add("\tInternal nodes: \(nodes.count)\n\t")
      let sizes = Dictionary(grouping: nodes, by: \.bits).mapValues(\.count)
      var pointers = 0
      for (bits, count) in sizes.sorted(by: { $0.key < $1.key }) {
        text.add("  \(bits): \(count)")
        pointers += count << bits
      }
      text.line("")
      text.line("\tPointers: \(pointers)")
      text.line("Null ptrs: \(nodes.reduce(0 as UInt64) { $0 + UInt64($1.empty) })")
      let bytes = leaf * leaves.count + route * routes + inner * nodes.count + 8 * pointers
      text.line("Total size: \((bytes + 1023) / 1024)  kB")
      try addUses(of: trie, to: &text)
    }
    return text.bytes
  }

  /// How often a trie was asked, where the kernel counts that (CONFIG_IP_FIB_TRIE_STATS).
  ///
  /// Source: `trie_show_usage`.
  private func addUses(of trie: VirtualAddress, to text: inout ProcText) throws {
    let layout = try kernel.types.structure("trie")
    guard layout.hasField("stats"), trie.rawValue != 0 else { return }
    let variable = try space.pointer(at: trie + layout.field("stats").offset)
    let counters = try kernel.types.structure("trie_use_stats")
    let cpus = try kernel.cpus()
    text.add("\nCounters:\n---------\n")
    for (field, name) in [
      ("gets", "gets ="), ("backtrack", "backtracks ="), ("semantic_match_passed", "semantic match passed ="),
      ("semantic_match_miss", "semantic match miss ="), ("null_node_hit", "null node hit="),
      ("resize_node_skipped", "skipped node resize ="),
    ] {
      let offset = try counters.field(field).offset
      let sum = try cpus.reduce(0 as UInt32) { $0 &+ (try space.load($1.address(of: variable) + offset)) }
      text.line("\(name) \(sum)")
    }
    text.line("")
  }
}
