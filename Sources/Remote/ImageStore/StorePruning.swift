import Glibc

/// What was removed from a store.
public struct StorePruning: Sendable {
  public internal(set) var images: [StoredImage] = []
  /// Bytes by which the packs are smaller.
  public internal(set) var freed: UInt64 = 0
}

extension ImageStore {
  /// Removes images, and what is in no other.
  ///
  /// First the images go, then packs of which an eighth or more is needed no longer are written anew without that. A page or
  /// image that stays is there at any moment, also where this is killed; what was not freed then, the next time is. Images that
  /// are not whole keep what they have.
  ///
  /// - Parameter removed: images of this store, opened for writing.
  /// - Returns: what went.
  /// - Throws: ``StoreError``; where a node of an image that stays is damaged, so that it cannot be told what it needs, nothing is
  ///   freed. Cost: the nodes of all images and a look at each index, then a read of the packs that are written anew.
  public func prune(_ removed: [StoredImage]) throws(StoreError) -> StorePruning {
    var result = StorePruning()
    // By a damaged one what is needed would be taken for what is not.
    for index in objects.indexes where !index.isWhole {
      throw StoreError(index.path, .damaged("it was changed; remove it, and it is made anew of the packs"))
    }
    for image in removed {
      unlink("\(path)/digests/\(image.id)")
      guard unlink("\(path)/images/\(image.id)") == 0 else {
        throw .system("\(path)/images/\(image.id)", "unlink", errno)
      }
      result.images.append(image)
    }
    try StoreFiles.synchronizeFolder(path + "/images")
    let (images, problems) = try images()
    // What it needs cannot be told.
    if let problem = problems.first { throw problem }
    var marks = Marks(objects)
    for image in images { try marks.mark(image.root, image.height, path) }
    for leaf in try begunLeaves() { try? marks.mark(leaf, 1, path) }
    result.freed = try objects.sweep(marks, mending: !rememberedDamage.isEmpty)
    if damaged().isEmpty { unlink(damagePath) }
    return result
  }

  /// The leaves that images have which are not whole.
  private func begunLeaves() throws(StoreError) -> [ObjectName] {
    var leaves: [ObjectName] = []
    for name in try StoreFiles.names("\(path)/begun") where name.hasSuffix(".journal") {
      let journal = try WindowJournal("\(path)/begun/\(name)", secret, plan: [])
      defer { journal.close() }
      for index in 0..<journal.count { leaves += journal.leaves(index) }
    }
    return leaves
  }
}

/// Which objects are needed: a bit for each entry of the indexes.
struct Marks {
  private let objects: ObjectStore
  private let indexes: [PackIndex]
  private var bits: [[UInt64]]

  init(_ objects: ObjectStore) {
    self.objects = objects
    indexes = objects.indexes
    bits = indexes.map { [UInt64](repeating: 0, count: Int($0.count / 64) + 1) }
  }

  private func find(_ name: ObjectName) -> (index: Int, ordinal: UInt64, entry: PackIndex.Entry)? {
    for (number, index) in indexes.enumerated().reversed() {
      if let (entry, ordinal) = index.find(name) { return (number, ordinal, entry) }
    }
    return nil
  }

  private func isSet(_ index: Int, _ ordinal: UInt64) -> Bool {
    bits[index][Int(ordinal / 64)] & 1 << (ordinal % 64) != 0
  }

  /// Marks a node and all below it, or a page.
  mutating func mark(_ name: ObjectName, _ level: Int, _ store: String) throws(StoreError) {
    if name.isMark { return }
    guard let (index, ordinal, _) = find(name) else {
      // Of a page there is nothing to keep.
      if level > 0 { throw Self.damaged(store, .missing(name)) }
      return
    }
    if isSet(index, ordinal) { return }
    if level > 0 {
      let node: [UInt8]
      do throws(ObjectStore.Fault) {
        node = try objects.read(name, .node(level))
      } catch {
        throw Self.damaged(store, error)
      }
      for child in ImageTree.names(node) { try mark(child, level - 1, store) }
    }
    bits[index][Int(ordinal / 64)] |= 1 << (ordinal % 64)
  }

  private static func damaged(_ store: String, _ fault: ObjectStore.Fault) -> StoreError {
    StoreError(store, .damaged("\(fault); remove the images that need it too: `grassctl store verify` names them"))
  }

  /// Whether the object that lies there is needed, and is not found elsewhere.
  func isNeeded(_ name: ObjectName, _ pack: UInt32, _ offset: UInt64) -> Bool {
    guard let (index, ordinal, entry) = find(name), isSet(index, ordinal) else { return false }
    return entry.pack == pack && UInt64(entry.offset) == offset
  }

  /// Whether an index has all that is needed.
  ///
  /// Cost: a look into it for each object.
  func areAll(in index: PackIndex) -> Bool {
    for (number, old) in indexes.enumerated() {
      var (reader, ordinal) = (IndexReader(old), UInt64(0))
      while let entry = reader.current {
        if isSet(number, ordinal), index.find(entry.name) == nil { return false }
        reader.advance()
        ordinal += 1
      }
    }
    return true
  }

  /// Of each pack, how many objects it has and how many are needed.
  var uses: [UInt32: (all: UInt64, needed: UInt64)] {
    var uses: [UInt32: (all: UInt64, needed: UInt64)] = [:]
    for (number, index) in indexes.enumerated() {
      var (reader, ordinal) = (IndexReader(index), UInt64(0))
      while let entry = reader.current {
        uses[entry.pack, default: (0, 0)].all += 1
        if isSet(number, ordinal) { uses[entry.pack, default: (0, 0)].needed += 1 }
        reader.advance()
        ordinal += 1
      }
    }
    return uses
  }
}
