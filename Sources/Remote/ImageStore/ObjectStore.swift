import Glibc
import Host
import Memory

/// The packs of a store and their indexes: objects by name.
///
/// One process at a time appends; any number read meanwhile. Indexes are merged as they grow, so that there are never more than
/// some twenty, however many packs there are.
final class ObjectStore: Sendable {
  struct Location: Hashable, Sendable {
    var pack: UInt32
    var offset: UInt32
  }

  /// Why there is no object to be had.
  enum Fault: Error, Equatable, CustomStringConvertible {
    /// No index knows it, or its pack is not there.
    case missing(ObjectName)
    /// What lies in its place is something else.
    case damaged(ObjectName, pack: String, offset: UInt32)

    var description: String {
      switch self {
      case .missing(let name): "\(name) is in no pack"
      case .damaged(let name, let pack, let offset): "\(name) is not what lies in \(pack) at \(offset)"
      }
    }
  }

  private struct State {
    var indexes: [PackIndex] = []
    var packs: [UInt32: Pack] = [:]
    var open: OpenPack?
    /// What is damaged where it lies: to a writer as if it were not there.
    var damaged: Set<ObjectName> = []
    /// How many bytes were appended.
    var appended: UInt64 = 0
  }

  let packFolder: String
  let indexFolder: String
  private let state = Locked(State())

  /// The packs under a folder, as far as they are indexed.
  ///
  /// - Throws: ``StoreError`` where they cannot be read.
  init(_ folder: String) throws(StoreError) {
    (packFolder, indexFolder) = ("\(folder)/packs", "\(folder)/index")
    try load()
  }

  /// Reads anew which indexes there are.
  private func load() throws(StoreError) {
    for attempt in 0... {
      var indexes: [PackIndex] = []
      do throws(StoreError) {
        for number in try StoreFiles.numbers(indexFolder, PackIndex.suffix) {
          do throws(StoreError) {
            indexes.append(try PackIndex(indexFolder, number))
          } catch {
            // One that is damaged has the packs that it was of read through by the next writer.
            guard case .damaged = error.reason else { throw error }
          }
        }
      } catch {
        // A writer merged indexes meanwhile.
        guard case .system(_, ENOENT) = error.reason, attempt < 8 else { throw error }
        continue
      }
      // Opened at once: what is open stays, also where another process prunes.
      var packs: [UInt32: Pack] = [:]
      let wanted = Set(indexes.flatMap(\.packs))
      for number in wanted { packs[number] = try? Pack(packFolder, number) }
      // Gone, or pruned meanwhile.
      if packs.count < wanted.count, attempt < 8 { continue }
      return state.withLock { state in (state.indexes, state.packs) = (indexes, packs) }
    }
  }

  // MARK: Reading

  /// Where an object lies.
  ///
  /// Cost: for each index a binary search and a read of 4000 bytes.
  func location(of name: ObjectName) -> Location? {
    let (indexes, found) = state.withLock { state in
      (
        state.indexes,
        state.open.flatMap { open in
          open.offsets[name].map { Location(pack: open.number, offset: $0) }
        }
      )
    }
    if let found { return found }
    for index in indexes.reversed() {
      guard let (entry, _) = index.find(name) else { continue }
      if state.withLock({ $0.packs[entry.pack] != nil }) { return Location(pack: entry.pack, offset: entry.offset) }
    }
    return nil
  }

  /// Whether an object is there; one that is known to be damaged is not.
  func contains(_ name: ObjectName) -> Bool {
    let isDamaged = state.withLock { state in
      state.damaged.contains(name) && state.open?.offsets[name] == nil
    }
    return !isDamaged && location(of: name) != nil
  }

  /// Whether an object is what its name says, page or node.
  func isWhole(_ name: ObjectName) -> Bool {
    guard let location = location(of: name), let stored = pack(location.pack)?.stored(at: UInt64(location.offset))
    else {
      return false
    }
    return stored.name == name && stored.proven != nil
  }

  /// Has these stored anew when they are met again.
  func distrust(_ names: [ObjectName]) { state.withLock { $0.damaged.formUnion(names) } }

