import Binding
package import LinuxKernel
public import Memory
package import Paging

/// A network namespace: a network stack of its own.
public struct NetworkNamespace: Hashable, Sendable {
  /// The address of its `struct net`.
  public var address: VirtualAddress
  /// The inode number that /proc/PID/ns/net shows: what tells namespaces apart.
  public var number: UInt64
}

/// Lists the network namespaces. Source: net/core/net_namespace.c, `net_namespace_list`.
package struct NetworkNamespaceReader: KernelReader {
  package static let subject = "the network namespaces"
  /// More namespaces than any host has.
  package static let most = 1 << 16

  private struct Net: KernelShape {
    static let type = "net"
    let link = Place("list")
    let number = Field<UInt64>("ns.inum")
  }

  private let head: VirtualAddress
  private let net: Bound<Net>

  package init(kernel: Kernel) throws {
    head = try kernel.symbol("net_namespace_list", for: Self.self)
    net = try Bound(kernel.types)
  }

  package func read(in space: AddressSpace) -> (namespaces: [NetworkNamespace], faults: [MemoryFault]) {
    var faults: [MemoryFault] = []
    let nets = space.list(of: net, through: \.link, head: head, limit: Self.most, &faults)
    let namespaces = nets.compactMap(&faults) { (net) throws(MemoryFault) in
      NetworkNamespace(address: net.address, number: try net.number)
    }
    return (namespaces, faults)
  }
}
