import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the caches of SLUB, the allocator of all kernels from 6.5 on and of all distributions' before.
///
/// ```
/// slab_caches → kmem_cache … → kmem_cache_node of each NUMA node: slabs, objects, partial → slab …
/// ```
/// Objects are counted a node; which of them are free is only known slab by slab, for slabs with some free.
/// Source: mm/slub.c, `get_slabinfo`, `count_partial`.
struct SlabReader: SettledReader {
  static let subject = "the slab caches"

  private struct Cache: KernelShape {
    static let type = "kmem_cache"
    let link = Place("list")
    let name = Field<VirtualAddress>("name")
    let size = Field<UInt64>("size")
    let objectSize = Field<UInt64>("object_size")
    let order = Field<UInt64>("oo.x")
    // The pointers to the parts of each NUMA node, since 7.1 beside another one for the same node.
    let nodes = ArrayPlace("per_node.node", before: "7.1", "node", most: 1024)
  }

  private struct Node: KernelShape {
    static let type = "kmem_cache_node"
    let slabs = Field<UInt64>("nr_slabs")
    let objects = Field<UInt64>("total_objects")
    let partial = Place("partial")
  }

  private struct Slab: KernelShape {
    // A part of `page` before 5.17.
    static let type = "slab"
    let link = Place("slab_list")
    let inUse = Field<UInt64>("inuse")
    let objects = Field<UInt64>("objects")
  }

  private let caches: VirtualAddress
  private let nodeCount: VirtualAddress?
  private let cache: Bound<Cache>
  private let node: Bound<Node>
  private let slab: Bound<Slab>

  init(kernel: Kernel) throws {
    let types = kernel.types
    caches = try kernel.symbol("slab_caches", for: Self.self)
    nodeCount = kernel.symbols.address(of: "nr_node_ids")
    cache = try Bound(types)
    node = try Bound(types)
    slab = try Bound(types, as: types.hasStructure(Slab.type) ? nil : "page")
  }

  func read(_ kernel: Kernel) throws -> SlabTable {
    let space = kernel.addressSpace
    // MAX_NUMNODES is 1024 at most.
    var nodesPerCache = 1
    if let nodeCount {
      let bytes = try space.read(nodeCount, count: 4)
      nodesPerCache = min(Int(clamping: try ByteReader(bytes.span.bytes).u32(0)), cache.nodes.count)
    }
    var faults: [MemoryFault] = []
    let limit = min(space.mostObjects(ofSize: 4096), 1 << 16)
    let found = space.list(of: cache, through: \.link, head: caches, limit: limit, &faults)
    if found.isEmpty, let fault = faults.first { throw fault }
    var arrays = ReadBatch<VirtualAddress>()
    for address in found.addresses {
      arrays.add(address + cache.nodes.offset, count: (nodesPerCache - 1) * cache.nodes.stride + 8)
    }
    space.read(&arrays)
    let drafts = found.compactMap(&faults) { (cache) throws(MemoryFault) in
      let order = try cache.order
      // The low half has the objects of a slab, the high half the order of its pages, 10 at most.
      guard order >> 16 <= 10 else {
        throw MemoryFault(
          .virtual(cache.address), .inconsistent("a slab cache whose slabs have 2^\(order >> 16) pages"))
      }
      let draft = SlabCache(
        address: cache.address, name: [], objectSize: Int(clamping: try cache.objectSize),
        size: Int(clamping: try cache.size), objectsPerSlab: Int(order & 0xffff), pagesPerSlab: 1 << Int(order >> 16),
        activeObjects: 0, objects: 0, slabs: 0)
      return (cache: draft, name: try cache.name, nodes: cache.index)
    }
    var caches = drafts.map(\.cache)
    for (index, name) in space.strings(at: drafts.map(\.name), &faults).enumerated() { caches[index].name = name }
    var nodes: [(cache: Int, address: VirtualAddress)] = []
    for (index, draft) in drafts.enumerated() {
      let words = faults.keep { () throws(MemoryFault) in try arrays.words(draft.nodes) } ?? []
      for word in stride(from: 0, to: words.count, by: max(cache.nodes.stride / 8, 1)) where words[word] != 0 {
        nodes.append((index, VirtualAddress(words[word])))
      }
    }
    readNodes(nodes, of: &caches, in: space, &faults)
    return SlabTable(caches: caches, faults: faults)
  }

  private func readNodes(
    _ nodes: [(cache: Int, address: VirtualAddress)], of caches: inout [SlabCache], in space: AddressSpace,
    _ faults: inout [MemoryFault]
  ) {
    let known = space.read(node, at: nodes.map(\.address)).compactMap(&faults) { (node) throws(MemoryFault) in
      let (slabs, objects) = (try node.slabs, try node.objects)
      let cache = nodes[node.index].cache
      caches[cache].slabs &+= slabs
      caches[cache].objects &+= objects
      caches[cache].activeObjects &+= objects
      return (cache: cache, partial: node.address(of: \.partial))
    }
    // A slab takes a page at least, so there are no more of them.
    let (owners, slabs) = space.lists(
      of: slab, through: \.link, heads: known.map(\.partial), limit: space.mostObjects(ofSize: 4096), &faults)
    slabs.forEach(&faults) { (slab) throws(MemoryFault) in
      let (total, used) = (try slab.objects, try slab.inUse)
      guard used <= total else {
        throw MemoryFault(
          .virtual(slab.address(of: \.link)), .inconsistent("a slab with \(used) of \(total) objects in use"))
      }
      let cache = known[owners[slab.index]].cache
      caches[cache].activeObjects -= min(caches[cache].activeObjects, total - used)
    }
  }
}
