import Crypto
import Glibc
import Host
import Keys
import Memory

/// Images of hosts' memory in which what is alike is kept once: a folder.
///
/// ```
/// format           "GRASS store 1"
/// key              the store's secret, mode 0600 (`StoreSecret`)
/// lock             locked by who writes
/// packs/N.pack     pages and nodes, named by their SHA-256 (`Pack`)
/// index/N.index    where they lie (`PackIndex`): made of the packs, and made anew where it is gone
/// images/ID        an image: what it is of, and the root of its tree (``StoredImage``, `ImageTree`)
/// digests/ID       of the newest image of each host: by what the next is told from it (`WindowJournal`)
/// damaged          names of what was found damaged, 32 bytes each: it is stored anew when it is met again
/// begun/H.plan, begun/H.journal   an image that is not whole, by the host's name
/// ```
/// Pages have 4096 bytes; those of zeros are not kept. Nothing that is whole is ever written over: a pack is on the disk before
/// an image names what is in it, and an image is there once its file is. So a store is whole at any moment, whenever a writer
/// is killed. Everything that is read is held against its name first.
///
/// One process at a time writes. Others read meanwhile, and see the images that were there when they opened it.
public final class ImageStore: Sendable {
  public let path: String
  let objects: ObjectStore
  let secret: StoreSecret
  /// Held as long as it is open for writing.
  private let lock: CInt?

  private static let format = Array("GRASS store 1\n".utf8)
  private static let folders = ["packs", "index", "images", "digests", "begun"]

  /// Whether there is a store at a path, or what is left of one.
  public static func isStore(_ path: String) -> Bool { KeyFile.exists(path + "/format") }

  /// Opens a store to read it.
  ///
  /// - Throws: ``StoreError`` where there is none.
  public convenience init(_ path: String) throws(StoreError) { try self.init(path, writing: false) }

  /// Opens a store to write to it, and makes it where there is none.
  ///
  /// What a writer left that was killed is made good first.
  ///
  /// - Parameters:
  ///   - path: the store's folder.
  ///   - isNew: whether it may be made.
  /// - Returns: the store, which no other process writes to as long as it is held.
  /// - Throws: ``StoreError`` where it is written by another process, or the path is something else's.
  public static func writing(_ path: String, orNew isNew: Bool = false) throws(StoreError) -> ImageStore {
    if isNew, !isStore(path) {
      do throws(KeyError) {
        try KeyFile.makeFolder(path)
      } catch {
        throw StoreError(error)
      }
      let others = try StoreFiles.names(path).filter { !folders.contains($0) && $0 != "key" }
      guard others.isEmpty else { throw StoreError(path, .notAStore("there are other files in it")) }
      for folder in folders where mkdir("\(path)/\(folder)", 0o700) != 0 && errno != EEXIST {
        throw .system("\(path)/\(folder)", "mkdir", errno)
      }
      _ = try StoreSecret("\(path)/key", creating: true)
      // Last: with it, it is one.
      try StoreFiles.replace(path + "/format", format)
    }
    return try ImageStore(path, writing: true)
  }

