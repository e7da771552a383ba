import Acquisition
public import Keys
public import Memory

/// What a look through a store found.
public struct StoreVerification: Sendable {
  /// Something that is not as it was written.
  public struct Problem: Sendable, CustomStringConvertible {
    /// The image that it is in; nil for what concerns the store.
    public let image: ObjectName?
    /// What memory cannot be had because of it; nil for none.
    public let range: MemorySegment?
    public let what: String

    public var description: String {
      let place = range.map { " \($0.count) bytes from \($0.start) on:" } ?? ""
      return (image.map { "image \($0.short):" } ?? "the store:") + "\(place) \(what)"
    }
  }

  /// Pages and nodes that were read, and held against their names.
  public internal(set) var objects: UInt64 = 0
  public internal(set) var images: [StoredImage] = []
  /// How many problems were found: ``ImageStore/verify(_:key:report:)`` reports each.
  public internal(set) var problems: UInt64 = 0
}

extension ImageStore {
  /// Reads all of a store, or all that an image is made of, and holds it against its names, signatures and seals.
  ///
  /// It goes on behind what is damaged, and notes in the store what that is: whoever meets the same page or node again stores it
  /// anew, by which older images are mended, too.
  /// A page or node that several places share is reported for each image once.
  ///
  /// - Parameters:
  ///   - image: the one image to look at; nil for the whole store, with what is in no image.
  ///   - key: who is to have signed; an image that this key did not sign is then a problem. Nil for whoever did, or nobody.
  ///   - report: called with each problem as it is found.
  /// - Returns: what was looked at, and how many problems there are.
  /// - Throws: ``StoreError`` where the store cannot be read at all. Cost: a read and SHA-256 of all packs, then of what the images
  ///   have, each page that an image shares with the one before it once.
  public func verify(
    _ image: StoredImage? = nil, key: CertifierKey? = nil, report: (StoreVerification.Problem) -> Void
  ) throws(StoreError) -> StoreVerification {
    let verifier = Verifier(objects)
    try withoutActuallyEscaping(report) { report throws(StoreError) in
      func found(_ what: String, in image: ObjectName? = nil) {
        verifier.result.problems += 1
        report(.init(image: image, range: nil, what: what))
      }
      let images: [StoredImage]
      if let image {
        images = [image]
      } else {
        let all = try self.images()
        for problem in all.problems { found("\(problem)") }
        images = all.images
        try verifyPacks(verifier, found: { found($0) })
      }
      for image in images {
        if let key, image.signer != key {
          found("is not signed by \(key.fingerprint)", in: image.id)
        } else if image.isSignatureValid == false {
          found("has a signature that is not of the key beside it", in: image.id)
        }
        try verifyDigests(image) { found($0, in: image.id) }
        verifier.walk(image, report)
      }
      verifier.result.images = images
    }
    // Best effort: who may only read the store still learns what is wrong with it.
    try? noteDamaged(Set(verifier.faults.keys))
    return verifier.result
  }

  private func verifyPacks(_ verifier: Verifier, found: (String) -> Void) throws(StoreError) {
    let known = Set(objects.indexes.map(\.number))
    for number in try StoreFiles.numbers(objects.indexFolder, PackIndex.suffix) where !known.contains(number) {
      found("\(objects.indexFolder)/\(StoreFiles.name(number, PackIndex.suffix)) is no index any more; \(Self.remedy)")
    }
    for index in objects.indexes where !index.isWhole { found("\(index.path) was changed; \(Self.remedy)") }
    let packs = Set(objects.packs.map(\.number))
    for number in Set(objects.indexes.flatMap(\.packs)).subtracting(packs).sorted() {
      found("\(objects.packFolder)/\(StoreFiles.name(number, Pack.suffix)) is gone")
    }
    for pack in objects.packs {
      do throws(StoreError) {
        try pack.forEach { (offset, step) throws(StoreError) in
          switch step {
          case .object: verifier.result.objects += 1
          case .damaged(let name): found("\(pack.path): what lies at \(offset) is not \(name)")
          case .unknown(let count): found("\(pack.path): \(count) bytes from \(offset) on are no object")
          }
          return true
        }
      } catch {
        found("\(error)")
      }
    }
  }

  private static let remedy = "remove it, and the next writer makes it anew of the packs"

  private func verifyDigests(_ image: StoredImage, found: (String) -> Void) throws(StoreError) {
    guard let journal = try digests(of: image) else { return }
    defer { journal.close() }
    let size = (try? StoreFiles.size(journal.descriptor, journal.path)) ?? 0
    var windows = WindowSequence(image.contents.runs)
    for _ in 0..<journal.count { _ = windows.next() }
    if size % UInt64(WindowJournal.windowSize) != 0 || windows.next() != nil {
      found("the digests of its pages were cut: \(journal.path)")
    }
    for index in 0..<journal.count where journal.window(index) == nil {
      found("the digests of its pages were changed: \(journal.path); without them the next image is read as a whole")
      break
    }
  }
}

/// Goes through images' trees.
final class Verifier {
  private let objects: ObjectStore
  var result = StoreVerification()
  /// Nodes below which everything is as it was written.
  private var whole: Set<ObjectName> = []
  /// Pages and nodes that are not to be had, and why.
  private(set) var faults: [ObjectName: ObjectStore.Fault] = [:]

  init(_ objects: ObjectStore) { self.objects = objects }

  /// Of the image before, the names on the way: what is the same was looked at.
  private var previous: (root: ObjectName, height: Int)?

  func walk(_ image: StoredImage, _ report: (StoreVerification.Problem) -> Void) {
    var reported: Set<ObjectName> = []
    let before = previous.flatMap { $0.height == image.height ? $0.root : nil }
    _ = walk(image.root, image.height, at: 0, before: before, &reported) { range, what in
      report(.init(image: image.id, range: range, what: what))
    }
    previous = (image.root, image.height)
  }

  /// - Returns: whether all is as it was written.
  private func walk(
    _ name: ObjectName, _ level: Int, at frame: UInt64, before: ObjectName?, _ reported: inout Set<ObjectName>,
    _ report: (MemorySegment, String) -> Void
  ) -> Bool {
    if name.isMark { return true }
    if level > 0, whole.contains(name) { return true }
    // A ring cannot be, but many ways to the same node: each is gone once.
    if reported.contains(name) { return false }
    func failed(_ fault: ObjectStore.Fault) -> Bool {
      reported.insert(name)
      result.problems += 1
      report(
        MemorySegment(
          start: PhysicalAddress(frame * ImageTree.page), count: ImageTree.frames(level) * ImageTree.page), "\(fault)")
      return false
    }
    if let fault = faults[name] { return failed(fault) }
    // A page in the same place of the image before was read there.
    if level == 0, name == before { return true }
    let bytes: [UInt8]
    do throws(ObjectStore.Fault) {
      bytes = try objects.read(name, level == 0 ? .page : .node(level))
      result.objects += 1
    } catch {
      faults[name] = error
      return failed(error)
    }
    guard level > 0 else { return true }
    let others = before.flatMap { before -> [ObjectName]? in
      if before.isMark { return nil }
      return (try? objects.read(before, .node(level))).map(ImageTree.names)
    }
    var isWhole = true
    for (index, child) in ImageTree.names(bytes).enumerated() {
      let isChildWhole = walk(
        child, level - 1, at: frame + UInt64(index) * ImageTree.frames(level - 1), before: others?[index], &reported,
        report)
      isWhole = isWhole && isChildWhole
    }
    if isWhole { whole.insert(name) } else { reported.insert(name) }
    return isWhole
  }
}
