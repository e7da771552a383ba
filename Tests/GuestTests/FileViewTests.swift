import Foundation
import Lab
import Testing

extension GuestTests {
  /// Mounts, mappings, open files and modules of a live guest, against its own /proc.
  @Suite(.serialized) struct FileViewTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Mounts of every kind: read-only binds, shared and slave groups, names with blanks, a disk in a file that is removed,
    /// and a namespace of its own.
    private func guest(_ kind: GuestOptions) throws -> Guest {
      let guest = try SharedGuests.shared.guest(kind)
      let disk =
        try ExpertTests.loadDevices(guest)
        ? "mkdosfs /tmp/disk && losetup /dev/loop0 /tmp/disk && mount -t vfat -o uid=5 /dev/loop0 /tmp/loop"
        : "mount -t tmpfs -o size=1m disk /tmp/loop"
      let done = try guest.run(
        """
        [ -e /tmp/mounted ] && exit 0
        mkdir -p "/tmp/a b" /tmp/bind /tmp/shared /tmp/slave
        mount -t tmpfs -o size=1m,mode=755 "some tmpfs" "/tmp/a b" || exit 1
        mkdir "/tmp/a b/part" && mount --bind "/tmp/a b/part" /tmp/bind || exit 1
        mount -o remount,ro,bind,nosuid,nodev,noexec /tmp/bind || exit 1
        mount -t tmpfs shared /tmp/shared && mount --make-shared /tmp/shared || exit 1
        mount --bind /tmp/shared /tmp/slave && mount --make-slave /tmp/slave || exit 1
        mkdir -p "/tmp/loop" && dd if=/dev/zero of=/tmp/disk bs=64k count=16 2> /dev/null || exit 1
        \(disk) || exit 1
        echo on the disk > /tmp/loop/file; sleep 77004 < /tmp/loop/file > /dev/null 2>&1 &
        exec 7<>/tmp/loop/gone; echo gone >&7; rm /tmp/loop/gone; sleep 77004 > /dev/null 2>&1 &
        exec 7<&-; rm /tmp/disk
        unshare -m sh -c 'mount -t tmpfs inside /root; exec sleep 77002' > /dev/null 2>&1 &
        sleep 77003 | cat > /dev/null 2>&1 &
        touch /tmp/mounted; sleep 1
        """)
      #expect(done.status == 0, "\(done.text)")
      return guest
    }

