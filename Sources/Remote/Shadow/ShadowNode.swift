public import Memory
import StorageViews

/// An entry of the shadow: what it is, and how what it shows is made.
public struct ShadowNode: Sendable {
  public struct Entry: Sendable {
    public let name: String
    public let node: ShadowNode
  }

  enum Body: Sendable {
    /// The entries, and one of them by its name.
    case directory(list: @Sendable () throws -> [Entry], find: @Sendable (String) throws -> ShadowNode?)
    case file(@Sendable () throws -> ShadowContents)
    /// Where it leads, and whether that is a place of this machine, to be led to, or one of the host's, to be read of.
    case link(isHere: Bool, @Sendable () throws -> [UInt8])
  }

  public internal(set) var attributes: ShadowAttributes
  let body: Body
  /// What is to be said of it beside its contents, by names: what extended attributes show.
  var notes: (@Sendable () throws -> [(name: String, value: [UInt8])])?
  /// Of a directory, whether its list has its entries as they are found by name, so that who lists it need not look them up.
  var listsWhole = false
  /// Of a directory, whether what it has depends on who asks.
  var isPersonal = false
  /// How much its file system holds, where that is one of the host's.
  var room: (@Sendable () throws -> FileSystemRoom)?

  init(attributes: ShadowAttributes, body: Body) {
    self.attributes = attributes
    self.body = body
  }

  /// A directory whose entries `find` knows by name, and `list` all of them.
  static func directory(
    _ permissions: UInt16 = 0o555, list: @escaping @Sendable () throws -> [Entry],
    find: @escaping @Sendable (String) throws -> ShadowNode?
  ) -> ShadowNode {
    ShadowNode(attributes: ShadowAttributes(.directory, permissions), body: .directory(list: list, find: find))
  }

  /// A directory whose entries are always the same.
  public static func directory(_ entries: KeyValuePairs<String, ShadowNode>) -> ShadowNode {
    directory(entries.map { Entry(name: $0.key, node: $0.value) })
  }

  /// A directory of entries whose names are made up by who asks for it.
  public static func directory(named entries: [(String, ShadowNode)]) -> ShadowNode {
    directory(entries.map { Entry(name: $0.0, node: $0.1) })
  }

  /// A directory that shows what another one does, which is known only when it is asked for.
  public static func forwarding(_ other: @escaping @Sendable () throws -> ShadowNode) -> ShadowNode {
    directory(
      list: {
        guard case .directory(let list, _) = try other().body else { throw ShadowError.notDirectory }
        return try list()
      },
      find: { name in
        guard case .directory(_, let find) = try other().body else { throw ShadowError.notDirectory }
        return try find(name)
      })
  }

  /// A directory whose entries are always the same.
  static func directory(_ entries: [Entry]) -> ShadowNode {
    let byName = Dictionary(entries.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    return directory(list: { entries }, find: { byName[$0] })
  }

  /// A directory whose entries are read all at once, and kept for a moment for those who ask for one after the other.
  static func listing(_ permissions: UInt16 = 0o555, _ list: @escaping @Sendable () throws -> [Entry]) -> ShadowNode {
    let recent = Recent<(entries: [Entry], byName: [String: ShadowNode])>()
    @Sendable func read() throws -> (entries: [Entry], byName: [String: ShadowNode]) {
      let entries = try list()
      return (entries, Dictionary(entries.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first }))
    }
    var node = directory(
      permissions, list: { try recent.value(read).entries }, find: { try recent.value(read).byName[$0] })
    node.listsWhole = true
    return node
  }

  /// A file whose bytes are made whole when it is opened.
  public static func file(_ permissions: UInt16 = 0o444, _ make: @escaping @Sendable () throws -> [UInt8]) -> ShadowNode
  {
    ShadowNode(
      attributes: ShadowAttributes(.file, permissions),
      body: .file {
        let bytes = try make()
        guard bytes.count <= ShadowContents.mostBytes else {
          throw ShadowError.unreadable("it would have \(bytes.count) bytes")
        }
        return .bytes(bytes)
      })
  }

  /// A file whose records are made when it is opened, and read one by one.
  static func records(
    _ permissions: UInt16 = 0o444, _ make: @escaping @Sendable () throws -> [[UInt8]]
  ) -> ShadowNode {
    ShadowNode(
      attributes: ShadowAttributes(.file, permissions),
      body: .file {
        var (bytes, starts): ([UInt8], [Int]) = ([], [])
        for record in try make() {
          starts.append(bytes.count)
          bytes += record
          guard bytes.count <= ShadowContents.mostBytes else { throw ShadowError.unreadable("it is too long") }
        }
        return .records(bytes, starts: starts)
      })
  }

  /// The physical memory as a file: a byte's place is its address.
  public static func memory(_ memory: any PhysicalMemory) -> ShadowNode {
    var node = ShadowNode(attributes: ShadowAttributes(.file, 0o400), body: .file { .memory(memory) })
    node.attributes.size = memory.segments.last.map { $0.start.rawValue &+ $0.count } ?? 0
    return node
  }

  /// A symbolic link, which says where it leads in the watched host, or, where it `isHere`, on this machine.
  static func link(
    _ permissions: UInt16 = 0o777, isHere: Bool = false, _ make: @escaping @Sendable () throws -> [UInt8]
  ) -> ShadowNode {
    ShadowNode(
      attributes: ShadowAttributes(.link, permissions),
      body: .link(isHere: isHere) {
        let target = try make()
        // PATH_MAX, its last zero included; what is no text of a path is none.
        guard !target.isEmpty, target.count < 4096, !target.contains(0) else {
          throw ShadowError.unreadable("a link to what is no path")
        }
        return target
      })
  }

  /// The same with other owners and times, as procfs gives them to what belongs to a process.
  func owned(_ change: (inout ShadowAttributes) -> Void) -> ShadowNode {
    var node = self
    change(&node.attributes)
    return node
  }
}
