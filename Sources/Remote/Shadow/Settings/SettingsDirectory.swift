import LinuxKernel
import Memory
import Paging

/// The directory /proc/sys: the kernel's tables of settings, each printed as the function that the kernel has for it would.
enum SettingsDirectory {
  static func node(_ host: ShadowHost) -> ShadowNode {
    directory(host, path: [], isCommon: true) { try host.kernel.reader(SettingTables.self).root }
  }

  /// The deepest directory: more than any kernel's, so that tables that contain themselves end.
  private static let deepest = 16

  private static func directory(
    _ host: ShadowHost, path: [[UInt8]], isCommon: Bool, at place: @escaping @Sendable () throws -> VirtualAddress
  ) -> ShadowNode {
    let kernel = host.kernel
    @Sendable func entries() throws -> [ShadowNode.Entry] {
      let tables = try kernel.reader(SettingTables.self)
      let space = kernel.addressSpace
      let own =
        isCommon
        ? try tables.followed(place(), path: path, in: space) : try tables.entries(of: place(), in: space)
      let common = isCommon ? Set(try tables.entries(of: place(), in: space).map(\.header)) : []
      return own.compactMap { entry in
        let name = String(decoding: entry.name, as: UTF8.self)
        guard entry.kind != .link, path.count < deepest else { return nil }
        let node: ShadowNode =
          if entry.kind == .directory {
            directory(
              host, path: path + [entry.name], isCommon: isCommon && common.contains(entry.header), at: { entry.header }
            )
          } else {
            .file(entry.mode & 0o777) { try SettingValue(entry: entry, kernel: kernel).bytes() }
          }
        return ShadowNode.Entry(name: name, node: node.owned { $0.time = host.constants.bootTime })
      }
    }
    return .listing { try entries() }
  }
}
