package import KernelInfo
package import Memory
package import Paging

/// Reads the kernel's red-black trees, level by level.
///
/// Source: include/linux/rbtree.h and lib/rbtree.c, `rb_first` and `rb_next`.
package struct RedBlackTree: Sendable {
  private struct Node: KernelShape {
    static let type = "rb_node"
    let left = Field<VirtualAddress>("rb_left")
    let right = Field<VirtualAddress>("rb_right")
  }

  private let node: Bound<Node>
  /// The deepest tree that is followed: one of so many levels would hold more nodes than any memory.
  private static let deepest = 128

  package init(types: TypeTable) throws(KernelInfoError) { node = try Bound(types) }

  package struct Nodes: Sendable {
    /// In the order of the tree.
    package var nodes: [VirtualAddress] = []
    package var faults: [MemoryFault] = []
  }

  /// The nodes of the tree under `root`, which is what its `rb_root` holds.
  ///
  /// Cost: one batch a level.
  package func nodes(root: VirtualAddress, in space: AddressSpace, limit: Int) -> Nodes {
    var result = Nodes()
    var children: [VirtualAddress: (left: VirtualAddress, right: VirtualAddress)] = [:]
    var seen: Set<VirtualAddress> = [root]
    var level = root.rawValue == 0 ? [] : [root]
    for _ in 0..<Self.deepest where !level.isEmpty {
      var next: [VirtualAddress] = []
      for (node, reading) in zip(level, space.read(node, at: level)) {
        do throws(MemoryFault) {
          var links = (left: try reading.left, right: try reading.right)
          for link in [\.left, \.right]
            as [WritableKeyPath<(left: VirtualAddress, right: VirtualAddress), VirtualAddress>]
          where links[keyPath: link].rawValue != 0 {
            if seen.count < limit, seen.insert(links[keyPath: link]).inserted {
              next.append(links[keyPath: link])
            } else {
              result.faults.append(
                MemoryFault(.virtual(node), .inconsistent("a tree that holds a node twice, or more than \(limit)")))
              links[keyPath: link] = VirtualAddress(0)
            }
          }
          children[node] = links
        } catch {
          result.faults.append(error)
        }
      }
      level = next
    }
    if !level.isEmpty {
      result.faults.append(MemoryFault(.virtual(level[0]), .inconsistent("a tree of more than \(Self.deepest) levels")))
    }
    // In order: down to the left, the node, then its right side.
    var stack: [VirtualAddress] = []
    var current = root
    while current.rawValue != 0 || !stack.isEmpty {
      while current.rawValue != 0, let links = children[current] {
        stack.append(current)
        current = links.left
      }
      guard let node = stack.popLast() else { break }
      result.nodes.append(node)
      current = children[node]?.right ?? VirtualAddress(0)
    }
    return result
  }
}
