package import LinuxKernel
package import Memory
package import Views

/// How full the mounted file systems are, as df(1) lists it.
package struct FileSystemView: DeclaredView {
  package typealias Row = (mount: MountPoint, room: FileSystemRoom)
  package static let name = "df", group = ViewGroup.files, canBeEmpty = true
  package static let summary = "Shows how full the mounted file systems are."
  package static let discussion = """
    As the first process sees them: tmpfs and its like, and ext4. Those that count nothing (proc, sysfs) are left out, as df does; \
    how others count is not known here.
    """

  package static let columns: [ViewColumn<Row>] = [
    ViewColumn("SOURCE", "source", \.mount.source), ViewColumn("TYPE", "fstype", \.mount.fileSystem).identity,
    ViewColumn("SIZE", "size", in: .kibibytes) { $0.room.kibibytes($0.room.blocks) },
    ViewColumn("USED", "used", in: .kibibytes) { $0.room.kibibytes($0.room.blocks &- $0.room.freeBlocks) },
    ViewColumn("AVAILABLE", "available", in: .kibibytes) { $0.room.kibibytes($0.room.availableBlocks) },
    ViewColumn("USE", "use", in: .percent) { $0.room.percentUsed },
    ViewColumn(json: "files", \.room.files), ViewColumn(json: "free_files", \.room.freeFiles),
    ViewColumn("TARGET", "target", \.mount.mountPoint).identity,
  ]

  package static func read(_ kernel: Kernel, _ faults: inout [MemoryFault]) throws -> [Row] {
    let table = try kernel.mounts()
    faults += table.faults
    let rooms = try kernel.fileSystemRooms()
    return table.mounts.compactMap { mount in
      rooms[mount.major << 20 | mount.minor].flatMap { $0.blocks == 0 ? nil : (mount, $0) }
    }
  }
}

extension FileSystemRoom {
  fileprivate func kibibytes(_ blocks: UInt64) -> UInt64 { blocks.multipliedReportingOverflow(by: blockSize).0 / 1024 }

  /// Of what is not kept for root, rounded up, as df does.
  fileprivate var percentUsed: UInt64 {
    let used = blocks &- min(blocks, freeBlocks)
    let (all, overflow) = used.addingReportingOverflow(availableBlocks)
    guard all > 0, !overflow else { return 0 }
    return UInt64((Double(used) * 100 / Double(all)).rounded(.up))
  }
}
