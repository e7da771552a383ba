import Foundation
import Lab
import Testing

extension GuestTests {
  /// Patterns in a live guest's memory, and what they belong to.
  @Suite(.serialized) struct SearchTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func hitsNameTheirOwners(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]
      func owners(_ words: String...) throws -> [[String: Any]] {
        try grassctl.json(["search"] + words + source)
      }

      // The script itself must not hold what is looked for.
      _ = try guest.run(
        "a=GRASS; printf '%s-needle-%s' $a 4711 > /tmp/needle; sleep 998877$((60 + 6)) > /dev/null 2>&1 &"
      )
      let files = try owners("GRASS-needle-4711").filter { $0["owner"] as? String == "file" }
      let inode = try guest.run("ls -i /tmp/needle").text.split(separator: " ").first.map(
        String.init)
      #expect(
        files.contains {
          $0["name"] as? String == "needle" && $0["inode"] as? String == inode
            && $0["fs"] as? String == "tmpfs"
        },
        "\(files)")
      let arguments = try owners("99887766")
      #expect(arguments.contains { $0["owner"] as? String == "anon" }, "\(arguments)")

      let banner = try guest.run("cat /proc/version").text
      let data = try owners(String(banner.dropLast()))
      #expect(
        data.contains {
          $0["owner"] as? String == "kernel-data" && $0["symbol"] as? String == "linux_banner"
        })
      let code = try grassctl.run(["read", "schedule", "--count", "24", "--raw"] + source).output
      let text = try owners("--hex", code.map { String(format: "%02x", $0) }.joined())
      #expect(
        text.contains {
          $0["owner"] as? String == "kernel-text" && $0["symbol"] as? String == "schedule"
        }, "\(text)")
      // The names of processes lie in their task_structs.
      let slabs = try grassctl.json(["search", "workload", "--limit", "100000"] + source)
      #expect(
        slabs.contains {
          $0["owner"] as? String == "slab" && $0["cache"] as? String == "task_struct"
        })
      #expect(try owners("GRASS-no-such-needle-\(UInt64.random(in: 0 ... .max))").isEmpty)

      let strings = try grassctl.run(["strings", "--containing", "GRASS-needle-4711"] + source)
      #expect(strings.status == 0)
      // Text that ends where the page before does is of the same string.
      let ranges = strings.text.split(separator: "\n").compactMap { line -> Range<UInt64>? in
        let parts = line.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, let start = UInt64(parts[0].dropFirst(2), radix: 16) else { return nil }
        return start..<start + UInt64(parts[1].utf8.count)
      }
      let places = files.compactMap { ($0["address"] as? String).flatMap { UInt64($0.dropFirst(2), radix: 16) } }
      #expect(places.contains { place in ranges.contains { $0.contains(place) } }, "\(places), \(ranges)")
    }
  }
}
