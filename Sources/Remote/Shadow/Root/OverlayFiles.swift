import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews

/// What lies behind the files of an overlay: each is a file of one of its layers, which has the contents.
///
/// Source: fs/overlayfs/ovl_entry.h; fs/overlayfs/util.c, `ovl_inode_realdata`.
struct OverlayFiles {
  private struct Node: KernelShape {
    static let type = "ovl_inode"
    let own = Place("vfs_inode"), upper = Field<VirtualAddress>("__upperdentry"), flags = Field<UInt64>("flags")
    // The layers themselves since 6.5; before, the first of the lower ones, until 5.19 by its inode.
    let layers = Field<VirtualAddress?>(optional: "oe"), path = Field<VirtualAddress?>(optional: "lowerpath.dentry")
    let lower = Field<VirtualAddress?>(optional: "lower")
    /// Of a file of which the layers above have only the description; of a directory something else lies there.
    let data = Field<VirtualAddress?>(optional: "lowerdata")
  }

  private struct Layers: KernelShape {
    static let type = "ovl_entry"
    let count = Field<UInt32>("__numlower"), paths = Place("__lowerstack")
  }

  private struct Entry: KernelShape {
    static let type = "dentry"
    let inode = Field<VirtualAddress>("d_inode")
  }

  private let node: Bound<Node>, layers: Bound<Layers>?, entry: Bound<Entry>
  /// Bytes of a layer's path in an array of them, and from its start to the entry.
  private let path: (size: Int, entry: Int)
  /// The bit which says that the uppermost layer has the contents, too.
  private let hasContents: UInt64

  /// The name of the kind of file system.
  static let name = Array("overlay".utf8)
  /// Overlays may lie on overlays, so deep (FILESYSTEM_MAX_STACK_DEPTH).
  static let deepest = 2

  init(_ kernel: Kernel) throws {
    let types = try kernel.reader(ModuleTypes.self).types(with: "ovl_inode", kernel)
    node = try Bound(types)
    entry = try kernel.bound()
    layers = node.shape.layers.isPresent ? try Bound(types) : nil
    let layer = try? types.structure("ovl_path")
    path = (layer?.size ?? 16, try layer?.field("dentry").offset ?? 8)
    // OVL_UPPERDATA, of enum ovl_inode_flag.
    hasContents = 1 << UInt64(max(0, min(63, types.enumerator("OVL_UPPERDATA") ?? 3)))
  }

  /// The inode that has what each of an overlay's files shows, null where none can be named, and whether several layers have a part
  /// of it, as of directories.
  ///
  /// Cost: three batches.
  func real(of files: [InodeStatus], _ kernel: Kernel) -> [(inode: VirtualAddress, isMerged: Bool)] {
    let space = kernel.addressSpace
    let nodes = space.read(node, at: files.map { $0.address - node.shape.own.offset })
    var inodes = [VirtualAddress](repeating: VirtualAddress(0), count: files.count)
    var entries = inodes
    var merged = [Bool](repeating: false, count: files.count)
    let stacks = layers.map { space.read($0, at: nodes.pointers(\.layers)) }
    var last: [(file: Int, place: VirtualAddress)] = []
    for (index, file) in files.enumerated() {
      let (own, isFile) = (nodes[index], file.kind == .file)
      guard let upper = try? own.upper, let flags = try? own.flags else { continue }
      let layers = (try? stacks?[index].count) ?? 0
      let hasLower = layers > 0 || ((try? own.path) ?? nil) != nil || ((try? own.lower) ?? nil) != nil
      merged[index] = file.kind == .directory && (upper.rawValue != 0 ? hasLower : layers > 1)
      if upper.rawValue != 0, !isFile || flags & hasContents != 0 {
        entries[index] = upper
      } else if isFile, node.shape.data.isPresent, let data = (try? own.data) ?? nil {
        inodes[index] = data
      } else if let stack = stacks?[index], let count = try? stack.count, (1...512).contains(count) {
        // The contents lie in the last of them, what else there is to say in the first.
        let number = isFile ? Int(count) - 1 : 0
        last.append((index, stack.address(of: \.paths) + number * path.size + path.entry))
      } else if let lower = (try? own.path) ?? nil {
        entries[index] = lower
      } else if let lower = (try? own.lower) ?? nil {
        inodes[index] = lower
      }
    }
    for (item, place) in zip(last, space.pointers(at: last.map(\.place))) { entries[item.file] = place }
    let known = entries.indices.filter { entries[$0].rawValue != 0 }
    let found = space.read(entry, at: known.map { entries[$0] }).pointers(\.inode)
    for (index, inode) in zip(known, found) { inodes[index] = inode }
    return Array(zip(inodes, merged))
  }
}
