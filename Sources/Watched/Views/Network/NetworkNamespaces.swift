import Binding
import KernelInfo
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

  private let head: VirtualAddress
  private let link: Int
  private let fields: FieldSelection
  private let number: FieldSelection.Field

  package init(kernel: Kernel) throws {
    head = try kernel.symbol("net_namespace_list", for: Self.self)
    let structure = try kernel.types.structure("net")
    link = try structure.field("list").offset
    var fields = FieldSelection(structure)
    number = try fields.want("ns.inum")
    self.fields = fields
  }

  package func read(in space: AddressSpace) -> (namespaces: [NetworkNamespace], faults: [MemoryFault]) {
    let members = ListWalker(space: space, form: .circular, limit: Self.most).members(ofHeads: [head])
    var faults = members.faults
    var namespaces: [NetworkNamespace] = []
    let reads = space.read(fields, at: members.lists[0].map { $0 - link })
    for index in reads.indices {
      do throws(MemoryFault) {
        namespaces.append(NetworkNamespace(address: reads.addresses[index], number: try reads.load(index, number)))
      } catch {
        faults.append(error)
      }
    }
    return (namespaces, faults)
  }
}
