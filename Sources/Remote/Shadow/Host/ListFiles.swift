import Binding
import LinuxKernel
import MachineViews
import Memory
import Paging
import StorageViews

/// Files of /proc that list few things each.
enum ListFiles {
  private struct FileSystem: KernelShape {
    static let type = "file_system_type"
    let next = Place("next"), name = Field<VirtualAddress>("name"), flags = Field<UInt64>("fs_flags")
  }

  /// /proc/filesystems.
  ///
  /// Source: fs/filesystems.c, `filesystems_proc_show`.
  static func fileSystems(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let shape = try kernel.bound(FileSystem.self)
    let (_, kinds) = kernel.addressSpace.chains(
      of: shape, through: \.next, heads: [try kernel.symbol("file_systems", for: "the kinds of file systems")],
      limit: 4096, &faults)
    let names = kernel.addressSpace.strings(at: kinds.pointers(\.name), &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for (kind, name) in zip(kinds, names) {
      // FS_REQUIRES_DEV (include/linux/fs.h).
      text.add(try kind.flags & 1 == 0 ? "nodev\t" : "\t")
      text.add(name)
      text.line("")
    }
    return text.bytes
  }

  /// /proc/slabinfo.
  ///
  /// Source: mm/slab_common.c, `cache_show`.
  static func slabs(_ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText()
    text.line("slabinfo - version: 2.1")
    text.line(
      "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> "
        + "<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>")
    func padded(_ value: some BinaryInteger, _ width: Int) -> String { ProcText.padded("\(value)", width) }
    for cache in try ShadowHost.whole({ try kernel.slabs() }).caches {
      text.add(cache.name)
      text.add(String(repeating: " ", count: max(0, 17 - cache.name.count)))
      text.add(" \(padded(cache.activeObjects, 6)) \(padded(cache.objects, 6)) \(padded(cache.size, 6))")
      text.add(" \(padded(cache.objectsPerSlab, 4)) \(padded(cache.pagesPerSlab, 4))")
      text.line(
        " : tunables    0    0    0 : slabdata \(padded(cache.slabs, 6)) \(padded(cache.slabs, 6)) \(padded(0, 6))")
    }
    return text.bytes
  }

  private struct SwapArea: KernelShape {
    static let type = "swap_info_struct"
    let flags = Field<Int64>("flags"), file = Field<VirtualAddress>("swap_file"), priority = Field<Int16>("prio")
    let pages = Field<UInt32>("pages"), used = Field<UInt64>("inuse_pages.counter", before: "6.13", "inuse_pages")
  }

  /// /proc/swaps.
  ///
  /// Source: mm/swapfile.c, `swap_show`.
  static func swaps(_ kernel: Kernel) throws -> [UInt8] {
    // MAX_SWAPFILES is 32 at most.
    let places = try kernel.pointers(in: "swap_info", count: min(Int(try kernel.number("nr_swapfiles")), 32))
    let inUse = try kernel.constant("SWP_USED")
    let areas = try kernel.read(SwapArea.self, at: places)
    let files = try OpenFileFields(kernel.types).read(
      areas.pointers(\.file), paths: kernel.reader(), in: kernel.addressSpace)
    var text = ProcText("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    for area in areas where try area.flags & inUse != 0 {
      guard let file = try files[area.index]?.get() else { continue }
      let name = ProcText.escaped(file.name.display, " \t\n\\")
      let size = UInt64(try area.pages) &* 4
      // From 6.13 on a bit above the number says that the area is full.
      let used = (try area.used & 0x3fff_ffff) &* 4
      text.add(name)
      text.add(String(repeating: " ", count: name.count < 40 ? 40 - name.count : 1))
      text.add(file.mode & 0xf000 == 0x6000 ? "partition" : "file\t")
      func column(_ value: UInt64) -> String { "\t\(value)\(value < 10_000_000 ? "\t" : "")" }
      text.line("\(column(size))\(column(used))\t\(try area.priority)")
    }
    return text.bytes
  }
}
