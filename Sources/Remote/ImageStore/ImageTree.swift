import Host
import Memory

/// The shape of an image's tree: a Merkle tree over page frames by their numbers.
///
/// A node has 128 names of 32 bytes. Those of a node of level 1 are of pages, those of others of nodes of the level below; the
/// root's level is the least from 2 on whose node covers all of the image. Where all of a node is the same mark (``ObjectName/absent``,
/// ``ObjectName/zero``, ``ObjectName/unread``) there is no node, and its name is that mark. So the same memory has the same root.
enum ImageTree {
  static let fanOut: UInt64 = 128
  static let page: UInt64 = 4096

  /// The level of the root over memory that ends at `end`.
  static func height(end: UInt64) -> Int {
    var (height, covered) = (2, fanOut * fanOut * page)
    while covered < end, height < ObjectKind.highest { (height, covered) = (height + 1, covered * fanOut) }
    return height
  }

  /// How many frames a node of a level covers.
  static func frames(_ level: Int) -> UInt64 { (0..<level).reduce(1) { count, _ in count * fanOut } }

  /// The bytes of a node; nil where its names are all the same mark.
  static func node(_ names: [ObjectName]) -> [UInt8]? {
    if let first = names.first, first.isMark, names.allSatisfy({ $0 == first }) { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(ObjectKind.size)
    for name in names { name.append(to: &bytes) }
    return bytes
  }

  /// The names in the bytes of a node.
  static func names(_ node: [UInt8]) -> [ObjectName] {
    node.withUnsafeBytes { bytes in
      stride(from: 0, to: bytes.count - bytes.count % ObjectName.size, by: ObjectName.size).map {
        ObjectName(raw: UnsafeRawBufferPointer(rebasing: bytes[$0..<$0 + ObjectName.size]))
      }
    }
  }

  /// What a mark says of each of a node's names.
  static func uniform(_ mark: ObjectName) -> [ObjectName] { [ObjectName](repeating: mark, count: Int(fanOut)) }
}

/// Makes the nodes above the leaves of an image, which come in ascending order.
struct TreeBuilder {
  private let height: Int
  /// By level from 1 on: which node of it is being filled, and with what.
  private var open: [(number: UInt64, names: [ObjectName])?]
  private(set) var root = ObjectName.absent
  private let store: ObjectStore
  private let compressor: ObjectCompressor

  init(_ height: Int, _ store: ObjectStore, _ compressor: ObjectCompressor) {
    (self.height, self.store, self.compressor) = (height, store, compressor)
    open = [(number: UInt64, names: [ObjectName])?](repeating: nil, count: height + 1)
  }

  /// Takes in a leaf: the node of level 1 of that number.
  mutating func add(leaf: ObjectName, _ number: UInt64) throws(StoreError) { try add(leaf, number, level: 1) }

  /// Makes what is left.
  mutating func finish() throws(StoreError) -> ObjectName {
    for level in stride(from: 2, through: height, by: 1) { try close(level) }
    return root
  }

  private mutating func add(_ name: ObjectName, _ number: UInt64, level: Int) throws(StoreError) {
    guard level < height else {
      root = name
      return
    }
    let parent = number / ImageTree.fanOut
    if let node = open[level + 1], node.number != parent { try close(level + 1) }
    var node = open[level + 1] ?? (parent, ImageTree.uniform(.absent))
    node.names[Int(number % ImageTree.fanOut)] = name
    open[level + 1] = node
  }

  private mutating func close(_ level: Int) throws(StoreError) {
    guard let node = open[level] else { return }
    open[level] = nil
    try add(try Self.keep(node.names, level, store, compressor), node.number, level: level)
  }

  /// Stores a node, and gives its name.
  static func keep(
    _ names: [ObjectName], _ level: Int, _ store: ObjectStore, _ compressor: ObjectCompressor
  ) throws(StoreError) -> ObjectName {
    guard let bytes = ImageTree.node(names) else { return names.first ?? .absent }
    let name = bytes.withUnsafeBytes(ObjectKind.node(level).name)
    if !store.contains(name) { try store.append(compressor.object(bytes, .node(level), name)) }
    return name
  }
}

/// Reads an image's tree from its root down, and remembers nodes.
final class TreeReader: Sendable {
  let root: ObjectName
  let height: Int
  private let store: ObjectStore
  private let nodes = Locked([ObjectName: [ObjectName]]())

  /// Nodes that are remembered at most, of 4096 bytes each.
  private static let most = 4096

  init(_ root: ObjectName, _ height: Int, _ store: ObjectStore) {
    (self.root, self.height, self.store) = (root, height, store)
  }

  /// The names in a node of a level, or what the mark in its place says.
  func names(_ name: ObjectName, _ level: Int) throws(ObjectStore.Fault) -> [ObjectName] {
    if name.isMark { return ImageTree.uniform(name) }
    if let known = nodes.withLock({ $0[name] }) { return known }
    let names = ImageTree.names(try store.read(name, .node(level)))
    nodes.withLock { nodes in
      if nodes.count >= Self.most { nodes.removeAll(keepingCapacity: true) }
      nodes[name] = names
    }
    return names
  }

  /// The name of the page in a frame.
  ///
  /// - Throws: ``ObjectStore/Fault`` where a node on the way is not to be had. Cost: a step for each level.
  func page(_ frame: UInt64) throws(ObjectStore.Fault) -> ObjectName {
    try node(frame, level: 0)
  }

  /// The name of the node of `level` that a frame lies in.
  func node(_ frame: UInt64, level: Int) throws(ObjectStore.Fault) -> ObjectName {
    guard frame < ImageTree.frames(height) else { return .absent }
    var (name, current) = (root, height)
    while current > level, !name.isMark {
      name = try names(name, current)[Int(frame / ImageTree.frames(current - 1) % ImageTree.fanOut)]
      current -= 1
    }
    return name
  }
}