  private init(_ path: String, writing: Bool) throws(StoreError) {
    self.path = path
    guard Self.isStore(path) else { throw StoreError(path, .missing) }
    guard try StoreFiles.contents(path + "/format", limit: 64) == Self.format else {
      throw StoreError(path, .notAStore("its file `format` says something else than this version of grassctl knows"))
    }
    Self.raiseFileLimit()
    var descriptor: CInt?
    if writing {
      let file = try StoreFiles.open(path + "/lock", O_RDWR | O_CREAT)
      guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
        let code = errno
        close(file)
        throw code == EWOULDBLOCK ? StoreError(path, .busy) : .system(path + "/lock", "flock", code)
      }
      descriptor = file
    }
    lock = descriptor
    do throws(StoreError) {
      secret = try StoreSecret("\(path)/key", creating: writing)
      objects = try ObjectStore(path)
      if writing {
        try objects.recover()
        objects.distrust(damaged())
        try settle()
      }
    } catch {
      // What deinit would close.
      if let descriptor { close(descriptor) }
      throw error
    }
  }

  deinit { if let lock { close(lock) } }

  /// Every pack is kept open: of a TiB there are a thousand.
  private static func raiseFileLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < limit.rlim_max else {
      return
    }
    limit.rlim_cur = min(limit.rlim_max, 65536)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  // MARK: Images

  /// The images, the oldest first, and what of the folder of images cannot be read as one.
  ///
  /// - Throws: ``StoreError`` where the folder cannot be read. Cost: a read of each image's file.
  public func images() throws(StoreError) -> (images: [StoredImage], problems: [StoreError]) {
    var (images, problems): ([StoredImage], [StoreError]) = ([], [])
    for name in try StoreFiles.names(path + "/images") {
      do throws(StoreError) {
        images.append(try image(named: name))
      } catch {
        problems.append(error)
      }
    }
    return (images.sorted { ($0.number, $0.id) < ($1.number, $1.id) }, problems)
  }

  private func image(named name: String) throws(StoreError) -> StoredImage {
    let file = "\(path)/images/\(name)"
    return try StoredImage(try StoreFiles.contents(file, limit: StoredImage.limit), named: name, path: file)
  }

  /// The image whose ID begins with a text, or the newest for `newest`.
  ///
  /// - Throws: ``StoreError`` where there is none, more than one, or it is damaged.
  public func image(_ prefix: String) throws(StoreError) -> StoredImage {
    if prefix == "newest" {
      guard let last = try images().images.last else { throw StoreError(path, .noImage("there is no image in it")) }
      return last
    }
    let names = try StoreFiles.names(path + "/images").filter { $0.hasPrefix(prefix) }
    guard let name = names.first, !prefix.isEmpty else {
      throw StoreError(path, .noImage("there is no image \(prefix)"))
    }
    guard names.count == 1 else { throw StoreError(path, .noImage("\(names.count) images begin with \(prefix)")) }
    return try image(named: name)
  }

  /// The memory in an image.
  public func memory(of image: StoredImage) -> StoredMemory { StoredMemory(image, objects) }

  // MARK: What an image is made of

  /// More is not remembered: a store that is damaged as a whole is another's case.
  private static let mostDamaged = 1 << 20

  var damagePath: String { path + "/damaged" }

  /// What was found damaged.
  var rememberedDamage: [ObjectName] {
    let bytes = try? StoreFiles.contents(damagePath, limit: Self.mostDamaged * ObjectName.size)
    return bytes.map(ImageTree.names) ?? []
  }

  /// What was found damaged, and still is.
  func damaged() -> [ObjectName] { rememberedDamage.filter { !objects.isWhole($0) } }

  /// Remembers what is damaged.
  func noteDamaged(_ names: Set<ObjectName>) throws(StoreError) {
    let old = Set(rememberedDamage)
    let new = old.union(names.prefix(Self.mostDamaged - min(old.count, Self.mostDamaged)))
    if new != old { try StoreFiles.replace(damagePath, new.flatMap(\.bytes)) }
  }

  private func digestPath(_ id: ObjectName) -> String { "\(path)/digests/\(id)" }

  /// Where an image of a host lies that is not whole.
  func begunPaths(_ host: String) -> (plan: String, journal: String) {
    let name = ObjectName(SHA256.hash(data: Array(host.utf8))).description.prefix(16)
    return ("\(path)/begun/\(name).plan", "\(path)/begun/\(name).journal")
  }

  /// The newest image of a host whose digests are there; nil where there is none.
  func base(of host: String) -> BaseImage? {
    guard let image = try? images().images.last(where: { $0.host == host && KeyFile.exists(digestPath($0.id)) }),
      let journal = try? digests(of: image)
    else { return nil }
    return BaseImage(journal, secret.seed(of: host), objects)
  }

  func digests(of image: StoredImage) throws(StoreError) -> WindowJournal? {
    guard KeyFile.exists(digestPath(image.id)) else { return nil }
    return try WindowJournal(digestPath(image.id), secret, plan: image.planDigest)
  }

  /// Makes an image one of the store's, whose objects are on the disk.
  func commit(_ image: (id: ObjectName, bytes: [UInt8]), host: String) throws(StoreError) -> StoredImage {
    try StoreFiles.replace("\(path)/images/\(image.id)", image.bytes)
    let stored = try self.image(named: "\(image.id)")
    try settle()
    return stored
  }

  /// Puts the journals of images that have become whole in their place, and lets go of those of older images.
  private func settle() throws(StoreError) {
    let images = try images().images
    let begun = "\(path)/begun"
    for name in try StoreFiles.names(begun) where name.hasSuffix(".plan") {
      let plan = try StoreFiles.contents("\(begun)/\(name)", limit: StoredImage.limit)
      let digest = Array(SHA256.hash(data: plan))
      guard let image = images.last(where: { $0.planDigest == digest }) else { continue }
      // What is in its place already stays. An image that was begun in the same second has the same plan, and its journal is not whole.
      if !KeyFile.exists(digestPath(image.id)) {
        rename("\(begun)/\(name.dropLast(5)).journal", digestPath(image.id))
      }
      unlink("\(begun)/\(name)")
    }
    var newest: [String: ObjectName] = [:]
    for image in images where KeyFile.exists(digestPath(image.id)) { newest[image.host] = image.id }
    for name in try StoreFiles.names("\(path)/digests") where !newest.values.contains(where: { "\($0)" == name }) {
      unlink("\(path)/digests/\(name)")
    }
  }
}
