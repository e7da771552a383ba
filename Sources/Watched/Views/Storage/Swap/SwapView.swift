package import Binding
package import LinuxKernel
package import Memory
package import Views

/// Where pages are swapped out to, as /proc/swaps lists it.
///
/// Source: mm/swapfile.c, `swap_show`.
package struct SwapView: DeclaredView {
  package typealias Row = (area: Reading<Area>, file: OpenFileFields.Opened)
  package static let name = "swaps", group = ViewGroup.memory, canBeEmpty = true
  package static let summary = "Lists the files and devices that pages are swapped out to."

  package struct Area: KernelShape {
    package static let type = "swap_info_struct"
    let flags = Field<Int64>("flags"), file = Field<VirtualAddress>("swap_file"), priority = Field<Int>("prio")
    let pages = Field<UInt64>("pages"), used = Field<UInt64>("inuse_pages.counter", before: "6.13", "inuse_pages")
    package init() {}
  }

  package static let columns: [ViewColumn<Row>] = [
    ViewColumn("FILENAME", "filename", \.file.name.display).identity,
    ViewColumn("TYPE", "type") { $0.file.mode & 0xf000 == 0x6000 ? "partition" : "file" },
    ViewColumn("SIZE", "size", in: .kibibytes, of: \.area, \.pages) { $0 &* 4 },
    // From 6.13 on a bit above the number says that the area is full.
    ViewColumn("USED", "used", in: .kibibytes, of: \.area, \.used) { ($0 & 0x3fff_ffff) &* 4 },
    ViewColumn("PRIORITY", "priority", of: \.area, \.priority),
  ]

  package static func read(_ kernel: Kernel, _ faults: inout [MemoryFault]) throws -> [Row] {
    let (inUse, most) = (try kernel.constant("SWP_USED"), 32)
    let places = try kernel.pointers(in: "swap_info", count: min(Int(try kernel.number("nr_swapfiles")), most))
    let areas = try kernel.read(Area.self, at: places).whole(&faults).filter { try $0.flags & inUse != 0 }
    let files = try OpenFileFields(kernel.types).read(
      areas.map { try $0.file }, paths: kernel.reader(), in: kernel.addressSpace)
    return areas.with(files, &faults).map { ($0, $1) }
  }
}