  /// The bytes of an object, proven to be those that it was named after.
  ///
  /// - Throws: ``Fault``. Cost: that of ``location(of:)``, a read, and SHA-256 of 4096 bytes.
  func read(_ name: ObjectName, _ kind: ObjectKind) throws(Fault) -> [UInt8] {
    guard let location = location(of: name), let pack = pack(location.pack) else { throw .missing(name) }
    guard let stored = pack.stored(at: UInt64(location.offset)), stored.kind == kind, stored.name == name,
      let bytes = stored.proven
    else { throw .damaged(name, pack: pack.path, offset: location.offset) }
    return bytes
  }

  private func pack(_ number: UInt32) -> Pack? {
    state.withLock { state in
      if let pack = state.packs[number] { return pack }
      guard let open = state.open, open.number == number, let pack = try? Pack(packFolder, number) else { return nil }
      // What is read of it has to be there.
      guard (try? open.flush()) != nil else { return nil }
      return pack
    }
  }

  var indexes: [PackIndex] { state.withLock { $0.indexes } }
  var packs: [Pack] { state.withLock { $0.packs.values.sorted { $0.number < $1.number } } }

  /// Bytes of all packs and indexes on disk.
  var size: UInt64 {
    packs.reduce(0) { $0 + $1.size }
  }

  // MARK: Writing: by who holds the store's lock

  /// How many bytes this process appended.
  var appended: UInt64 { state.withLock { $0.appended } }

  /// Makes good what a writer left that was killed: packs without an index get one, without what was cut while it was written.
  ///
  /// - Throws: ``StoreError``. Cost: a read and the SHA-256 of each such pack, of which there is one at most.
  func recover() throws(StoreError) {
    for name in try StoreFiles.names(indexFolder) where name.hasSuffix(".new") { unlink("\(indexFolder)/\(name)") }
    var indexes = self.indexes
    // One whose packs another has, too, was merged into that.
    for index in indexes {
      let others = indexes.filter { $0.number > index.number }
      if others.contains(where: { Set($0.packs).isSuperset(of: index.packs) }) {
        indexes.removeAll { $0 === index }
        unlink(index.path)
      }
    }
    let kept = indexes
    state.withLock { $0.indexes = kept }
    let covered = Set(indexes.flatMap(\.packs))
    for number in try StoreFiles.numbers(packFolder, Pack.suffix) where !covered.contains(number) {
      let pack = try Pack(packFolder, number)
      var (entries, end): ([PackIndex.Entry], UInt64) = ([], pack.size)
      try pack.forEach { (offset, step) throws(StoreError) in
        switch step {
        case .object(let object):
          entries.append(.init(name: object.name, pack: number, offset: UInt32(truncatingIfNeeded: offset)))
        // It is written again when it is met again.
        case .damaged: break
        // An object that was being written.
        case .unknown(let count):
          if offset + count == pack.size, count < UInt64(Pack.objectHeadSize + ObjectKind.size) { end = offset }
        }
        return offset <= Pack.limit
      }
      guard !entries.isEmpty else {
        unlink(pack.path)
        continue
      }
      if end < pack.size, truncate(pack.path, off_t(clamping: end)) != 0 { throw .system(pack.path, "truncate", errno) }
      try pack.synchronize()
      try add(pack, entries)
    }
  }

  private func add(_ pack: Pack, _ entries: [PackIndex.Entry]) throws(StoreError) {
    var entries = entries.sorted { $0.name < $1.name }[...]
    let number = try nextIndex()
    let index = try PackIndex.write(indexFolder, number, packs: [pack.number]) { entries.popFirst() }
    state.withLock { state in
      state.packs[pack.number] = pack
      state.indexes.append(index)
    }
    try mergeIndexes()
  }

  private func nextIndex() throws(StoreError) -> UInt32 {
    (try StoreFiles.numbers(indexFolder, PackIndex.suffix).last ?? 0) + 1
  }

