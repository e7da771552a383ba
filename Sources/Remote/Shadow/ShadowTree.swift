public import StorageViews
import Synchronization

/// A tree of files made of what a watched kernel holds, by inode numbers, as file systems are asked.
///
/// It knows nothing of the system that mounts it. Every answer is made when it is asked for: a file's bytes when it is opened, a
/// directory's entries likewise. Many threads may ask at once.
public final class ShadowTree: Sendable {
  /// The number of the root.
  public static let root: UInt64 = 1

  /// The process that asks.
  @TaskLocal static var caller: Int32 = 0

  private struct Place: Hashable {
    var parent: UInt64
    var name: String
  }

  private struct Known {
    var node: ShadowNode
    var place: Place
    /// How many times its number was given out and not yet given back.
    var uses: UInt64
  }

  private struct Table {
    var nodes: [UInt64: Known]
    var numbers: [Place: UInt64] = [:]
    var next = ShadowTree.root + 1
  }

  private let table: Mutex<Table>
  private let own: (any OwnProcesses)?
  private let report: (@Sendable (_ first: String, _ why: String) -> Void)?

  /// A tree below `root`.
  ///
  /// Where `own` are processes that take it for their own host's, links of the host can be read, and cannot be followed: they
  /// would lead to places of this machine that have the same names.
  ///
  /// What cannot be read is also said to `report`, by the name below the root that it belongs to.
  public init(
    root: ShadowNode, own: (any OwnProcesses)? = nil,
    report: (@Sendable (_ first: String, _ why: String) -> Void)? = nil
  ) {
    self.own = own
    self.report = report
    table = Mutex(
      Table(nodes: [Self.root: Known(node: root, place: Place(parent: Self.root, name: ""), uses: 1)]))
  }

  /// An entry by its number, and what `stat` says of it.
  public struct Found: Sendable {
    public let inode: UInt64
    public let attributes: ShadowAttributes
  }

  /// The entry `name` of a directory.
  ///
  /// Its number holds until ``forget(_:count:)`` has given it back as often as it was given out.
  ///
  /// `caller` is the process that asks, which finds itself as `self`; zero where that is unknown.
  public func lookup(_ name: String, in parent: UInt64, caller: Int32 = 0) throws(ShadowError) -> Found {
    guard case .directory(_, let find) = try node(parent).body else { throw .notDirectory }
    let found = try answering(parent) { try Self.$caller.withValue(caller) { try find(name) } }
    guard let found else { throw .missing }
    return admit(name, found, in: parent)
  }

  /// Gives an entry of a directory a number, or the one that it has.
  private func admit(_ name: String, _ node: ShadowNode, in parent: UInt64) -> Found {
    table.withLock { table in
      let place = Place(parent: parent, name: name)
      let inode = table.numbers[place] ?? table.next
      if inode == table.next {
        table.next += 1
        table.numbers[place] = inode
      }
      table.nodes[inode, default: Known(node: node, place: place, uses: 0)].uses += 1
      table.nodes[inode]?.node = node
      return Found(inode: inode, attributes: node.attributes)
    }
  }

  /// An entry of a directory that was listed.
  public struct Listed: Sendable {
    public let name: String
    public let kind: ShadowAttributes.Kind
    /// Where it is known without another question.
    fileprivate let node: ShadowNode?
  }

  /// The same as looking an entry up that was listed; nil for those that have to be looked up.
  public func admit(_ entry: Listed, in parent: UInt64) -> Found? {
    entry.node.map { admit(entry.name, $0, in: parent) }
  }

  /// Whether what a directory lacks it lacks for everybody, so that a system may remember that for ``ShadowAttributes/lifetime``.
  public func isEverybodys(_ inode: UInt64) -> Bool { (try? node(inode)).map { !$0.isPersonal } ?? false }

  /// Gives back the number of an entry.
  public func forget(_ inode: UInt64, count: UInt64 = 1) {
    guard inode != Self.root else { return }
    table.withLock { table in
      guard var known = table.nodes[inode] else { return }
      known.uses -= min(known.uses, count)
      if known.uses == 0 {
        table.nodes[inode] = nil
        table.numbers[known.place] = nil
      } else {
        table.nodes[inode] = known
      }
    }
  }

