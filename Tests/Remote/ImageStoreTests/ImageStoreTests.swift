import Acquisition
import Foundation
import Host
import Keys
import Memory
import Scratch
import Testing

@testable import ImageStore

/// Images that go into a store, and what comes out.
struct ImageStoreTests {
  /// 48 MiB: three windows.
  static let pages = 12288

  static func record(
    _ host: FarHost, into path: String, name: String = "a host", identity: String = "boot 1",
    contents: ImageContents? = nil, signer: CertifierIdentity? = nil, rounds: Int = 8,
    progress: (AcquisitionProgress) -> Bool = { _ in true }
  ) throws -> ImageRecording.Outcome {
    try ImageRecording(
      of: host, contents ?? ImageContents(of: host.segments), host: name, rounds: rounds, identity: identity
    ).run(into: ImageStore.writing(path, orNew: true), signer: signer, progress: progress)
  }

  /// Bytes of all files of a store.
  static func size(_ path: String) throws -> Int {
    try FileManager.default.subpathsOfDirectory(atPath: path).reduce(0) { sum, name in
      let attributes = try FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")
      let isFile = attributes[.type] as? FileAttributeType == .typeRegular
      return sum + (isFile ? attributes[.size] as? Int ?? 0 : 0)
    }
  }

  @Test func secondImageCostsWhatChanged() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(Self.pages, seed: 1))
    let first = try Self.record(host, into: path)
    #expect(first.image.counts.read == UInt64(host.bytes.count))
    #expect(first.image.counts.digests == UInt64(Self.pages * 16), "by which it was held against the memory")
    func travelled() -> UInt64 { host.state.withLock { $0.read + UInt64($0.digests * 16) } }
    let (before, sizeBefore) = (travelled(), try Self.size(path))
    host.change(percent: 1, seed: 2)
    let second = try Self.record(host, into: path)
    let moved = travelled() - before
    #expect(second.image.counts.read + second.image.counts.digests == moved, "it counts what moved")
    #expect(moved > UInt64(host.bytes.count) / 200, "something changed")
    #expect(moved <= UInt64(host.bytes.count) / 50, "at most 2% move: \(moved) of \(host.bytes.count)")
    let grown = try Self.size(path) - sizeBefore
    #expect(grown <= host.bytes.count / 50, "at most 2% on disk: \(grown) of \(host.bytes.count)")
    #expect(second.image.root != first.image.root)
    // Both are whole; the second has what was changed.
    let store = try ImageStore(path)
    #expect(try store.verify { Issue.record("\($0)") }.problems == 0)
    #expect(try store.memory(of: second.image).read(PhysicalAddress(0), count: host.bytes.count) == host.bytes)
    #expect(
      try store.memory(of: first.image).read(PhysicalAddress(0), count: host.bytes.count)
        == Random.pages(Self.pages, seed: 1))
    // Unchanged memory has the same root, near or far, whole or by digests, in whatever store.
    let third = try Self.record(host, into: path)
    let other = try Self.record(FarHost(host.bytes, isNear: true), into: scratch.file("other"))
    #expect(third.image.root == second.image.root && other.image.root == second.image.root)
    #expect(third.image.counts.read == 0)
  }

  @Test func pageThatChangesAfterItsDigestIsReadAgainNextTime() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(1024, seed: 3))
    _ = try Self.record(host, into: path)
    // Page 5 changes, its digest travels; and before it is read, it becomes what it was.
    let old = host.bytes
    host.state.withLock { state in
      state.bytes[5 * 4096] ^= 1
      state.afterDigests = { $0[5 * 4096] ^= 1 }
    }
    let second = try Self.record(host, into: path)
    let store = try ImageStore(path)
    #expect(try store.memory(of: second.image).read(PhysicalAddress(0), count: old.count) == old)
    // It becomes what that digest was of: an image that believed the digest would take it for unchanged.
    host.state.withLock { $0.bytes[5 * 4096] ^= 1 }
    let third = try Self.record(host, into: path)
    #expect(third.image.counts.read == 4096)
    #expect(try ImageStore(path).memory(of: third.image).read(PhysicalAddress(0), count: old.count) == host.bytes)
  }

  @Test(arguments: ImageFormat.allCases)
  func extractedIsWhatAnAcquisitionWrites(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    // Segments that begin and end within pages, two of which share one; and pages that cannot be read.
    let host = FarHost(
      Random.pages(2048, seed: 4), [(0x1000, 0x9f000), (0x100000, 0x200800), (0x300800, 0x80000), (0x500010, 0x2ffe0)])
    host.state.withLock { $0.bad = [0x105, 0x106, 0x510] }
    var contents = ImageContents(
      of: host.segments,
      kernel: KernelFacts(
        coreInfo: Array("OSRELEASE=6.1.0\n".utf8), release: "6.1.0", version: "#1 SMP",
        directMap: VirtualAddress(0xffff_8880_0000_0000), physicalBase: 0x100_0000))
    contents.remarks.append("HOST=x")
    let outcome = try Self.record(host, into: scratch.file("store"), contents: contents, rounds: 0)
    #expect(outcome.image.counts.unread == 3 * 4096)
    #expect(outcome.unread.map(\.start.rawValue) == [0x105000, 0x510000])
    let store = try ImageStore(scratch.file("store"))
    let stored = store.memory(of: try store.image("newest"))
    #expect(stored.segments == host.segments && stored.image.contents == contents)
    let one = try Acquisition(of: stored, stored.image.contents, as: format).run(to: .file(scratch.file("stored")))
    let other = try Acquisition(of: host, contents, as: format).run(to: .file(scratch.file("direct")))
    #expect(one.unread == other.unread)
    // Notes have times in them: begun and ended.
    func withoutTimes(_ bytes: [UInt8]) -> Data {
      var data = Data(bytes)
      for key in ["BEGAN=", "ENDED="] {
        if let place = data.range(of: Data(key.utf8)) { data.resetBytes(in: place.upperBound..<place.upperBound + 24) }
      }
      return data
    }
    #expect(withoutTimes(try scratch.read("stored")) == withoutTimes(try scratch.read("direct")))
  }

  @Test func interruptedGoesOnAndHasTheSameRoot() throws {
    let scratch = try Scratch()
    let host = FarHost(Random.pages(Self.pages, seed: 5))
    host.state.withLock { $0.bad = [7, 5000] }
    let path = scratch.file("store")
    #expect(throws: StoreError.self) { try Self.record(host, into: path) { _ in false } }
    #expect(throws: StoreError.self) { try Self.record(host, into: path) { _ in false } }
    #expect(try ImageStore(path).images().images.isEmpty)
    let before = host.state.withLock { $0.read }
    let whole = try Self.record(host, into: path)
    #expect(host.state.withLock { $0.read } - before <= 16 << 20, "only the last window is read")
    #expect(whole.image.counts.resumed == 32 << 20 && whole.image.counts.unread == 8192)
    #expect(try Self.record(host, into: scratch.file("other")).image.root == whole.image.root)
    #expect(try FileManager.default.contentsOfDirectory(atPath: path + "/begun").isEmpty)
    // Another boot is not gone on with.
    #expect(throws: StoreError.self) { try Self.record(host, into: path, identity: "boot 2") { _ in false } }
    #expect(try Self.record(host, into: path, identity: "boot 3").image.counts.resumed == 0)
  }

  /// Two images that are begun in one second, the second of which is not finished: what is known of the first stays as it was.
  @Test func interruptedTakesNothingFromTheOneBefore() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(8192, seed: 8))
    // Both lie in one second most times.
    for _ in 0..<3 {
      _ = try Self.record(host, into: path)
      #expect(throws: StoreError.self) { try Self.record(host, into: path) { _ in false } }
      // The next writer settles what it finds.
      _ = try ImageStore.writing(path)
      #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
    }
  }

  @Test func signedByWhomItSays() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(64, seed: 6))
    let signer = CertifierIdentity.generate()
    let signed = try Self.record(host, into: path, signer: signer).image
    let unsigned = try Self.record(host, into: path, name: "another").image
    let store = try ImageStore(path)
    #expect(try store.memory(of: signed).read(PhysicalAddress(0), count: 64 * 4096) == host.bytes)
    #expect(signed.signer == signer.publicKey && signed.isSignatureValid == true)
    #expect(unsigned.signer == nil && unsigned.isSignatureValid == nil)
    #expect(try store.verify(signed, key: signer.publicKey) { _ in }.problems == 0)
    #expect(try store.verify(signed, key: CertifierIdentity.generate().publicKey) { _ in }.problems == 1)
    #expect(try store.verify(unsigned, key: signer.publicKey) { _ in }.problems == 1)
    // Another signature, of another image: of a key that is right.
    var file = try scratch.read("store/images/\(signed.id)")
    file[file.count - 1] ^= 1
    try scratch.write(file, to: "store/images/\(signed.id)")
    #expect(try ImageStore(path).verify { _ in }.problems == 1)
  }

  @Test func oneWritesAndOthersRead() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(64, seed: 7))
    _ = try Self.record(host, into: path)
    let writer = try ImageStore.writing(path)
    #expect(reason { try ImageStore.writing(path) }.contains("written by another process"))
    #expect(try ImageStore(path).images().images.count == 1)
    withExtendedLifetime(writer) {}
    #expect(reason { try ImageStore(scratch.file("none")) }.contains("there is no store"))
    try scratch.write("x", to: "store2")
    #expect(reason { try ImageStore.writing(scratch.path, orNew: true) }.contains("other files"))
    #expect(mode(of: path + "/key") == 0o600)
  }

  @Test func prunedStoreHasTheOthersWholeAndIsSmaller() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(4096, seed: 8))
    let images = try (0..<4).map { index in
      host.change(percent: 20, seed: UInt64(index))
      return (try Self.record(host, into: path).image, host.bytes)
    }
    // One that was begun keeps what it has.
    let begun = FarHost(Random.pages(8192, seed: 9))
    #expect(throws: StoreError.self) { try Self.record(begun, into: path, name: "begun") { _ in false } }
    let before = try Self.size(path)
    let reader = try ImageStore(path)
    let pruned = try ImageStore.writing(path).prune([images[0].0, images[2].0])
    let after = try Self.size(path)
    #expect(pruned.freed > 1 << 20 && before - after > 1 << 20)
    for (image, bytes) in [images[1], images[3]] {
      // Whoever read meanwhile, and who opens it now.
      #expect(try reader.memory(of: image).read(PhysicalAddress(0), count: bytes.count) == bytes)
      #expect(try ImageStore(path).memory(of: image).read(PhysicalAddress(0), count: bytes.count) == bytes)
    }
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.images.map(\.id) == [images[1].0.id, images[3].0.id])
    #expect(try Self.record(begun, into: path, name: "begun").image.counts.resumed == 16 << 20)
    // The newest is still what the next is told from.
    let read = host.state.withLock { $0.read }
    _ = try Self.record(host, into: path)
    #expect(host.state.withLock { $0.read } == read)
  }
}
