import Acquisition
import Foundation
import Memory
import Scratch
import Testing

@testable import ImageStore

/// Stores that were damaged or made up.
struct DamageTests {
  /// Files of a store that hold what was stored, by their paths in it.
  private static func files(_ path: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: path).sorted().filter { name in
      ["packs/", "index/", "images/", "digests/"].contains { name.hasPrefix($0) }
    }
  }

  @Test func eachFlippedBitIsFound() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(512, seed: 1))
    _ = try ImageStoreTests.record(host, into: path)
    host.change(percent: 2, seed: 2)
    _ = try ImageStoreTests.record(host, into: path)
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
    var random = Random(state: 3)
    for name in try Self.files(path) {
      let whole = try scratch.read("store/\(name)")
      for _ in 0..<25 {
        var bytes = whole
        let place = Int(random.next() % UInt64(bytes.count))
        bytes[place] ^= 1 << UInt8(random.next() % 8)
        try scratch.write(bytes, to: "store/\(name)")
        var found: [String] = []
        let verification = try ImageStore(path).verify { found.append("\($0)") }
        #expect(verification.problems > 0 && verification.problems == UInt64(found.count), "\(name) at \(place)")
      }
      for count in [0, 10, whole.count / 2, whole.count - 1] {
        try scratch.write(Array(whole.prefix(count)), to: "store/\(name)")
        #expect(try ImageStore(path).verify { _ in }.problems > 0, "\(name) cut to \(count)")
      }
      try scratch.write(whole, to: "store/\(name)")
    }
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
  }

  @Test func damagedPageIsNamedAndItsNeighboursAreRead() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(512, seed: 4))
    let first = try ImageStoreTests.record(host, into: path).image
    let second = try ImageStoreTests.record(host, into: path, name: "the same under another name").image
    // The bytes of page 9 lie in the pack as they are.
    var pack = try scratch.read("store/packs/00000001.pack")
    let place = try #require(Data(pack).range(of: Data(host.bytes[9 * 4096..<10 * 4096])))
    pack[place.lowerBound + 100] ^= 1
    try scratch.write(pack, to: "store/packs/00000001.pack")
    var problems: [StoreVerification.Problem] = []
    _ = try ImageStore(path).verify { problems.append($0) }
    let page = MemorySegment(start: PhysicalAddress(9 * 4096), count: 4096)
    #expect(problems.compactMap(\.image).sorted() == [first.id, second.id].sorted())
    #expect(problems.compactMap(\.range) == [page, page])
    let memory = try ImageStore(path).memory(of: first)
    #expect(throws: MemoryFault.self) { try memory.read(PhysicalAddress(9 * 4096), count: 1) }
    #expect(try memory.read(PhysicalAddress(10 * 4096), count: 8192) == Array(host.bytes[10 * 4096..<12 * 4096]))
    let summary = try Acquisition(of: memory, memory.image.contents, as: .raw).run(to: .file(scratch.file("raw")))
    #expect(summary.unread == [page])
    // Another image of the same mends all that have the page.
    _ = try ImageStoreTests.record(FarHost(host.bytes, isNear: true), into: path, name: "a third")
    #expect(
      try ImageStore(path).memory(of: first).read(PhysicalAddress(9 * 4096), count: 4096)
        == Array(host.bytes[9 * 4096..<10 * 4096]))
    var left: [StoreVerification.Problem] = []
    _ = try ImageStore(path).verify { left.append($0) }
    #expect(left.count == 1 && left.first?.image == nil, "only the damaged copy is left")
    // Which goes when the store is tidied.
    _ = try ImageStore.writing(path).prune([])
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
    #expect(!FileManager.default.fileExists(atPath: path + "/damaged"))
  }

  /// An index is made of the packs: without it nothing is lost.
  @Test func indexThatIsGoneIsMadeAnew() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(512, seed: 5))
    _ = try ImageStoreTests.record(host, into: path)
    host.change(percent: 30, seed: 1)
    let image = try ImageStoreTests.record(host, into: path).image
    for name in try FileManager.default.contentsOfDirectory(atPath: path + "/index") { unlink("\(path)/index/\(name)") }
    _ = try ImageStore.writing(path)
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
    #expect(try ImageStore(path).memory(of: image).read(PhysicalAddress(0), count: host.bytes.count) == host.bytes)
  }

  /// What a manipulated store says is neither believed nor followed for ever.
  @Test func storeOfAnEnemyEndsNothing() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(64, seed: 6))
    let image = try ImageStoreTests.record(host, into: path).image
    // A tree in which each node has the one below it 128 times: 2^42 pages.
    let store = try ImageStore.writing(path)
    let compressor = ObjectCompressor()
    var name = try #require(try? TreeReader(image.root, image.height, store.objects).page(0))
    for level in 1...ObjectKind.highest {
      name = try TreeBuilder.keep(ImageTree.uniform(name), level, store.objects, compressor)
    }
    try store.objects.finishPack()
    let all = [MemorySegment(start: PhysicalAddress(0), count: 1 << 52)]
    let made = try StoredImage.file(
      plan: ImagePlan(identity: "", began: "", contents: ImageContents(of: all)), host: "\u{1b}[2J", ended: "",
      root: name, height: ObjectKind.highest, number: 9, counts: .init(), note: [], consistency: nil, signer: nil)
    let huge = try store.commit(made, host: "")
    #expect(try store.verify { Issue.record("\($0)") }.problems == 0)
    #expect(try store.memory(of: huge).read(PhysicalAddress(0xf_ffff_ffff_f000), count: 4096).count == 4096)
    #expect(throws: MemoryFault.self) { try store.memory(of: huge).read(PhysicalAddress(.max), count: 1) }
    // The same with its page gone: said once, and not 2^42 times.
    for index in store.objects.packs { unlink(index.path) }
    #expect(try ImageStore(path).verify { _ in }.problems < 10)
    // Indexes and packs of random bytes, and of heads that promise much.
    var random = Random(state: 7)
    for head in [indexHead, Pack.magic, []] {
      for folder in ["packs/00000009.pack", "index/00000009.index"] {
        let bytes = head + (0..<5000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try scratch.write(bytes, to: "store/\(folder)")
        #expect(try ImageStore(path).verify { _ in }.problems > 0)
      }
    }
  }

  private let indexHead = Array("GRASSIDX".utf8) + [1, 0, 0, 0, 255, 255, 255, 255]
}
