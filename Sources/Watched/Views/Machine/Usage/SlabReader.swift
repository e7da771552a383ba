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
struct SlabReader: KernelReader {
  static let subject = "the slab caches"
  typealias Field = FieldSelection.Field

  private let caches: VirtualAddress
  private let nodeCount: VirtualAddress?
  private let cache: FieldSelection
  private let name, size, objectSize, order: Field
  private let link: Int
  /// The pointer to the first NUMA node's part of a cache, and how far it is to the next one's.
  private let nodes: FieldLayout
  private let nodeStride, mostNodes: Int
  private let node: FieldSelection
  private let slabCount, objectCount: Field
  private let partial: Int
  private let slab: FieldSelection
  private let inUse, objects: Field
  private let slabLink: Int
  private let slabSize: Int

  init(kernel: Kernel) throws {
    caches = try kernel.symbol("slab_caches", for: Self.self)
    nodeCount = kernel.symbols.address(of: "nr_node_ids")
    let types = kernel.types
    let structure = try types.structure("kmem_cache")
    var fields = FieldSelection(structure)
    name = try fields.want("name")
    size = try fields.want("size")
    objectSize = try fields.want("object_size")
    order = try fields.want("oo.x")
    cache = fields
    link = try structure.field("list").offset
    // Since 7.1 the pointer lies beside another one for the same node, which gives it a place behind.
    let isAlone = structure.hasField("node")
    nodes = try structure.field("node", or: "per_node.node")
    nodeStride = isAlone ? nodes.elementSize : try structure.field("per_node").elementSize
    mostNodes = (isAlone ? nodes : try structure.field("per_node")).elementCount ?? 1
    let nodeStructure = try types.structure("kmem_cache_node")
    fields = FieldSelection(nodeStructure)
    slabCount = try fields.want("nr_slabs")
    objectCount = try fields.want("total_objects")
    partial = try nodeStructure.field("partial").offset
    node = fields
    // A struct of its own from 5.17 on.
    let slabStructure = try types.structure(types.hasStructure("slab") ? "slab" : "page")
    fields = FieldSelection(slabStructure)
    inUse = try fields.want("inuse")
    objects = try fields.want("objects")
    slab = fields
    slabLink = try slabStructure.field("slab_list").offset
    slabSize = slabStructure.size
  }

  func read(in space: AddressSpace) throws -> SlabTable {
    var table = SlabTable()
    // MAX_NUMNODES is 1024 at most.
    var nodesPerCache = 1
    if let nodeCount {
      let bytes = try space.read(nodeCount, count: 4)
      let count = try ByteReader(bytes.span.bytes).u32(0)
      nodesPerCache = min(Int(clamping: count), mostNodes, 1024)
    }
    let limit = min(space.mostObjects(ofSize: 4096), 1 << 16)
    let walker = ListWalker(space: space, form: .circular, limit: limit)
    let members = walker.members(ofHeads: [caches])
    if members.lists[0].isEmpty, let fault = members.faults.first { throw fault }
    table.faults = members.faults

    let addresses = members.lists[0].map { $0 - link }
    var batch = ReadBatch<VirtualAddress>()
    let records = addresses.map { address in
      (
        fields: cache.add(to: &batch, at: address),
        nodes: batch.add(address + nodes.offset, count: (nodesPerCache - 1) * nodeStride + 8)
      )
    }
    space.read(&batch)
    var names: [VirtualAddress] = []
    var nodeAddresses: [(cache: Int, address: VirtualAddress)] = []
    for (address, record) in zip(addresses, records) {
      do throws(MemoryFault) {
        let (draft, name) = try draft(at: address, record.fields, batch)
        table.caches.append(draft)
        names.append(name)
        for node in 0..<nodesPerCache {
          let pointer = try batch.reader(record.nodes).pointer(node * nodeStride)
          if pointer.rawValue != 0 { nodeAddresses.append((table.caches.count - 1, pointer)) }
        }
      } catch {
        table.faults.append(error)
      }
    }
    for (index, name) in space.strings(at: names).enumerated() {
      do throws(MemoryFault) {
        table.caches[index].name = try name.get()
      } catch {
        table.faults.append(error)
      }
    }
    readNodes(nodeAddresses, in: space, into: &table)
    return table
  }

  private func draft(
    at address: VirtualAddress, _ record: FieldSelection.Record, _ batch: borrowing ReadBatch<VirtualAddress>
  ) throws(MemoryFault) -> (cache: SlabCache, name: VirtualAddress) {
    let order = try cache.load(order, record, batch)
    // The low half has the objects of a slab, the high half the order of its pages, 10 at most.
    guard order >> 16 <= 10 else {
      throw MemoryFault(.virtual(address), .inconsistent("a slab cache whose slabs have 2^\(order >> 16) pages"))
    }
    let draft = SlabCache(
      address: address, name: [], objectSize: Int(clamping: try cache.load(objectSize, record, batch)),
      size: Int(clamping: try cache.load(size, record, batch)), objectsPerSlab: Int(order & 0xffff),
      pagesPerSlab: 1 << Int(order >> 16), activeObjects: 0, objects: 0, slabs: 0)
    return (draft, try cache.pointer(name, record, batch))
  }

  private func readNodes(
    _ addresses: [(cache: Int, address: VirtualAddress)], in space: AddressSpace, into table: inout SlabTable
  ) {
    var batch = ReadBatch<VirtualAddress>()
    let records = addresses.map { node.add(to: &batch, at: $0.address) }
    space.read(&batch)
    var known: [(cache: Int, address: VirtualAddress)] = []
    for (index, (cache, address)) in addresses.enumerated() {
      do throws(MemoryFault) {
        let slabs = try node.load(slabCount, records[index], batch)
        let objects = try node.load(objectCount, records[index], batch)
        table.caches[cache].slabs &+= slabs
        table.caches[cache].objects &+= objects
        table.caches[cache].activeObjects &+= objects
        known.append((cache, address))
      } catch {
        table.faults.append(error)
      }
    }

    // A slab takes a page at least, so there are no more of them.
    let walker = ListWalker(space: space, form: .circular, limit: space.mostObjects(ofSize: 4096))
    let partials = walker.members(ofHeads: known.map { $0.address + partial })
    table.faults += partials.faults
    var slabs = ReadBatch<VirtualAddress>()
    var owners: [(cache: Int, record: FieldSelection.Record, address: VirtualAddress)] = []
    for ((cache, _), links) in zip(known, partials.lists) {
      for link in links { owners.append((cache, slab.add(to: &slabs, at: link - slabLink), link)) }
    }
    space.read(&slabs)
    for owner in owners {
      do throws(MemoryFault) {
        let total = try slab.load(objects, owner.record, slabs)
        let used = try slab.load(inUse, owner.record, slabs)
        guard used <= total else {
          throw MemoryFault(.virtual(owner.address), .inconsistent("a slab with \(used) of \(total) objects in use"))
        }
        let active = table.caches[owner.cache].activeObjects
        table.caches[owner.cache].activeObjects = active - min(active, total - used)
      } catch {
        table.faults.append(error)
      }
    }
  }
}
