public import LinuxKernel
public import Views

/// The files of which pages lie in memory.
public struct CachedFileView: KernelView {
  public static let name = "files"
  public static let group = ViewGroup.files
  public static let summary = "Lists the files of which pages are in memory."
  public static let discussion = """
    SIZE is in bytes; CACHED, DIRTY (to be written to the device) and SWAPPED in pages of 4 KiB. Files in memory \
    (tmpfs, ramfs) are in no other place, and are never dirty. A path is the one that the first process sees, where it \
    sees the file system.
    """

  public static func columns(_ options: NoOptions) -> [ViewColumn<CachedFile>] {
    [
      ViewColumn("TYPE", "fstype", \.fileSystem),
      ViewColumn("DEVICE", "device") { "\($0.major):\($0.minor)" }.identity,
      ViewColumn("INODE", "inode", \.inode).identity,
      ViewColumn("SIZE", "size", in: .bytes, \.size),
      ViewColumn("CACHED", "cached", in: .pages, \.cachedPages),
      ViewColumn("DIRTY", "dirty", in: .pages, \.dirtyPages),
      ViewColumn("SWAPPED", "swapped", in: .pages, \.swappedPages),
      ViewColumn("NAME", "name") { $0.name.display }.identity,
      ViewColumn(json: "deleted") { $0.name.isDeleted },
      ViewColumn(json: "mode", \.mode),
      ViewColumn(json: "links", \.links),
      ViewColumn(json: "writeback", in: .pages, \.writebackPages),
      ViewColumn(json: "address", in: .address, \.address).identity,
    ]
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<CachedFile> {
    let table = try kernel.cachedFiles()
    return ViewRows(table.files, faults: table.faults)
  }
}
