import Detection
import Foundation
import KernelInfo
import KernelViews
import Lab
import Memory
import Testing

extension GuestTests {
  /// Hosts that erase or alter what they are known by: each is still looked at, and each of these is a finding.
  @Suite(.serialized) struct IdentityTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// A copy of a guest's memory, with what is changed in it put back after each change.
    private final class Copy {
      let url: URL
      let kernel: Kernel
      private let file: FileHandle
      private var undo: [(UInt64, Data)] = []

      init(of guest: Guest) throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("grass-identity-\(UUID().uuidString)")
        let copying = Process()
        copying.executableURL = URL(fileURLWithPath: "/bin/cp")
        copying.arguments = ["--sparse=always", guest.memoryPath, url.path]
        try Spawner.shared.start(copying)
        copying.waitUntilExit()
        kernel = try Kernel.open(try MemoryImage.open(url.path))
        file = try FileHandle(forUpdating: url)
      }

      deinit {
        try? file.close()
        try? FileManager.default.removeItem(at: url)
      }

      func write(_ bytes: [UInt8], at place: PhysicalAddress) throws {
        try file.seek(toOffset: place.rawValue)
        undo.append((place.rawValue, try #require(try file.read(upToCount: bytes.count))))
        try file.seek(toOffset: place.rawValue)
        try file.write(contentsOf: Data(bytes))
      }

      func write(_ bytes: [UInt8], at address: VirtualAddress) throws {
        try write(bytes, at: try kernel.addressSpace.translate(address))
      }

      func restore() throws {
        for (place, bytes) in undo.reversed() {
          try file.seek(toOffset: place)
          try file.write(contentsOf: bytes)
        }
        undo = []
      }

      func word(_ address: VirtualAddress) throws -> UInt64 {
        try kernel.addressSpace.read(address, count: 8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
      }

      func symbol(_ name: String) throws -> VirtualAddress { try #require(kernel.symbols.address(of: name), "\(name)") }

      func bytes(_ word: UInt64) -> [UInt8] { withUnsafeBytes(of: word) { Array($0) } }
    }

    /// One way to alter an identity, and how a piece of the finding's evidence begins.
    private struct Alteration: Sendable {
      let name: String
      let detector: String
      let evidence: String
      let apply: @Sendable (Copy) throws -> Void
    }

    private static let alterations: [Alteration] = [
      .init(name: "the note is erased", detector: "altered-identity", evidence: "the note for crash tools") { copy in
        try copy.write([UInt8](repeating: 0, count: 4096), at: copy.kernel.found.coreInfoAddress)
      },
      .init(name: "the note's text lies", detector: "altered-identity", evidence: "the note for crash tools") { copy in
        let text = try #require(copy.kernel.found.coreInfo).text
        let at = try #require(text.range(of: "SYMBOL(swapper_pg_dir)=ffffffff"))
        let offset = text.utf8.distance(from: text.startIndex, to: at.upperBound)
        try copy.write(Array("00000000".utf8), at: copy.kernel.found.coreInfoAddress + (24 + offset))
      },
      .init(name: "the symbols are erased", detector: "altered-identity", evidence: "symbols and types") { copy in
        let tables = try #require(copy.kernel.symbolTables)
        try copy.write([UInt8](repeating: 0, count: 512), at: tables.tokenIndex)
      },
      .init(name: "the types are erased", detector: "altered-identity", evidence: "symbols and types") { copy in
        let found = copy.kernel.found
        let start = try #require(
          found.coreInfo?.symbol("__start_BTF") ?? copy.kernel.symbols.address(of: "__start_BTF"))
        try copy.write(
          [UInt8](repeating: 0, count: 4096), at: try #require(found.physicalAddress(ofImage: start)))
      },
      .init(name: "the banner lies", detector: "altered-identity", evidence: "uname") { copy in
        try copy.write(Array("Linux version 9.9.9-none ".utf8), at: try copy.symbol("linux_banner"))
      },
      .init(name: "the top page table is emptied", detector: "altered-identity", evidence: "the top page table") {
        copy in
        try copy.write([UInt8](repeating: 0, count: 4096), at: copy.kernel.found.rootPageTable)
      },
      .init(name: "RAM is renamed", detector: "iomem-altered", evidence: "its name") { copy in
        let ram = try resource(copy)
        let name = try copy.kernel.types.structure("resource").field("name").offset
        try copy.write(copy.bytes(try copy.symbol("linux_banner").rawValue), at: ram + name)
      },
      .init(name: "RAM is taken out of the list", detector: "iomem-altered", evidence: "pages of all nodes") { copy in
        let type = try copy.kernel.types.structure("resource")
        let (ram, sibling) = (try resource(copy), try type.field("sibling").offset)
        let before = try resource(copy, before: ram)
        try copy.write(copy.bytes(try copy.word(ram + sibling)), at: before)
      },
    ]

    /// The largest resource of system RAM, or the place of the pointer to `next`.
    private static func resource(_ copy: Copy, before next: VirtualAddress? = nil) throws -> VirtualAddress {
      let type = try copy.kernel.types.structure("resource")
      func field(_ name: String) throws -> Int { try type.field(name).offset }
      var place = try copy.symbol("iomem_resource") + field("child")
      var largest: (address: VirtualAddress, size: UInt64)?
      for _ in 0..<256 {
        let address = VirtualAddress(try copy.word(place))
        if address == next { return place }
        if address.rawValue == 0 { break }
        let size = try copy.word(address + field("end")) &- copy.word(address + field("start"))
        if try copy.word(address + field("flags")) & 0x8100_0200 == 0x8100_0200, size > largest?.size ?? 0 {
          largest = (address, size)
        }
        place = try address + field("sibling")
      }
      return try #require(largest).address
    }

    @Test(arguments: standardGuests) func whatIsErasedIsFoundAndBlindsNobody(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let copy = try Copy(of: guest)
      let folder = copy.url.path + "-known"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let source = ["--memory", copy.url.path, "--known", folder]
      // Learned while it was well.
      let before = try grassctl.run(["ps", "--json"] + source)
      let detectors = ["--detector", "altered-identity", "--detector", "iomem-altered"]
      let quiet = try grassctl.run(["check", "--json"] + source + detectors)
      #expect(quiet.status == 0 && quiet.text == "[\n]\n", "\(quiet.text)\(quiet.errors)")
      for one in Self.alterations {
        try one.apply(copy)
        let checked = try grassctl.run(["check", "--json"] + source + detectors)
        #expect(checked.status == 5, "\(one.name): \(checked.text)\(checked.errors)")
        let findings = try JSONSerialization.jsonObject(with: Data(checked.text.utf8)) as? [[String: Any]] ?? []
        let found = findings.first { $0["detector"] as? String == one.detector }
        let evidence = (found?["evidence"] as? [[String: Any]] ?? []).compactMap { $0["what"] as? String }
        #expect(evidence.contains { $0.hasPrefix(one.evidence) }, "\(one.name): \(checked.text)")
        #expect(found?["severity"] as? String == "critical", "\(one.name)")
        // And it is looked at as before.
        let after = try grassctl.run(["ps", "--json"] + source)
        #expect(after.status == 0 && after.output == before.output, "\(one.name): \(after.errors)")
        try copy.restore()
      }
      let restored = try grassctl.run(["check", "--json"] + source + detectors)
      #expect(restored.text == "[\n]\n", "\(restored.text)")
    }

    /// A kernel that was opened while it was well sees its tables go.
    @Test func tablesThatAreErasedLaterAreSeen() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let copy = try Copy(of: guest)
      func altered() -> [String] {
        Check(detectors: [AlteredIdentity.self], pause: .zero).run(on: copy.kernel) { _ in }.findings.flatMap {
          $0.evidence.map(\.what)
        }
      }
      #expect(altered() == [])
      for (name, expected) in [
        ("the symbols are erased", "the table of symbols"), ("the types are erased", "the description of types"),
        ("the banner lies", "the banner"), ("the note's text lies", "the note for crash tools"),
        ("the top page table is emptied", "the top page table"),
      ] {
        try #require(Self.alterations.first { $0.name == name }).apply(copy)
        #expect(altered().contains(expected), "\(name): \(altered())")
        try copy.restore()
      }
      #expect(altered() == [])
    }
  }
}
