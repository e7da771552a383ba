import Foundation
import Lab
import Testing

extension GuestTests {
  /// The shadow of memory that lies: bytes change everywhere under a mounted tree, as fast and as far as no kernel would.
  @Suite(.serialized) struct HostileShadowTests {
    /// Numbers that look random, and are the same in each run.
    private struct Numbers: RandomNumberGenerator {
      var state: UInt64

      mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
      }
    }

    /// No file may be longer: that is the most that the shadow makes of one, less what it reads of the memory itself.
    private static let mostBytes = 256 << 20
    /// Seconds after which one file counts as one that has no end.
    private static let patience = 120.0

    /// One of the guests of the tests of files.
    @Test(arguments: [UInt64(1)])
    func treeOfAFuzzedKernelCanBeWalked(_ seed: UInt64) throws {
      var kind = standardGuests[1]
      kind.memory = 768
      let guest = try SharedGuests.shared.guest(kind)
      _ = try guest.run("ip link set lo up; [ -e /sys/module/dummy ] || insmod /modules/dummy.ko")
      let copy = FileManager.default.temporaryDirectory.appendingPathComponent("grass-hostile-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: copy) }
      try guest.copyMemory(to: copy)
      let file = open(copy.path, O_RDWR)
      defer { close(file) }
      let size = kind.memory << 20
      let base = try #require(mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0))
      defer { munmap(base, size) }
      let words = UnsafeMutableBufferPointer(start: base.assumingMemoryBound(to: UInt64.self), count: size / 8)
      var numbers = Numbers(state: seed)

      try MountedShadow.with(["--memory", copy.path]) { shadow in
        let before = try Self.walk(shadow.path)
        #expect(before.count > 1000)
        let stays = ["proc/version", "proc/1/stat", "proc/modules", "proc/1/maps"].map { Self.read(shadow.path, $0) }
        #expect(stays.allSatisfy { $0 > 0 })

        var changed: [(place: Int, word: UInt64)] = []
        // A name that leads elsewhere, and one that speaks to a terminal.
        for (name, other) in [("dummy0\0", "../../\0"), ("dummy\0", "\u{1b}[2J\n\0")] {
          Self.replace(Array(name.utf8), by: Array(other.utf8), in: words, &changed)
        }
        #expect(changed.count > 2)
        try Self.walk(shadow.path, 1)

        for (part, share) in [1000, 100].enumerated() {
          for _ in 0..<words.count / share {
            let place = Int.random(in: 0..<words.count, using: &numbers)
            // What nobody uses shows nothing.
            guard words[place] != 0 else { continue }
            changed.append((place, words[place]))
            words[place] = Self.lie(words[place], &numbers)
          }
          try Self.walk(shadow.path, part + 1)
          Self.runTools(shadow.path)
        }

        for change in changed.reversed() { words[change.place] = change.word }
        // What was kept for a moment, five seconds at most, is gone.
        usleep(5_200_000)
        let after = try Self.walk(shadow.path)
        #expect(after == before, "\(after.symmetricDifference(before).sorted().prefix(20))")
        let now = ["proc/version", "proc/1/stat", "proc/modules", "proc/1/maps"].map { Self.read(shadow.path, $0) }
        #expect(now == stays)
      }
    }

    /// Another word: near it, far from it, a pointer to another place, or one bit of it.
    private static func lie(_ word: UInt64, _ numbers: inout Numbers) -> UInt64 {
      switch numbers.next() % 6 {
      case 0: numbers.next()
      case 1: word ^ 1 << (numbers.next() % 64)
      case 2: word &+ 8
      case 3: word & ~0xff_ffff | numbers.next() & 0xff_fff8
      case 4: .max
      default: 0
      }
    }

    /// Writes `other` wherever `name` is, each as long as the other.
    private static func replace(
      _ name: [UInt8], by other: [UInt8], in words: UnsafeMutableBufferPointer<UInt64>,
      _ changed: inout [(place: Int, word: UInt64)]
    ) {
      let bytes = UnsafeMutableRawBufferPointer(words)
      guard let start = bytes.baseAddress else { return }
      var from = 0
      while let found = memchr(start + from, Int32(name[0]), bytes.count - from) {
        let place = UnsafeRawPointer(found) - UnsafeRawPointer(start)
        from = place + 1
        guard place + name.count <= bytes.count, memcmp(found, name, name.count) == 0 else { continue }
        for index in place / 8...(place + name.count - 1) / 8 { changed.append((index, words[index])) }
        for (index, byte) in other.enumerated() { bytes[place + index] = byte }
      }
    }

    /// All names below the tree, none of which can hurt; a third of the files, another one each time, is read to its end.
    @discardableResult private static func walk(_ path: String, _ part: Int = 0) throws -> Set<String> {
      let find = Process()
      find.executableURL = URL(fileURLWithPath: "/usr/bin/find")
      find.currentDirectoryURL = URL(fileURLWithPath: path)
      find.arguments = ["proc", "sys", "dev", "-print0"]
      let output = Pipe()
      (find.standardOutput, find.standardError) = (output, FileHandle.nullDevice)
      find.standardInput = FileHandle.nullDevice
      try Spawner.shared.start(find)
      let found = [UInt8](output.fileHandleForReading.readDataToEndOfFile()).split(separator: 0)
      find.waitUntilExit()
      for name in found {
        let text = String(decoding: name, as: UTF8.self).debugDescription
        #expect(name.allSatisfy { $0 >= 0x20 && $0 != 0x7f }, "\(text)")
        #expect(!name.split(separator: UInt8(ascii: "/")).contains(Array("..".utf8)[...]))
      }
      // Whoever asks finds itself there, and is another one each time.
      let names = Set(found.map { String(decoding: $0, as: UTF8.self) }.filter { !$0.contains("self/task/") })
      for (index, name) in names.sorted().enumerated() where index % 3 == part {
        var status = stat()
        guard lstat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
        let start = Date()
        let count = read(path, name)
        #expect(count <= mostBytes, "\(name)")
        #expect(Date().timeIntervalSince(start) < patience, "\(name)")
      }
      return names
    }

    /// How many bytes a file has until its end, or one more than are allowed; negative where it cannot be read.
    private static func read(_ path: String, _ name: String) -> Int {
      let file = open("\(path)/\(name)", O_RDONLY | O_NONBLOCK)
      guard file >= 0 else { return -1 }
      defer { close(file) }
      var total = 0
      var buffer = [UInt8](repeating: 0, count: 1 << 17)
      while total <= mostBytes {
        let count = Glibc.read(file, &buffer, buffer.count)
        guard count > 0 else { return count < 0 ? -1 : total }
        total += count
      }
      return total
    }

    /// Programs that walk trees, and one that reads processes, come to their end.
    private static func runTools(_ path: String) {
      for command in [
        "tar -C '\(path)' --ignore-failed-read -cf - proc sys dev | wc -c",
        "find '\(path)/proc' -type l -exec readlink {} + | wc -l",
        "unshare -m sh -c \"mount --bind '\(path)/proc' /proc && ps -eLf | wc -l\"",
      ] {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        shell.arguments = ["300", "sh", "-c", command]
        (shell.standardOutput, shell.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        shell.standardInput = FileHandle.nullDevice
        do { try Spawner.shared.start(shell) } catch { Issue.record(error) }
        shell.waitUntilExit()
        // 124 is one that had to be stopped.
        #expect(shell.terminationReason == .exit && shell.terminationStatus != 124, "\(command)")
      }
    }
  }
}
