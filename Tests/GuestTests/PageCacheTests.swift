import Foundation
import Lab
import Testing

extension GuestTests {
  /// The page cache of a live guest: its files, and their contents against the guest's own checksums.
  @Suite(.serialized) struct PageCacheTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func filesAndTheirContentsAreTheGuests(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]
      // In tmpfs of small and of large pages, in the root's ramfs, with a hole, and one that is open and removed.
      let sums = try guest.run(
        """
        mkdir -p /tmp/cache /tmp/huge; mount -t tmpfs -o huge=always large /tmp/huge || exit 1
        seq 1 200000 > /tmp/cache/numbers; seq 5 60000 > "/root/in the root"; seq 7 900000 > /tmp/huge/numbers
        dd if=/tmp/cache/numbers of=/tmp/cache/sparse bs=4096 count=3 seek=700 2> /dev/null
        exec 7<>/tmp/cache/gone; seq 9 30000 >&7; rm /tmp/cache/gone; sleep 88001 > /dev/null 2>&1 &
        echo $! > /tmp/holder
        sync
        cd /tmp; md5sum /tmp/cache/numbers "/root/in the root" /tmp/huge/numbers /tmp/cache/sparse /bin/busybox
        echo "$(md5sum < /proc/$!/fd/7 | cut -c 1-32)  /tmp/cache/gone (deleted)"
        """)
      #expect(sums.status == 0)
      defer { _ = try? guest.run("kill $(cat /tmp/holder); umount /tmp/huge; rm -r /tmp/cache '/root/in the root'") }
      let files = try grassctl.json(["files"] + source)
      let output = FileManager.default.temporaryDirectory.appendingPathComponent("grass-file-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: output) }
      let lines = sums.text.split(separator: "\n")
      #expect(lines.count == 6, "\(sums.text)")
      for line in lines {
        let name = String(line.dropFirst(34))
        let file = try #require(files.first { $0["name"] as? String == name }, "\(name)")
        let size = try #require(file["size"] as? Int)
        if !name.hasSuffix("sparse") { #expect(file["cached"] as? Int ?? 0 >= (size + 4095) / 4096) }
        let got = try grassctl.run(["files", "get", name, "-o", output.path] + source)
        #expect(got.status == 0, "\(name): \(got.errors)")
        #expect(try Data(contentsOf: output).count == size)
        #expect(try ExpertTests.md5(of: output) == line.prefix(32), "\(name)")
      }
      let memory = try #require(files.first { $0["name"] as? String == "/memfd:grass memory (deleted)" } ?? files.first)
      #expect(memory["device"] as? String != nil)
      #expect(try grassctl.run(["files", "get", "/no such file", "-o", output.path] + source).status == 3)
    }
  }
}
