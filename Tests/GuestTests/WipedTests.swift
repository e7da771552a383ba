import Foundation
import KernelInfo
import KernelViews
import Lab
import Memory
import Testing

extension GuestTests {
  /// Kernels that nothing announces: the note that crash tools look for is overwritten.
  @Suite(.serialized) struct WipedTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func kernelIsFoundWithoutItsNote(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let copy = FileManager.default.temporaryDirectory.appendingPathComponent("grass-wiped-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: copy) }
      try guest.copyMemory(to: copy)
      let source = ["--memory", copy.path]
      let before = try grassctl.run(["ps", "--json"] + source)
      let found = try Kernel.open(try MemoryImage.open(copy.path)).found

      // Every page that starts as the note does, copies of it included. A guest this small has its RAM in one piece.
      let file = try FileHandle(forUpdating: copy)
      let page = Data(count: 4096)
      let memory = try #require(try MemoryImage.open(copy.path).first)
      var wiped = 0
      let name = Array("VMCOREINFO".utf8)
      for start in stride(from: 0, to: UInt64(guest.options.memory) << 20, by: 4096) {
        guard let header = try? memory.read(PhysicalAddress(start + 12), count: name.count), header == name else {
          continue
        }
        try file.seek(toOffset: start)
        try file.write(contentsOf: page)
        wiped += 1
      }
      #expect(wiped >= 1)
      try file.synchronize()

      let after = try grassctl.run(["ps", "--json"] + source)
      #expect(after.status == 0, "\(after.errors)")
      #expect(after.output == before.output && before.output.count > 1000)
      let again = try Kernel.open(try MemoryImage.open(copy.path)).found
      #expect(again.release == found.release && again.banner == found.banner)
      #expect(again.physicalBase == found.physicalBase && again.rootPageTable == found.rootPageTable)
      #expect(again.pagingLevels == found.pagingLevels && again.imageRange == found.imageRange)
      #expect(again.slide == found.slide)
      #expect(again.symbols.count == found.symbols.count)

      // Symbols and types of a build that was proven are kept; tables that are damaged then blind nobody, and that is said.
      let folder = copy.path + "-known"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let known = ["--known", folder]
      #expect(try grassctl.run(["ps", "--json"] + source + known).errors == "")
      for name in ["kallsyms_token_index", "__start_BTF"] {
        let address = try found.coreInfo?.symbol(name) ?? found.symbol(name)
        let place = try #require(found.physicalAddress(ofImage: address)).rawValue
        let byte = try memory.read(PhysicalAddress(place), count: 1)
        try file.seek(toOffset: place)
        try file.write(contentsOf: Data([byte[0] ^ 0x55]))
        #expect(try grassctl.run(["ps"] + source + ["--no-known"]).status == 3)
        let kept = try grassctl.run(["ps", "--json"] + source + known)
        #expect(kept.status == 0 && kept.output == before.output)
        #expect(kept.errors.contains("kept ones of this build"), "\(kept.errors)")
        try file.seek(toOffset: place)
        try file.write(contentsOf: Data(byte))
      }

      // So do those of the vendor's package, wherever the build runs, once an operator vouched for it. They are the same.
      let vendor = ["--known", folder + "/vendor"]
      #expect(try grassctl.run(["builds"] + vendor).status == 1)
      let package = try KernelStore().kernel(kind.kernel).image
      let approved = try grassctl.json(["builds", "approve", "--kernel", package.path] + vendor)
      let learned = try grassctl.json(["builds"] + known)
      #expect(approved.count == 1 && approved[0]["approved"] as? Bool == true)
      #expect(learned.count == 1 && learned[0]["digest"] as? String == approved[0]["digest"] as? String)
      #expect(learned[0]["release"] as? String == found.release && learned[0]["boots"] as? Int == 1)
      let types = try #require(found.physicalAddress(ofImage: try found.symbol("__start_BTF"))).rawValue
      let magic = try memory.read(PhysicalAddress(types), count: 1)
      try file.seek(toOffset: types)
      try file.write(contentsOf: Data([magic[0] ^ 0x55]))
      let lent = try grassctl.run(["ps", "--json"] + source + vendor)
      #expect(lent.status == 0 && lent.output == before.output && lent.errors.contains("kept ones"), "\(lent.errors)")
      let digest = try #require(approved[0]["digest"] as? String)
      #expect(try grassctl.run(["builds", "forget", String(digest.prefix(10))] + vendor).status == 0)
      #expect(try grassctl.run(["ps"] + source + vendor).status == 3)
      // One that was learned serves other hosts, too, from when it is vouched for.
      #expect(try grassctl.run(["builds", "approve", "zz"] + known).errors.contains("no build"))
      #expect(
        try grassctl.json(["builds", "approve", String(digest.prefix(10))] + known)[0]["approved"] as? Bool == true)
      try file.seek(toOffset: types)
      try file.write(contentsOf: Data(magic))

      // Without the kernel's banner nothing proves that these tables are a kernel's: what was tried is said.
      let banner = try #require(found.physicalAddress(ofImage: try found.symbol("linux_banner")))
      try file.seek(toOffset: banner.rawValue)
      try file.write(contentsOf: page.prefix(16))
      try file.close()
      let refused = try grassctl.run(["ps"] + source)
      #expect(refused.status == 3)
      #expect(refused.errors.contains("kallsyms") && refused.errors.contains("banner"), "\(refused.errors)")
    }
  }
}