  /// How many entries have a number.
  public var count: Int { table.withLock { $0.nodes.count } }

  /// What `stat` says, as of the time of the entry's look-up.
  public func attributes(of inode: UInt64) throws(ShadowError) -> ShadowAttributes { try node(inode).attributes }

  /// The entries of a directory as it is now, without `.` and `..`.
  public func entries(of inode: UInt64) throws(ShadowError) -> [Listed] {
    let directory = try node(inode)
    guard case .directory(let list, _) = directory.body else { throw .notDirectory }
    return try answering(inode) {
      try list().filter { Self.isName($0.name) }.map { entry in
        let isWhole = directory.listsWhole && entry.node.attributes.isEverybodys
        return Listed(name: entry.name, kind: entry.node.attributes.kind, node: isWhole ? entry.node : nil)
      }
    }
  }

  /// The contents of a file as it is now.
  public func open(_ inode: UInt64) throws(ShadowError) -> ShadowContents {
    switch try node(inode).body {
    case .file(let make):
      do throws(ShadowError) {
        return try answering(inode, make)
      } catch .invalid {
        return .refused(.invalid)
      }
    case .directory: throw .isDirectory
    case .link: throw .unreadable("it is a link")
    }
  }

  /// Where a symbolic link leads, for the thread `caller`, zero where that is unknown.
  ///
  /// - Throws: ``ShadowError/notFollowed`` where it would lead to a place of this machine that it does not mean.
  public func target(of inode: UInt64, caller: Int32 = 0) throws(ShadowError) -> [UInt8] {
    guard case .link(let isHere, let make) = try node(inode).body else { throw .unreadable("it is no link") }
    if let own, !isHere, !own.readsLink(caller) { throw .notFollowed }
    return try answering(inode) { try Self.$caller.withValue(caller, operation: make) }
  }

  /// What is to be said of an entry beside its contents, as names and values.
  public func notes(on inode: UInt64) throws(ShadowError) -> [(name: String, value: [UInt8])] {
    guard let notes = try node(inode).notes else { return [] }
    return try ShadowError.answering(notes)
  }

  /// How much the file system of the host holds that an entry belongs to; nil for what is made here.
  public func room(around inode: UInt64) throws(ShadowError) -> FileSystemRoom? {
    guard let room = try node(inode).room else { return nil }
    return try ShadowError.answering(room)
  }

  /// Runs `body`, and says what of the entry `inode` cannot be read.
  private func answering<Result>(_ inode: UInt64, _ body: () throws -> Result) throws(ShadowError) -> Result {
    do throws(ShadowError) {
      return try ShadowError.answering(body)
    } catch {
      if let report, case .unreadable(let why) = error { report(first(above: inode), why) }
      throw error
    }
  }

  /// The name of the root's entry that an entry is or lies below; empty for the root itself.
  private func first(above inode: UInt64) -> String {
    table.withLock { table in
      var (name, inode) = ("", inode)
      // No path has more parts than PATH_MAX has room for.
      for _ in 0..<4096 {
        guard inode != Self.root, let known = table.nodes[inode] else { break }
        (name, inode) = (known.place.name, known.place.parent)
      }
      return name
    }
  }

  private func node(_ inode: UInt64) throws(ShadowError) -> ShadowNode {
    guard let known = table.withLock({ $0.nodes[inode] }) else { throw .missing }
    return known.node
  }

  /// Whether a directory may have an entry of this name: names may come from the watched memory.
  static func isName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= 255
      && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") }
  }
}

extension ShadowTree {
  /// The contents of the file at `path`, whose parts are joined by slashes; for who mounts nothing.
  public func contents(of path: String) throws(ShadowError) -> [UInt8] {
    let inode = try self.inode(of: path)
    defer { forget(inode) }
    return try open(inode).read(from: 0, count: ShadowContents.mostBytes)
  }

  /// The number of the entry at `path`, to be given back.
  public func inode(of path: String) throws(ShadowError) -> UInt64 {
    var inode = Self.root
    for part in path.split(separator: "/") {
      let next = try lookup(String(part), in: inode)
      forget(inode)
      inode = next.inode
    }
    return inode
  }
}
