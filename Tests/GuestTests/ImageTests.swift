import Foundation
import Lab
import Testing

extension GuestTests {
  /// Every image format of a guest that stands still gives the very answers that its live RAM gives.
  @Suite(.serialized) struct ImageTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests)
    func everyFormatSaysWhatLiveMemorySays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let directory = FileManager.default.temporaryDirectory.appendingPathComponent("grass-images-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: directory) }
      let raw = directory.appendingPathComponent("raw")
      let core = directory.appendingPathComponent("core")
      let lime = directory.appendingPathComponent("lime")
      try guest.pause()
      defer { try? guest.resume() }
      try guest.dump(to: raw.path, format: .raw)
      try guest.dump(to: core.path, format: .elf)
      // As the module would: the ranges of System RAM, without the hole below 1 MiB.
      try LiMEWriter.write(raw: raw, ranges: [0x1000..<0x9f000, 0x10_0000..<UInt64(kind.memory) << 20], to: lime)
      for command in [["ps", "--threads"], ["dmesg"], ["info"]] {
        let live = try grassctl.run(command + ["--json", "--memory", guest.memoryPath])
        #expect(live.status == 0, "\(live.errors)")
        #expect(live.output.count > 500)
        for image in [raw, core, lime] {
          let result = try grassctl.run(command + ["--json", "--memory", image.path])
          #expect(result.status == 0, "\(image.lastPathComponent): \(result.errors)")
          #expect(result.output == live.output, "\(command[0]) of \(image.lastPathComponent) differs")
        }
      }
    }

    /// Above 2.75 GiB q35 splits RAM around the PCI hole: the file's offsets are then not physical addresses.
    @Test func largeGuestIsReadAroundTheHole() throws {
      let guest = try SharedGuests.shared.own(GuestOptions(kernel: "6.1", memory: 4096, sleepers: 5))
      defer { guest.shutDown() }
      let before = try TaskOracle(guest, threads: true)
      let printed = try grassctl.json(["ps", "--threads", "--memory", guest.memoryPath])
      try compareTasks(printed, before, try TaskOracle(guest, threads: true))
      let host = try #require(try grassctl.json(["info", "--memory", guest.memoryPath]).first)
      let total = try #require((host["meminfo"] as? [String: Int])?["MemTotal"])
      #expect(total > 3_800_000)
    }
  }
}
