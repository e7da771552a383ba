import Binding
public import LinuxKernel
import Memory
import StorageViews
import Synchronization

/// The files of the watched host by their paths, as far as its memory has them: names out of the dentry cache, contents out of the page
/// cache, from the first process's root on and over its mounts.
///
/// Files in memory (tmpfs, ramfs, the first root) are whole. Of others there is what was used and not yet forgotten: a directory may
/// have more entries than are shown, and a byte that is not in memory is an error of reading. Extended attributes say which:
/// `user.grass.missing` of a file, and `user.grass.complete` of a directory.
public enum RootTree {
  public static func directory(of kernel: Kernel) throws(KernelError) -> ShadowNode {
    let files = RootFiles(try ShadowHost(kernel))
    return ShadowNode.directory(
      list: { try files.entries(of: files.root()) },
      find: { name in try files.entry(name, of: files.root()) }
    ).annotated(notes: { try files.notes(ofDirectory: files.root()) }, room: { try files.room(at: files.root()) })
      .owned { attributes in
        // As they are when it is mounted; a host that cannot be asked has none.
        if let own = try? files.rootAttributes() { attributes = own }
      }
  }
}

extension ShadowNode {
  fileprivate func annotated(
    notes: (@Sendable () throws -> [(name: String, value: [UInt8])])?,
    room: @escaping @Sendable () throws -> FileSystemRoom
  ) -> ShadowNode {
    var node = self
    (node.notes, node.room) = (notes, room)
    return node
  }
}

/// What the tree is made of.
private final class RootFiles: Sendable {
  private let host: ShadowHost
  private let covers = Recent<[FilePath: FilePath]>()
  private let rooms = Recent<[UInt64: FileSystemRoom]>()
  private let systems = Mutex<[VirtualAddress: FileSystemKinds.System]>([:])
  private let directories = RecentTable<Place, Listing>(most: 64)

  /// An entry, and the inode that it had when it was found: on a host that runs the memory of either may be another's by now.
  struct Place: Hashable, Sendable {
    var path: FilePath
    var inode: VirtualAddress
    var number: UInt64
  }

  struct Listing: Sendable {
    var entries: [ShadowNode.Entry]
    var byName: [String: ShadowNode]
    /// Whether the directory has no others.
    var isComplete: Bool
  }

  init(_ host: ShadowHost) { self.host = host }

  private var kernel: Kernel { host.kernel }

  /// The root of the first process.
  func root() throws -> Place {
    guard let root = try host.thread(1).details.get().root else { throw ShadowError.missing }
    let reader = try kernel.reader(DirectoryReader.self)
    let status = try reader.status(ofEntries: [root.dentry], in: kernel.addressSpace)[0].get()
    return Place(path: FilePath(mount: root.mount, dentry: root.dentry), inode: status.address, number: status.number)
  }

  // MARK: Directories

  func entries(of place: Place) throws -> [ShadowNode.Entry] { try listing(of: place).entries }

  func entry(_ name: String, of place: Place) throws -> ShadowNode? { try listing(of: place).byName[name] }

  func notes(ofDirectory place: Place) throws -> [(name: String, value: [UInt8])] {
    [("user.grass.complete", Array((try listing(of: place).isComplete ? "yes" : "no").utf8))]
  }

  private func listing(of place: Place) throws -> Listing {
    try directories.value(place) { try read(place) }
  }