    @Test(arguments: standardGuests) func mountsAreThoseOfMountinfo(_ kind: GuestOptions) throws {
      let guest = try guest(kind)
      let inside = try #require(
        Int(try guest.run("grep -l 77002 /proc/[0-9]*/cmdline").text.split(separator: "/").dropFirst().first ?? ""))
      for pid in [1, inside] {
        let lines = try guest.run("cat /proc/\(pid)/mountinfo").text.split(separator: "\n").map { line in
          let words = line.split(separator: " ").map { Self.unescaped(String($0)) }
          let dash = words.firstIndex(of: "-") ?? words.count
          // Of the file system's own options only the first is one that all have.
          return (Array(words[..<dash]) + Array(words[(dash + 1)...(dash + 2)])).joined(separator: "|")
        }
        let printed = try grassctl.json(["mount", "--pid", "\(pid)", "--memory", guest.memoryPath]).map { mount in
          let lists = ["options", "propagation"].map { mount[$0] as? [String] ?? [] }
          let words: [String] =
            ["\(mount["id"] ?? "")", "\(mount["parent"] ?? "")"]
            + ["device", "root", "target"].map { mount[$0] as? String ?? "" } + [lists[0].joined(separator: ",")]
            + lists[1] + ["fstype", "source"].map { mount[$0] as? String ?? "" }
          return words.joined(separator: "|")
        }
        #expect(printed == lines)
        #expect(printed.count >= 12)
        let disk = kind.lacksModules ? "|tmpfs|disk" : "|vfat|/dev/loop0"
        #expect(printed.contains { $0.contains("|/tmp/loop|") && $0.hasSuffix(disk) }, "\(printed)")
        #expect(printed.contains { $0.contains("|/tmp/a b|") && $0.hasSuffix("|tmpfs|some tmpfs") })
      }
    }

    @Test(arguments: standardGuests) func filesAreThoseOfProc(_ kind: GuestOptions) throws {
      let guest = try guest(kind)
      // The shell that looks has files open itself, and is gone afterwards.
      let script = "for f in /proc/[0-9]*/fd/*; do echo \"$f|$(readlink \"$f\")\"; done 2>/dev/null"
      func look() throws -> Set<String> {
        Set(try guest.run(script).text.split(separator: "\n").map(String.init).filter { !$0.hasSuffix("|") })
      }
      let before = try look()
      let result = try grassctl.json(["lsof", "--memory", guest.memoryPath])
      let stable = before.intersection(try look())
      let printed = Set(
        result.map { "/proc/\($0["pid"] ?? "")/fd/\($0["fd"] ?? "")|\($0["name"] as? String ?? "")" })
      // The agent's own are others while it runs a command.
      let agents = Set(
        before.filter { $0.hasSuffix("|/tmp/.output") }.map { $0.split(separator: "/")[1] })
      #expect(stable.subtracting(printed).filter { !agents.contains($0.split(separator: "/")[1]) }.sorted() == [])
      #expect(stable.count > 100)
      for name in [
        "pipe:[", "socket:[", "anon_inode:[eventpoll]", "anon_inode:inotify", "/memfd:grass memory (deleted)",
        "/tmp/gone file (deleted)", "uts:[", "/tmp/loop/file", "/tmp/loop/gone (deleted)",
      ] { #expect(printed.contains { $0.contains("|\(name)") }, "\(name)") }
      let gone = result.filter { $0["fd"] as? Int == 700 }
      #expect(gone.count == 1 && gone[0]["position"] as? Int == 3 && gone[0]["size"] as? Int == 10)
      #expect(gone.first?["links"] as? Int == 0 && gone.first?["type"] as? String == "REG")
    }

    @Test(arguments: standardGuests) func mappingsAreThoseOfMaps(_ kind: GuestOptions) throws {
      let guest = try guest(kind)
      for name in ["files", "threads", "init"] {
        let pid = name == "init" ? "1" : try guest.run("pidof \(name)").text.filter { $0.isNumber }
        let lines = try guest.run("cat /proc/\(pid)/maps").text.split(separator: "\n").map { line in
          let words = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true).map(String.init)
          let file = words.count > 5 ? words[5].trimmingCharacters(in: .whitespaces) : ""
          let range = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
          let device = words[3].split(separator: ":").compactMap { UInt64($0, radix: 16) }
          return
            "\(range[0])-\(range[1]) \(words[1]) \(UInt64(words[2], radix: 16) ?? 0) \(device[0]):\(device[1]) \(words[4]) \(file)"
        }
        let printed = try grassctl.json(["maps", pid, "--memory", guest.memoryPath]).map { mapping in
          let ends = ["start", "end"].map { UInt64((mapping[$0] as? String ?? "").dropFirst(2), radix: 16) ?? 0 }
          return "\(ends[0])-\(ends[1]) \(mapping["permissions"] ?? "") \(mapping["offset"] ?? "") "
            + "\(mapping["device"] ?? "") \(mapping["inode"] ?? "") \(mapping["name"] ?? "")"
        }
        #expect(printed == lines.filter { !$0.hasSuffix("[vsyscall]") }, "\(name)")
        #expect(name != "files" || printed.count > 400)
      }
    }

    @Test func modulesAreThoseOfProc() throws {
      let network = GuestOptions.Network(address: "10.0.9.1", cable: "grass-modules-\(getpid())", holdsCable: true)
      let guest = try SharedGuests.shared.own(GuestOptions(kernel: "6.1", memory: 512, sleepers: nil, network: network))
      defer { guest.shutDown() }
      let lines = try guest.run("cut -d ' ' -f 1-5 /proc/modules").text.split(separator: "\n").map(String.init)
      let printed = try grassctl.json(["lsmod", "--memory", guest.memoryPath]).map { module in
        let users = module["used_by"] as? [String] ?? []
        return "\(module["name"] ?? "") \(module["size"] ?? "") \(module["refcount"] ?? "") "
          + "\(users.isEmpty ? "-" : users.map { $0 + "," }.joined()) \(module["state"] ?? "")"
      }
      #expect(printed == lines)
      #expect(printed.count > 15)
      // The modules of the distribution are of the kernel's own source and signed.
      let states = try grassctl.run(["lsmod", "--memory", guest.memoryPath]).text.split(separator: "\n")
      #expect(states.first?.split(separator: " ") == ["MODULE", "SIZE", "USED", "STATE", "TAINTS", "BY"])
      #expect(states.dropFirst().allSatisfy { $0.contains(" Live ") })
    }

    /// /proc/PID/mountinfo writes blanks as octal numbers.
    private static func unescaped(_ text: String) -> String {
      text.replacingOccurrences(of: "\\040", with: " ")
    }
  }
}
