import Foundation
import Lab
import Testing

extension GuestTests {
  /// Views that are no more than their declarations, against the live guest's own /proc and /sys.
  @Suite(.serialized) struct DeclaredViewTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func swapsAreThoseOfProc(_ kind: GuestOptions) throws {
      try compareSwaps(try SharedGuests.shared.guest(kind))
    }

    @Test(arguments: standardGuests) func parametersAreThoseOfSys(_ kind: GuestOptions) throws {
      try compareParameters(try SharedGuests.shared.guest(kind))
    }

    @Test(arguments: standardGuests) func processorsAreThoseOfProc(_ kind: GuestOptions) throws {
      try compareProcessors(try SharedGuests.shared.guest(kind))
    }

    @Test(arguments: otherKernels) func otherKernelsHaveThemToo(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try compareSwaps(guest)
      try compareParameters(guest)
      try compareProcessors(guest)
    }

    // MARK: Each of them

    private func compareSwaps(_ guest: Guest) throws {
      let hasDisks = try ExpertTests.loadDevices(guest)
      // A disk and a file on a disk, a little of which is used by a group whose memory is limited.
      let made =
        !hasDisks
        ? nil
        : try guest.run(
          """
          mkdir -p /tmp/swap/mount /tmp/swap/groups; cd /tmp/swap
          dd if=/dev/zero of=first bs=1M count=24 2> /dev/null; dd if=/dev/zero of=second bs=1M count=8 2> /dev/null
          losetup /dev/loop5 first && mkswap /dev/loop5 > /dev/null && swapon /dev/loop5 || exit 1
          mkdosfs second && losetup /dev/loop6 second && mount -t vfat /dev/loop6 mount || exit 1
          dd if=/dev/zero of=mount/file bs=64k count=64 2> /dev/null; mkswap mount/file > /dev/null || exit 1
          swapon mount/file || exit 1
          mount -t cgroup2 none groups; echo +memory > groups/cgroup.subtree_control; mkdir groups/swapping || exit 1
          echo 4M > groups/swapping/memory.max || exit 1
          sh -c 'echo $$ > groups/swapping/cgroup.procs; exec dd if=/dev/zero of=filled bs=1M count=12' 2> /dev/null
          sleep 1
          """)
      defer {
        _ = try? guest.run(
          """
          cd /tmp/swap && rm -f filled; swapoff /dev/loop5; swapoff mount/file; umount mount; rmdir groups/swapping
          umount groups; losetup -d /dev/loop5; losetup -d /dev/loop6; cd /; rm -rf /tmp/swap
          """, timeout: .seconds(120))
      }
      #expect(made?.status ?? 0 == 0, "\(made?.text ?? "")")
      func oracle() throws -> [[String]] {
        try guest.run("tail -n +2 /proc/swaps").text.split(separator: "\n").map {
          $0.split(whereSeparator: \.isWhitespace).map(String.init)
        }
      }
      let before = try oracle()
      let printed = try grassctl.json(["swaps", "--memory", guest.memoryPath])
      let after = try oracle()
      #expect(printed.count == before.count && before.count == after.count && (printed.count == 2) == hasDisks)
      for (area, (first, last)) in zip(printed, zip(before, after)) {
        // Filename, type, size, used, priority.
        let words = try ["filename", "type", "size", "priority"].map { "\(try #require(area[$0]))" }
        #expect(words == [0, 1, 2, 4].map { first[$0] }, "\(area), the guest says \(first)")
        let (low, high) = (try #require(Int(first[3])), try #require(Int(last[3])))
        let used = try #require(area["used"] as? Int)
        #expect((min(low, high)...max(low, high)).contains(used), "\(used), the guest says \(low) to \(high)")
      }
      if hasDisks { #expect(before.contains { $0.count > 3 && $0[3] != "0" }, "nothing was swapped out: \(before)") }
    }

    private func compareParameters(_ guest: Guest) throws {
      try ExpertTests.loadDevices(guest)
      // The file name stands before each line.
      func oracle() throws -> [Substring] {
        try guest.run("cd /sys/module && grep -s '' */parameters/* | head -c 200000").text.split(separator: "\n")
      }
      let files = try oracle()
      let printed = try grassctl.json(["parameters", "--memory", guest.memoryPath])
      // Some the kernel sets itself: what is printed is what they were before or after.
      let later = Set(try oracle())
      var known: [String: [String: Any]] = [:]
      for parameter in printed {
        known["\(parameter["module"] ?? "")/parameters/\(parameter["name"] ?? "")"] = parameter
      }
      var compared: [String: Int] = [:]
      for line in files {
        guard let colon = line.firstIndex(of: ":") else { continue }
        let (file, text) = (String(line[..<colon]), String(line[line.index(after: colon)...]))
        let parameter = try #require(known[file], "\(file) is missing")
        let type = try #require(parameter["type"] as? String)
        let value: String
        switch parameter["value"] {
        case let flag as Bool where type.hasSuffix("bool"): value = flag ? "Y" : "N"
        case let number as Int: value = type.hasSuffix("hexint") ? String(format: "%#08x", number) : "\(number)"
        case let words as String: value = words
        default: continue
        }
        #expect(value == text || later.contains("\(file):\(value)"), "\(file), of type \(type)")
        compared[type, default: 0] += 1
      }
      #expect(compared.values.reduce(0, +) > 100 && compared.count >= 5, "\(compared)")
    }

    private func compareProcessors(_ guest: Guest) throws {
      let blocks = try guest.run("cat /proc/cpuinfo").text.components(separatedBy: "\n\n")
      let wanted = blocks.map { block in
        Dictionary(
          block.split(separator: "\n").map { line in
            let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            return (parts[0], parts.count > 1 ? parts[1] : "")
          }, uniquingKeysWith: { first, _ in first })
      }.filter { !$0.isEmpty }
      let printed = try grassctl.json(["cpuinfo", "--memory", guest.memoryPath])
      #expect(printed.count == wanted.count && wanted.count == guest.options.cpus)
      for (cpu, said) in zip(printed, wanted) {
        for (key, name) in [
          ("cpu", "processor"), ("vendor", "vendor_id"), ("family", "cpu family"), ("model", "model"),
          ("name", "model name"), ("stepping", "stepping"), ("microcode", "microcode"),
        ] {
          // The kernel leaves out a microcode of zero.
          let text = said[name] ?? "0x0"
          #expect("\(cpu[key] ?? "")".trimmingCharacters(in: .whitespaces) == text, "\(key)")
        }
        for (key, name) in [("flags", "flags"), ("bugs", "bugs")] {
          let words = try #require(cpu[key] as? [String])
          #expect(words == said[name]?.split(separator: " ").map(String.init) ?? [], "\(key)")
          if key == "flags" { #expect(words.count > 20) }
        }
      }
    }
  }
}