  private func read(_ place: Place) throws -> Listing {
    let (reader, space) = (try kernel.reader(DirectoryReader.self), kernel.addressSpace)
    let own = try reader.status(ofEntries: [place.path.dentry], in: space)[0].get()
    guard own.address == place.inode, own.number == place.number, own.kind == .directory else {
      throw ShadowError.missing
    }
    let found = reader.entries(of: place.path.dentry, in: space)
    if let fault = found.faults.first { throw ShadowError.unreadable("\(fault)") }
    let covers = try covers.value {
      let found = reader.mounts(below: try root().path.mount, in: space)
      if let fault = found.faults.first { throw ShadowError.unreadable("\(fault)") }
      return found.covers
    }
    var items: [(name: [UInt8], path: FilePath, status: InodeStatus)] = []
    for entry in found.entries {
      var path = FilePath(mount: place.path.mount, dentry: entry.dentry)
      var status = entry.status
      // Mounts on mounts: as many as there are at most.
      for _ in 0..<64 {
        guard let cover = covers[path] else { break }
        path = cover
      }
      if path.mount != place.path.mount || path.dentry != entry.dentry {
        status = try reader.status(ofEntries: [path.dentry], in: space)[0].get()
      }
      items.append((entry.name, path, status))
    }
    items.sort { $0.name.lexicographicallyPrecedes($1.name) }
    let system = try system(at: own.superBlock)
    let shown = try throughOverlays(items.map(\.status))
    let entries = zip(items, shown).compactMap { item, shown -> ShadowNode.Entry? in
      node(item.path, item.status, shownAs: shown).map {
        .init(name: String(decoding: item.name, as: UTF8.self), node: $0)
      }
    }
    // What no file system of Linux calls a file, and what is called alike in a system that takes text for UTF-8.
    let byName = Dictionary(entries.map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    let isWhole = byName.count == found.entries.count && byName.keys.allSatisfy(ShadowTree.isName)
    return Listing(entries: entries, byName: byName, isComplete: system.isMemory && isWhole)
  }

  // MARK: Entries

  func rootAttributes() throws -> ShadowAttributes {
    let reader = try kernel.reader(DirectoryReader.self)
    var attributes = Self.attributes(try reader.status(of: [try root().inode], in: kernel.addressSpace)[0].get())
    attributes.kind = .directory
    return attributes
  }

  private static func attributes(_ status: InodeStatus) -> ShadowAttributes {
    var attributes = ShadowAttributes(.file, status.mode & 0o7777)
    (attributes.uid, attributes.gid, attributes.links) = (status.uid, status.gid, status.links)
    attributes.size = status.size
    attributes.time = status.modified.seconds
    attributes.details = .init(
      accessed: .init(status.accessed), modified: .init(status.modified), changed: .init(status.changed),
      blocks: status.blocks, deviceMajor: UInt32(truncatingIfNeeded: status.rawDevice >> 20),
      deviceMinor: UInt32(truncatingIfNeeded: status.rawDevice & 0xfffff))
    return attributes
  }

  /// What is to be said of files: of those of an overlay what their layers say.
  ///
  /// Source: fs/overlayfs/inode.c, `ovl_getattr`.
  private func throughOverlays(_ files: [InodeStatus]) throws -> [InodeStatus] {
    var shown = files
    for _ in 0..<OverlayFiles.deepest {
      let above = try shown.indices.filter { try system(at: shown[$0].superBlock).name == OverlayFiles.name }
      guard !above.isEmpty, let overlay = try? OverlayFiles(kernel) else { break }
      let real = overlay.real(of: above.map { shown[$0] }, kernel)
      let found = try kernel.reader(DirectoryReader.self).status(of: real.map(\.inode), in: kernel.addressSpace)
      for ((index, real), status) in zip(zip(above, real), found) {
        // A layer whose file is of another kind is none of this one's.
        guard var status = try? status.get(), status.kind == shown[index].kind else { continue }
        if real.isMerged { status.links = 1 }
        shown[index] = status
      }
    }
    return shown
  }

  private func node(_ path: FilePath, _ status: InodeStatus, shownAs shown: InodeStatus) -> ShadowNode? {
    let place = Place(path: path, inode: status.address, number: status.number)
    var attributes = Self.attributes(shown)
    let body: ShadowNode.Body
    var notes: (@Sendable () throws -> [(name: String, value: [UInt8])])?
    switch status.kind {
    case .directory:
      attributes.kind = .directory
      body = .directory(
        list: { [self] in try entries(of: place) }, find: { [self] name in try entry(name, of: place) })
      notes = { [self] in try self.notes(ofDirectory: place) }
    case .file:
      body = .file { [self] in .cached(try contents(of: place, status)) }
      notes = { [self] in [("user.grass.missing", try contents(of: place, status).missing())] }
    case .link:
      attributes.kind = .link
      body = ShadowNode.link { [self] in try target(of: place, status) }.body
    case .pipe, .socket, .characterDevice, .blockDevice:
      attributes.kind =
        switch status.kind {
        case .pipe: .pipe
        case .socket: .socket
        case .blockDevice: .blockDevice
        default: .characterDevice
        }
      body = .file { throw ShadowError.invalid }
    case nil: return nil
    }
    return ShadowNode(attributes: attributes, body: body)
      .annotated(notes: notes) { [self] in try room(at: place) }
  }

  /// - Throws: ``ShadowError`` where the file's contents are no pages of memory, but made by the kernel when somebody reads them.
  private func contents(of place: Place, _ status: InodeStatus) throws -> CachedBytes {
    let system = try system(at: status.superBlock)
    if system.name == OverlayFiles.name { return try overlaid(place) }
    guard system.isMemory || system.isStored else {
      throw ShadowError.unreadable(
        "what a file of the kind \(String(decoding: system.name, as: UTF8.self)) holds is made when it is read")
    }
    return CachedBytes(kernel, inode: place.inode, number: place.number)
  }

  /// The contents of a file of an overlay, which one of its layers has.
  private func overlaid(_ place: Place) throws -> CachedBytes {
    let reader = try kernel.reader(DirectoryReader.self)
    var status = try reader.status(of: [place.inode], in: kernel.addressSpace)[0].get()
    guard status.number == place.number else { throw ShadowError.missing }
    for _ in 0..<OverlayFiles.deepest {
      let inode = try OverlayFiles(kernel).real(of: [status], kernel)[0].inode
      guard inode.rawValue != 0 else { throw ShadowError.unreadable("which layer of the overlay has the file") }
      status = try reader.status(of: [inode], in: kernel.addressSpace)[0].get()
      let system = try system(at: status.superBlock)
      guard system.name != OverlayFiles.name else { continue }
      guard system.isMemory || system.isStored, status.kind == .file || status.kind == .link else { break }
      return CachedBytes(kernel, inode: status.address, number: status.number)
    }
    throw ShadowError.unreadable("the layer of the overlay that has the file cannot be read")
  }

  private func target(of place: Place, _ own: InodeStatus) throws -> [UInt8] {
    let status = try throughOverlays([own])[0]
    if status.linkTarget.rawValue != 0 {
      return try kernel.addressSpace.strings(at: [status.linkTarget], limit: 4096)[0].get()
    }
    // Longer ones are the first page of the file.
    let bytes = try contents(of: place, status).read(from: 0, count: 4096)
    return Array(bytes.prefix { $0 != 0 })
  }

  // MARK: File systems

  private func system(at address: VirtualAddress) throws -> FileSystemKinds.System {
    if let known = systems.withLock({ $0[address] }) { return known }
    let system = try kernel.reader(FileSystemKinds.self).system(at: address, kernel)
    systems.withLock { systems in
      if systems.count > 4096 { systems = [:] }
      systems[address] = system
    }
    return system
  }

  func room(at place: Place) throws -> FileSystemRoom {
    let status = try kernel.reader(DirectoryReader.self).status(of: [place.inode], in: kernel.addressSpace)[0].get()
    let system = try system(at: status.superBlock)
    guard let room = try rooms.value({ try kernel.fileSystemRooms() })[system.device] else {
      throw ShadowError.unreadable(
        "how full a file system of the kind \(String(decoding: system.name, as: UTF8.self)) is")
    }
    return room
  }
}

extension ShadowAttributes.Details.Time {
  fileprivate init(_ time: InodeStatus.Time) {
    self.init(seconds: time.seconds, nanoseconds: time.nanoseconds)
  }
}
