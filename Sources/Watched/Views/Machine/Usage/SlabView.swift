public import LinuxKernel
public import Views

/// The slab caches, as slabtop(1) and /proc/slabinfo show them.
public struct SlabView: KernelView {
  public static let name = "slabtop"
  public static let group = ViewGroup.memory
  public static let summary = "Lists the kernel's slab caches, the largest first."
  public static let discussion = """
    In JSON, keys and numbers are those of /proc/slabinfo; objsize there is the size that an object takes, and object_size \
    the one that was asked for. Objects that a CPU keeps at hand count as active.
    """

  public static func columns(_ options: NoOptions) -> [ViewColumn<SlabCache>] {
    [
      ViewColumn("OBJS", "num_objs", \.objects), ViewColumn("ACTIVE", "active_objs", \.activeObjects),
      ViewColumn("USE", isRightAligned: true) { cache in
        "\(Int((cache.objects == 0 ? 0 : min(1, Double(cache.activeObjects) / Double(cache.objects))) * 100))%"
      },
      ViewColumn("OBJ SIZE", "objsize", in: .bytes, \.size).identity, ViewColumn("SLABS", "num_slabs", \.slabs),
      ViewColumn("OBJ/SLAB", "objperslab", \.objectsPerSlab),
      ViewColumn("CACHE SIZE", isRightAligned: true) { "\($0.bytes / 1024)K" },
      ViewColumn("NAME", "name", \.name).identity,
      ViewColumn(json: "object_size", in: .bytes, \.objectSize), ViewColumn(json: "pagesperslab", \.pagesPerSlab),
      ViewColumn(json: "kmem_cache", in: .address, \.address),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<SlabCache> {
    let table = try kernel.slabs()
    return ViewRows(table.caches.sorted { $0.bytes > $1.bytes }, faults: table.faults)
  }
}
