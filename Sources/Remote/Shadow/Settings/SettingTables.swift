import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the tables behind /proc/sys: directories of entries, each with its data and the function that prints them.
///
/// ```
/// sysctl_table_root.default_set.dir → ctl_node (a tree by name) → ctl_table_header → ctl_table
/// ```
/// What belongs to a namespace lies in a set of that namespace's; the common tree then has a link, which names the kind of set.
/// Source: fs/proc/proc_sysctl.c, `find_entry`, `sysctl_follow_link`, `xlate_dir`.
struct SettingTables: KernelReader {
  static let subject = "the tables of settings"

  /// An entry of a directory.
  struct Entry: Sendable {
    enum Kind { case directory, file, link }

    var name: [UInt8]
    /// As `st_mode` has it.
    var mode: UInt16
    var data: VirtualAddress
    /// Bytes of the data; of some kinds of data, elements.
    var length: Int
    /// The function that reads and writes it.
    var handler: VirtualAddress
    /// What the function is told beside the data.
    var extra: [VirtualAddress]
    /// The struct of the table that it is in; of a directory, the directory itself.
    var header: VirtualAddress

    var kind: Kind {
      // S_IFMT, S_IFDIR, S_IFLNK.
      switch mode & 0xf000 {
      case 0x4000: .directory
      case 0xa000: .link
      default: .file
      }
    }
  }

  private struct Header: KernelShape {
    static let type = "ctl_table_header"
    let table = Field<VirtualAddress>("ctl_table"), node = Field<VirtualAddress>("node")
    let root = Field<VirtualAddress>("root")
  }

  private struct Directory: KernelShape {
    static let type = "ctl_dir"
    let tree = Field<VirtualAddress>("root.rb_node")
  }

  private struct Node: KernelShape {
    static let type = "ctl_node"
    let header = Field<VirtualAddress>("header")
  }

  private struct Setting: KernelShape {
    static let type = "ctl_table"
    let name = Field<VirtualAddress>("procname"), data = Field<VirtualAddress>("data")
    let length = Field<Int32>("maxlen"), mode = Field<UInt16>("mode"), handler = Field<VirtualAddress>("proc_handler")
    let first = Field<VirtualAddress>("extra1"), second = Field<VirtualAddress>("extra2")
  }

  private let header: Bound<Header>, directory: Bound<Directory>, node: Bound<Node>, setting: Bound<Setting>
  private let trees: RedBlackTree
  /// The directory that all others lie in.
  let root: VirtualAddress
  /// The directories that the sets of namespaces begin with.
  private let sets: [VirtualAddress]

  /// No directory has as many entries, not even one with an entry for each network interface.
  private static let limit = 1 << 16

  init(kernel: Kernel) throws {
    let types = kernel.types
    (header, directory, node, setting) = try types.bind()
    trees = try RedBlackTree(types: types)
    let first = try kernel.offset(of: "dir", in: "ctl_table_set")
    root =
      try kernel.symbol("sysctl_table_root", for: Self.self) + kernel.offset(of: "default_set", in: "ctl_table_root")
      + first
    // Sets that a namespace has; older kernels have fewer.
    let places = [
      ("init_net", "net", "sysctls"), ("init_user_ns", "user_namespace", "set"),
      ("init_ipc_ns", "ipc_namespace", "ipc_set"), ("init_ipc_ns", "ipc_namespace", "mq_set"),
      ("init_pid_ns", "pid_namespace", "set"),
    ]
    sets = places.compactMap { variable, type, field in
      guard let address = kernel.symbols.address(of: variable), let offset = try? kernel.offset(of: field, in: type)
      else {
        return nil
      }
      return address + offset + first
    }
  }

  /// The entries of the directory at `address`, in the order of their names; links among them.
  ///
  /// Cost: a round trip for each level of its tree, and four more.
  func entries(of address: VirtualAddress, in space: AddressSpace) throws -> [Entry] {
    let found = trees.nodes(root: try space.read(directory, at: [address])[0].tree, in: space, limit: Self.limit)
    if let fault = found.faults.first { throw fault }
    let nodes = space.read(node, at: found.nodes)
    let headers = space.read(header, at: nodes.pointers(\.header))
    let places = try headers.map { header in
      let distance = nodes[header.index].address.rawValue &- (try header.node.rawValue)
      guard distance / UInt64(max(node.size, 1)) < 1 << 20 else {
        throw MemoryFault(.virtual(header.address), .inconsistent("a table without the node that leads to it"))
      }
      return try header.table + Int(distance / UInt64(max(node.size, 1))) * setting.size
    }
    let settings = space.read(setting, at: places)
    let names = space.strings(at: settings.pointers(\.name))
    return try settings.map { setting in
      Entry(
        name: try names[setting.index].get(), mode: try setting.mode, data: try setting.data,
        length: Int(try setting.length), handler: try setting.handler, extra: [try setting.first, try setting.second],
        header: headers[setting.index].address)
    }
  }

  /// The entries of the common directory at `address` as the first process sees them: links are followed to its namespaces.
  ///
  /// `path` has the names of the directories above it and its own. An entry that its namespace lacks is not there.
  func followed(_ address: VirtualAddress, path: [[UInt8]], in space: AddressSpace) throws -> [Entry] {
    let entries = try entries(of: address, in: space)
    guard entries.contains(where: { $0.kind == .link }) else { return entries }
    let roots = try space.read(header, at: sets).map { (try $0.root, $0.address) }
    let bySet = Dictionary(roots, uniquingKeysWith: { first, _ in first })
    var known: [VirtualAddress: [Entry]] = [:]
    return try entries.compactMap { entry in
      guard entry.kind == .link else { return entry }
      // The data of a link is the kind of set that it leads to.
      guard let set = bySet[entry.data] else { return nil }
      let others =
        try known[set] ?? directory(path, below: set, in: space).map { try self.entries(of: $0, in: space) } ?? []
      known[set] = others
      return others.first { $0.name == entry.name }
    }
  }

  private func directory(
    _ path: [[UInt8]], below first: VirtualAddress, in space: AddressSpace
  ) throws -> VirtualAddress? {
    var place = first
    for name in path {
      let next = try entries(of: place, in: space).first { $0.name == name && $0.kind == .directory }
      guard let next else { return nil }
      place = next.header
    }
    return place
  }
}
