import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// Reads the functions that netfilter calls: those of each network namespace, and those of its devices.
///
/// Source: net/netfilter/core.c, `nf_hook_entry_head`.
struct NetfilterHooks: Sendable {
  private struct Net: KernelShape {
    static let type = "net"
    // NF_INET_PRE_ROUTING and so on, include/uapi/linux/netfilter.h; ARP has three of its own.
    static let hooks = ["prerouting", "input", "forward", "output", "postrouting"]
    let chains: [(family: String, hooks: [String], heads: ArrayPlace)] = [
      ("ipv4", hooks, ArrayPlace(optional: "nf.hooks_ipv4", most: 16)),
      ("ipv6", hooks, ArrayPlace(optional: "nf.hooks_ipv6", most: 16)),
      ("arp", ["in", "out", "forward"], ArrayPlace(optional: "nf.hooks_arp", most: 16)),
      ("bridge", hooks, ArrayPlace(optional: "nf.hooks_bridge", most: 16)),
    ]
    let devices = Place("dev_base_head")
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let link = Place("dev_list")
    let name = Field<[UInt8]>("name")
    // With CONFIG_NETFILTER_INGRESS and, since 5.16 (42df6e1d221d), CONFIG_NETFILTER_EGRESS.
    let ingress = Field<VirtualAddress?>(optional: "nf_hooks_ingress")
    let egress = Field<VirtualAddress?>(optional: "nf_hooks_egress")
  }

  private struct ChainEntries: KernelShape {
    static let type = "nf_hook_entries"
    let count = Field<Int>("num_hook_entries")
    let entries = Place("hooks")
  }

  private struct ChainEntry: KernelShape {
    static let type = "nf_hook_entry"
    let function = Field<VirtualAddress>("hook")
  }

  private struct ChainOperations: KernelShape {
    static let type = "nf_hook_ops"
    let priority = Field<Int32>("priority")
  }

  private struct Chain: Sendable {
    let entries: Bound<ChainEntries>
    let entry: Bound<ChainEntry>
    let operations: Bound<ChainOperations>
  }

  private let namespaces: NetworkNamespaceReader
  private let net: Bound<Net>
  private let device: Bound<Device>
  /// Nil for a kernel without netfilter.
  private let chain: Chain?

  /// More devices than any host has.
  private static let most = 1 << 16

  init(kernel: Kernel) throws {
    let types = kernel.types
    namespaces = try NetworkNamespaceReader(kernel: kernel)
    net = try Bound(types)
    device = try Bound(types)
    chain =
      net.chains.contains { $0.heads.count > 0 }
      ? Chain(entries: try Bound(types), entry: try Bound(types), operations: try Bound(types)) : nil
  }

  func read(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) {
    guard let chain else { return }
    let (nets, faults) = namespaces.read(in: space)
    table.faults += faults
    var heads = ReadBatch<VirtualAddress>()
    let chains = net.chains.filter { $0.heads.count > 0 }
    for net in nets {
      for chain in chains { heads.add(net.address + chain.heads.offset, count: chain.heads.count * 8) }
    }
    space.read(&heads)
    var found: [(name: String, namespace: UInt64, entries: VirtualAddress)] = []
    for index in heads.entries.indices {
      let (net, chain) = (nets[index / chains.count], chains[index % chains.count])
      let words = table.faults.keep { () throws(MemoryFault) in try heads.words(index) } ?? []
      for (slot, entries) in words.enumerated() where entries != 0 {
        let hook = slot < chain.hooks.count ? chain.hooks[slot] : "\(slot)"
        found.append(("\(chain.family) \(hook)", net.number, VirtualAddress(entries)))
      }
    }
    let (owners, devices) = space.lists(
      of: device, through: \.link, heads: nets.map { $0.address + net.devices.offset }, limit: Self.most, &table.faults)
    devices.forEach(&table.faults) { (device) throws(MemoryFault) in
      for (hook, entries) in [("ingress", try device.ingress), ("egress", try device.egress)] {
        guard let entries else { continue }
        let name = String(decoding: try device.name, as: UTF8.self)
        found.append(("\(name) \(hook)", nets[owners[device.index]].number, entries))
      }
    }
    // Behind the entries lie as many pointers to what each was made of (nf_hook_entries_get_hook_ops).
    var arrays = ReadBatch<VirtualAddress>()
    let open = space.read(chain.entries, at: found.map(\.entries)).compactMap(&table.faults) {
      (entries) throws(MemoryFault) in
      // MAX_HOOK_COUNT, net/netfilter/core.c.
      let count = min(try entries.count, 1024)
      let start = entries.address(of: \.entries)
      let entry = arrays.add(start, count: count * chain.entry.size)
      arrays.add(start + count * chain.entry.size, count: count * 8)
      return (chain: entries.index, entry: entry)
    }
    space.read(&arrays)
    let first = table.hooks.count
    var operations: [VirtualAddress] = []
    for (index, entry) in open {
      let item = found[index]
      table.faults.keep { () throws(MemoryFault) in
        let pointers = try arrays.words(entry + 1)
        let hooks = try StructArray(chain.entry, entry, of: arrays).map { (entry) throws(MemoryFault) in
          Hook(kind: .netfilter, name: item.name, code: code.place(of: try entry.function), namespace: item.namespace)
        }
        table.hooks += hooks
        operations += pointers.map { VirtualAddress($0) }
      }
    }
    space.read(chain.operations, at: operations).forEach(&table.faults) { (operations) throws(MemoryFault) in
      table.hooks[first + operations.index].priority = try operations.priority
    }
  }
}
