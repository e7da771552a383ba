import Foundation
import Testing

@testable import Lab

struct CPIOArchiveTests {
  @Test func writesHeaderNamePaddingAndContent() {
    var archive = CPIOArchive()
    archive.addFile("bin/a", Array("hello".utf8), executable: true)
    let expected =
      "070701"  // magic of newc
      + "00000001" + "000081ed"  // inode, mode: a regular file, 0755
      + "00000000" + "00000000" + "00000001" + "00000000"  // uid, gid, links, time
      + "00000005"  // size of the content
      + "00000000" + "00000000" + "00000000" + "00000000"  // device, device the entry stands for
      + "00000006" + "00000000"  // size of the name with its zero, check (unused)
      + "bin/a\0"  // 110 + 6 bytes are a multiple of 4
      + "hello\0\0\0"
    #expect(archive.bytes == Array(expected.utf8))
  }

  @Test func padsNameAndMarksDevicesAndLinks() {
    var archive = CPIOArchive()
    archive.addCharacterDevice("dev/console", major: 5, minor: 1)
    // 110 + 12 bytes, padded to 124.
    #expect(archive.bytes.count == 124)
    #expect(String(decoding: archive.bytes[14..<22], as: UTF8.self) == "00002180")
    #expect(String(decoding: archive.bytes[78..<94], as: UTF8.self) == "0000000500000001")
    archive.addLink("bin/sh", to: "busybox")
    #expect(String(decoding: archive.bytes[138..<146], as: UTF8.self) == "0000a1ff")
    #expect(archive.bytes.suffix(8) == Array("busybox\0".utf8)[...])
  }

  @Test func endsWithTrailer() {
    let bytes = CPIOArchive().finished()
    #expect(bytes.count == 124)
    #expect(String(decoding: bytes[110...], as: UTF8.self) == "TRAILER!!!\0\0\0\0")
  }
}

struct KernelStoreTests {
  private let releases = [
    "6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-56-rt-amd64", "6.12.117+deb12-cloud-amd64",
  ]

  private func withStore(_ body: (KernelStore) throws -> Void) throws {
    let cache = FileManager.default.temporaryDirectory.appendingPathComponent("grass-store-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: cache) }
    for release in releases + ["6.1.0-99-amd64"] {
      let folder = cache.appendingPathComponent("kernels").appendingPathComponent(release)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      // The last one was never fetched to its end.
      let name = releases.contains(release) ? "vmlinuz" : "vmlinuz.part"
      try Data([1]).write(to: folder.appendingPathComponent(name))
    }
    try body(KernelStore(cache: cache))
  }

  @Test(arguments: [
    ("6.1", "6.1.0-56-amd64"), ("6.1-rt", "6.1.0-56-rt-amd64"), ("6.12-cloud", "6.12.117+deb12-cloud-amd64"),
    ("6.1.0-9-amd64", "6.1.0-9-amd64"),
  ])
  func findsTheNewestOfALabelAndAnyRelease(name: String, release: String) throws {
    try withStore { store in
      let kernel = try store.kernel(name)
      #expect(kernel.release == release)
    }
  }

  @Test func saysWhatIsThereInsteadOfAnUnknownKernel() throws {
    try withStore { store in
      let error = #expect(throws: LabError.self) { try store.kernel("6.12") }
      #expect(error?.description.contains("there: 6.1, 6.1-rt, 6.12-cloud") == true)
    }
  }

  @Test func looksWhereSetupFetchesTo() {
    let home = FileManager.default.homeDirectoryForCurrentUser.path
    #expect(KernelStore.standardCache(["GRASS_CACHE": "/a", "XDG_CACHE_HOME": "/b"]).path == "/a")
    #expect(KernelStore.standardCache(["GRASS_CACHE": "", "XDG_CACHE_HOME": "/b"]).path == "/b/grass")
    #expect(KernelStore.standardCache(["XDG_CACHE_HOME": ""]).path == home + "/.cache/grass")
  }
}

struct LiMEWriterTests {
  @Test func writesAHeaderForEachRange() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-lime-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let raw = folder.appendingPathComponent("raw")
    let target = folder.appendingPathComponent("lime")
    try Data(0..<16).write(to: raw)
    try LiMEWriter.write(raw: raw, ranges: [0..<2, 8..<11], to: target)
    let expected: [UInt8] = [
      0x45, 0x4d, 0x69, 0x4c, 1, 0, 0, 0,  // magic, version
      0, 0, 0, 0, 0, 0, 0, 0,  // start
      1, 0, 0, 0, 0, 0, 0, 0,  // end, inclusive
      0, 0, 0, 0, 0, 0, 0, 0,  // reserved
      0, 1,
      0x45, 0x4d, 0x69, 0x4c, 1, 0, 0, 0,
      8, 0, 0, 0, 0, 0, 0, 0,
      10, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0,
      8, 9, 10,
    ]
    #expect(Array(try Data(contentsOf: target)) == expected)
  }
}
