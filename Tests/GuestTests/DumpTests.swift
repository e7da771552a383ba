import Foundation
import Lab
import Testing

extension GuestTests {
  /// Images that `grassctl dump` writes of a guest that stands still, held against its memory and against what other
  /// programs make of them.
  @Suite(.serialized) struct DumpTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// A folder of its own, removed afterwards.
    private final class Folder {
      let url = FileManager.default.temporaryDirectory.appendingPathComponent("grass-dump-\(UUID().uuidString)")
      init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
      deinit { try? FileManager.default.removeItem(at: url) }
      func file(_ name: String) -> String { url.appendingPathComponent(name).path }
    }

    /// Runs another program; what it says comes with a failure.
    private func run(_ program: String, _ arguments: [String], environment: [String: String] = [:]) throws -> String {
      let process = Process()
      process.executableURL = URL(filePath: "/usr/bin/env")
      process.arguments = environment.map { "\($0)=\($1)" } + [program] + arguments
      process.standardInput = FileHandle.nullDevice
      let output = Pipe()
      process.standardOutput = output
      process.standardError = output
      try Spawner.shared.start(process)
      let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      try #require(process.terminationStatus == 0, "\(program): \(text)")
      return text
    }

    @Test(arguments: standardGuests)
    func everyFormatSaysWhatLiveMemorySays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      let raw = folder.file("of QEMU")
      try guest.dump(to: raw, format: .raw)
      let url = try #require(daemon.urls.last)
      for (name, arguments) in [
        ("elf", ["--format", "elf", "--memory", guest.memoryPath]), ("far elf", ["--host", url]),
        ("lime", ["--format", "lime", "--memory", guest.memoryPath]),
        ("raw", ["--format", "raw", "--memory", guest.memoryPath]),
        ("crash", ["--profile", "crash", "--memory", guest.memoryPath]),
      ] {
        let image = folder.file(name)
        let dump = try grassctl.run(["dump", "-o", image] + arguments)
        #expect(dump.status == 0, "\(name): \(dump.errors)")
        for command in [["ps", "--threads"], ["dmesg"], ["info"]] {
          // What a process wrote into its own memory is not the kernel's: no command lines in an image without it.
          if name == "crash", command[0] == "ps" { continue }
          let live = try grassctl.run(command + ["--json", "--memory", guest.memoryPath])
          let result = try grassctl.run(command + ["--json", "--memory", image])
          #expect(result.status == 0, "\(name): \(result.errors)")
          #expect(result.output == live.output, "\(command[0]) of \(name) differs")
        }
      }
      _ = try run("cmp", [raw, folder.file("raw")])
    }

    /// Frames of each class come from work that makes some: files on a disk in a file, large pages, processes' memory.
    @Test(arguments: standardGuests.filter { $0.kernel == "6.1" })
    func levelsLeaveOutWhatMakedumpfileLeavesOut(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      let work = try guest.run(
        """
        echo 6 > /proc/sys/vm/nr_hugepages
        mkdir -p /tmp/levels /tmp/large; mount -t tmpfs -o huge=always large /tmp/large
        seq 1 300000 > /tmp/levels/numbers; seq 1 900000 > /tmp/large/numbers; rm -f /tmp/large/none
        """)
      #expect(work.status == 0)
      defer {
        _ = try? guest.run("echo 0 > /proc/sys/vm/nr_hugepages; umount /tmp/large; rm -r /tmp/levels /tmp/large")
      }
      try guest.pause()
      defer { try? guest.resume() }
      let whole = folder.file("whole")
      #expect(try grassctl.run(["dump", "-o", whole, "--memory", guest.memoryPath]).status == 0)
      let all = try PageSets.elf(whole)
      var sizes: Set<Int> = []
      for level in [1, 2, 4, 8, 16, 31] {
        let (theirs, ours) = (folder.file("theirs"), folder.file("ours"))
        _ = try run("makedumpfile", ["-c", "-d", "\(level)", whole, theirs])
        let dump = try grassctl.run(["dump", "-o", ours, "--level", "\(level)", "--memory", guest.memoryPath])
        #expect(dump.status == 0, "\(dump.errors)")
        let (expected, found) = (try PageSets.kdump(theirs), try PageSets.elf(ours))
        #expect(found == expected, "level \(level): \(found.symmetricDifference(expected).sorted().prefix(8))")
        #expect(level == 1 ? found == all : found.isStrictSubset(of: all))
        sizes.insert(found.count)
        for path in [theirs, ours] { try FileManager.default.removeItem(atPath: path) }
      }
      #expect(sizes.count >= 5, "levels differ: \(sizes)")
    }
  }
}
