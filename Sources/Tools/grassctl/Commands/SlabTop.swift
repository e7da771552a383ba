import ArgumentParser
import KernelViews
import Output

struct SlabTop: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slabtop",
    abstract: "Lists the kernel's slab caches, the largest first.",
    discussion: """
      In JSON, keys and numbers are those of /proc/slabinfo; objsize there is the size that an object takes, and \
      object_size the one that was asked for. Objects that a CPU keeps at hand count as active.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let slabs = try reporting { try kernel.slabs() }
    let caches = slabs.caches.sorted { $0.bytes > $1.bytes }
    if output.json {
      writeOutput(JSON.lines(caches.map { json(of: $0) }))
    } else {
      var table = Table([
        ("OBJS", .right), ("ACTIVE", .right), ("USE", .right), ("OBJ SIZE", .right), ("SLABS", .right),
        ("OBJ/SLAB", .right), ("CACHE SIZE", .right), ("NAME", .left),
      ])
      for cache in caches {
        let share = cache.objects == 0 ? 0 : min(1, Double(cache.activeObjects) / Double(cache.objects))
        table.add([
          "\(cache.objects)", "\(cache.activeObjects)", "\(Int(share * 100))%", "\(cache.size)", "\(cache.slabs)",
          "\(cache.objectsPerSlab)", "\(cache.bytes / 1024)K", cache.name.printable,
        ])
      }
      writeOutput(table.text())
    }
    try reportFaults(slabs.faults)
  }

  private func json(of cache: SlabCache) -> JSON {
    .object([
      ("name", .bytes(cache.name)), ("active_objs", .unsigned(cache.activeObjects)),
      ("num_objs", .unsigned(cache.objects)), ("objsize", .integer(cache.size)),
      ("object_size", .integer(cache.objectSize)), ("objperslab", .integer(cache.objectsPerSlab)),
      ("pagesperslab", .integer(cache.pagesPerSlab)), ("num_slabs", .unsigned(cache.slabs)),
      ("kmem_cache", .string("\(cache.address)")),
    ])
  }
}