  /// Merges the last indexes until each is at least twice as long as the next.
  private func mergeIndexes() throws(StoreError) {
    while true {
      let last = indexes.suffix(2)
      guard let first = last.first, let second = last.last, last.count == 2, first.count < 2 * second.count else {
        return
      }
      let merged = try PackIndex.merge(indexFolder, nextIndex(), [first, second])
      state.withLock { state in
        state.indexes.removeLast(2)
        state.indexes.append(merged)
      }
      unlink(first.path)
      unlink(second.path)
    }
  }

  /// Appends an object, unless it is there.
  ///
  /// - Throws: ``StoreError`` where it cannot be written.
  func append(_ object: Pack.Stored) throws(StoreError) {
    if !contains(object.name) { try put(object) }
  }

  private func put(_ object: Pack.Stored) throws(StoreError) {
    let full = try state.withLock { state throws(StoreError) -> Bool in
      let open: OpenPack
      if let there = state.open {
        open = there
      } else {
        open = try OpenPack(packFolder, (try StoreFiles.numbers(packFolder, Pack.suffix).last ?? 0) + 1)
        state.open = open
      }
      try open.append(object)
      state.appended += UInt64(object.size)
      return open.size >= Pack.largest || open.offsets.count >= Pack.mostObjects
    }
    if full { try finishPack() }
  }

  /// Hands what was appended to the system, so that it outlives this process.
  func flush() throws(StoreError) { try state.withLock { state throws(StoreError) in try state.open?.flush() } }

  /// Has all that was appended kept whatever happens to this machine, and indexes it.
  func finishPack() throws(StoreError) {
    guard let open = state.withLock({ $0.open }) else { return }
    try open.synchronize()
    let entries = open.offsets.map { PackIndex.Entry(name: $0.key, pack: open.number, offset: $0.value) }
    try add(try Pack(packFolder, open.number), entries)
    state.withLock { state in
      state.open = nil
      state.damaged.subtract(open.offsets.keys)
    }
  }

  private func isDamaged(_ pack: Pack) throws(StoreError) -> Bool {
    var isDamaged = false
    try pack.forEach { (_, step) throws(StoreError) in
      if case .object = step { return true }
      isDamaged = true
      return false
    }
    return isDamaged
  }

  /// Writes packs anew of which much is needed no longer, and removes what they were.
  ///
  /// - Parameters:
  ///   - marks: what is needed.
  ///   - mending: whether also those that have anything damaged, which takes a read of all.
  /// - Returns: by how many bytes the packs are smaller.
  /// - Throws: ``StoreError``; nothing that is needed is gone then.
  func sweep(_ marks: Marks, mending: Bool) throws(StoreError) -> UInt64 {
    let before = size
    let uses = marks.uses
    var gone: Set<UInt32> = []
    for pack in packs {
      let use = uses[pack.number] ?? (0, 0)
      var isWanted = use.all - use.needed >= max(1, use.all / 8)
      if !isWanted, mending { isWanted = try isDamaged(pack) }
      guard isWanted else { continue }
      var copied: UInt64 = 0
      if use.needed > 0 {
        try pack.forEach { (offset, step) throws(StoreError) in
          if case .object(let object) = step, marks.isNeeded(object.name, pack.number, offset) {
            try put(object)
            copied += 1
          }
          return true
        }
      }
      // Where something that is needed is damaged, it stays where it can be looked into.
      if copied == use.needed { gone.insert(pack.number) }
    }
    guard !gone.isEmpty else { return 0 }
    try finishPack()
    let old = indexes
    let removed = gone
    let merged = try PackIndex.merge(indexFolder, nextIndex(), old) { !removed.contains($0) }
    // What goes now is gone: not before it is seen that nothing is missed.
    guard marks.areAll(in: merged) else {
      unlink(merged.path)
      throw StoreError(merged.path, .damaged("it lacks what images need; nothing was removed"))
    }
    state.withLock { $0.indexes = [merged] }
    for index in old { unlink(index.path) }
    try StoreFiles.synchronizeFolder(indexFolder)
    for number in removed {
      if let pack = state.withLock({ $0.packs.removeValue(forKey: number) }) { unlink(pack.path) }
    }
    return before - min(before, size)
  }
}
