import Binding
import CodeViews
import KernelInfo
public import KernelViews

/// A piece of the kernel's own virtual memory that vmalloc gave out, as /proc/vmallocinfo lists it.
public struct VirtualArea: Sendable {
  public var range: Range<UInt64>
  /// The function that asked for it; nil where that is no symbol.
  public var caller: String?
  public var callerAddress: VirtualAddress
  /// Pages of memory that it takes; none where it shows a device's.
  public var pages: UInt64
}

/// The areas, in the order of the kernel's lists.
public struct VirtualAreaTable: Faulted {
  public internal(set) var areas: [VirtualArea] = []
  public internal(set) var faults: [MemoryFault] = []
}

/// Reads the areas that vmalloc gave out.
///
/// Source: mm/vmalloc.c, `s_show`.
private struct VirtualAreaReader: SettledReader {
  static let subject = "the areas of vmalloc"

  struct Area: KernelShape {
    static let type = "vmap_area"
    let link = Place("list")
    let start = Field<UInt64>("va_start")
    let end = Field<UInt64>("va_end")
    let memory = Field<VirtualAddress>("vm")
  }

  struct Memory: KernelShape {
    static let type = "vm_struct"
    let start = Field<UInt64>("addr")
    let caller = Field<VirtualAddress>("caller")
    let pages = Field<UInt64>("nr_pages")
  }

  /// Since 6.9 there is a list for each of a number of nodes.
  struct Node: KernelShape {
    static let type = "vmap_node"
    let busy = Place("busy.head")
  }

  let area: Bound<Area>
  let memory: Bound<Memory>
  let list: VirtualAddress?
  let nodes: (node: Bound<Node>, array: VirtualAddress, count: VirtualAddress)?

  private static let limit = 1 << 20
  private static let mostNodes = 1024

  init(kernel: Kernel) throws {
    area = try Bound(kernel.types)
    memory = try Bound(kernel.types)
    list = kernel.symbols.address(of: "vmap_area_list")
    nodes =
      list != nil
      ? nil
      : (
        try Bound(kernel.types), try kernel.symbol("vmap_nodes", for: Self.self),
        try kernel.symbol("nr_vmap_nodes", for: Self.self)
      )
  }

  func read(_ kernel: Kernel) throws -> VirtualAreaTable {
    let space = kernel.addressSpace
    var table = VirtualAreaTable()
    var heads = list.map { [$0] } ?? []
    if let nodes {
      let bytes = try space.read(nodes.count, count: 4)
      let count = min(max(Int(try ByteReader(bytes.span.bytes).load(0, as: Int32.self)), 0), Self.mostNodes)
      let start = try space.pointer(at: nodes.array)
      heads = (0..<count).map { start + $0 * nodes.node.size + nodes.node.busy.offset }
    }
    let (_, areas) = space.lists(of: area, through: \.link, heads: heads, limit: Self.limit, &table.faults)
    let found = areas.compactMap(&table.faults) { (reading) throws(MemoryFault) in
      (range: try Self.range(reading), memory: try reading.memory)
    }
    // Areas without a struct of their own are of vm_map_ram and belong to nobody in particular.
    let owned = found.filter { $0.memory.rawValue != 0 }
    space.read(memory, at: owned.map(\.memory)).forEach(&table.faults) { (reading) throws(MemoryFault) in
      let range = owned[reading.index].range
      guard try reading.start == range.lowerBound else { return }
      let caller = try reading.caller
      let place = SymbolMap(image: kernel.symbols).place(of: caller)
      table.areas.append(
        VirtualArea(range: range, caller: place?.name, callerAddress: caller, pages: try reading.pages))
    }
    return table
  }

  private static func range(_ reading: Reading<Area>) throws(MemoryFault) -> Range<UInt64> {
    let (start, end) = (try reading.start, try reading.end)
    // In the kernel's half, so that no area is longer than a number of bytes may be.
    guard start < end, start >> 63 == 1 else {
      throw MemoryFault(.virtual(reading.address), .inconsistent("an area of vmalloc without an extent"))
    }
    return start..<end
  }
}

extension Look {
  /// The areas that vmalloc gave out.
  public func virtualAreas() throws(KernelError) -> VirtualAreaTable {
    try once("virtual areas") { kernel throws(KernelError) in try kernel.read(VirtualAreaReader.self) }
  }
}
