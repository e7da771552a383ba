import Foundation
import Lab
import Links
import Memory
import Remote
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

    /// What images say of the kernel in them is looked at of each; how memory gets into a file, which no kernel knows of, of the first.
    @Test(arguments: standardGuests)
    func everyFormatSaysWhatLiveMemorySays(_ kind: GuestOptions) throws {
      let isFirst = kind == standardGuests[0]
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      let daemon = try GrassDaemon(memory: guest.memoryPath, options: ["--acquire-unsealed"])
      defer { daemon.stop() }
      let url = try #require(daemon.urls.last)
      func live(_ arguments: [String]) throws -> (arguments: [String], answer: [UInt8]) {
        let result = try grassctl.run(arguments + ["--memory", guest.memoryPath])
        #expect(result.status == 0 && result.output.count > 500, "\(result.errors)")
        return (arguments, result.output)
      }
      let (tasks, log) = (try live(["ps", "--threads", "--json"]), try live(["dmesg", "--json"]))
      for (name, arguments) in [
        ("elf", ["--format", "elf", "--memory", guest.memoryPath]), ("far elf", ["--host", url]),
        ("past the device", ["--format", "raw", "--host", url, "--unsealed"]),
        ("lime", ["--format", "lime", "--memory", guest.memoryPath]),
        ("raw", ["--format", "raw", "--memory", guest.memoryPath]),
        ("kdump", ["--format", "kdump", "--memory", guest.memoryPath]),
        ("crash", ["--profile", "crash", "--memory", guest.memoryPath]),
      ] where isFirst || ["elf", "kdump", "crash"].contains(name) {
        let image = folder.file(name)
        let dump = try grassctl.run(["dump", "-o", image] + arguments)
        #expect(dump.status == 0, "\(name): \(dump.errors)")
        // What a process wrote into its own memory is not the kernel's: no command lines in an image without it.
        let command = name == "crash" ? log : tasks
        let result = try grassctl.run(command.arguments + ["--memory", image])
        #expect(result.status == 0, "\(name): \(result.errors)")
        #expect(result.output == command.answer, "\(command.arguments[0]) of \(name) differs")
      }
      guard isFirst else { return }
      let raw = folder.file("of QEMU")
      try guest.dump(to: raw, format: .raw)
      for name in ["raw", "past the device"] { _ = try runProgram("cmp", [raw, folder.file(name)]) }
    }

    /// A guest that goes on meanwhile, and counts on its pages, 200 MB of them a second: what the image says is of one instant does not
    /// contradict itself, and a mere copy does.
    @Test(arguments: standardGuests.filter { $0.kernel == "6.1" })
    func aRunningGuestIsOfOneInstant(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      let pages = 65_536
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      var rate = 48
      func stamp() throws {
        let started = try guest.run(
          """
          kill -9 $(cat /tmp/stamps.pid); MODE=stamps workload \(pages) \(rate) > /tmp/stamps & echo $! > /tmp/stamps.pid
          for i in $(seq 600); do grep -q stamped /tmp/stamps && break; sleep 0.1; done; cat /tmp/stamps
          """, timeout: .seconds(90))
        try #require(started.text.contains("stamped"), "\(started.text)")
      }
      defer { _ = try? guest.run("kill -9 $(cat /tmp/stamps.pid); rm -f /tmp/stamps.pid") }
      try stamp()
      /// The counts of the pages of an image that are of its instant, and how many pages have two.
      func counts(_ arguments: [String], slowly: Bool = false) throws -> (counts: [UInt64], torn: Int, note: String) {
        let path = folder.file("image")
        if slowly {
          // As over a long line: whoever takes it waits after each piece, so that the copy takes many of the guest's rounds.
          let tool = BuiltTool.directory.appendingPathComponent("grassctl").path
          let dump = (["'\(tool)'", "dump", "-o", "-", "--format", "raw"] + arguments).joined(separator: " ")
          let taker =
            "while dd bs=32M count=1 iflag=fullblock 2>/dev/null >piece && [ -s piece ]; do cat piece; sleep 0.15; done"
          _ = try runProgram(
            "sh", ["-c", "cd '\(folder.url.path)' && \(dump) 2>image.notes | { \(taker); rm -f piece; } >image"])
        } else {
          let result = try grassctl.run(["dump", "-o", path, "--format", "raw"] + arguments)
          try #require(result.status == 0, "\(result.errors)")
        }
        let moved = FileManager.default.contents(atPath: path + ".moved").flatMap { MovedFrames(record: Array($0)) }
        let frames = Set((moved?.runs ?? []).flatMap { Array($0.frames) })
        let image = try Data(contentsOf: URL(filePath: path), options: .alwaysMapped)
        let note = try String(contentsOfFile: path + ".notes", encoding: .utf8)
        var (counts, torn): ([UInt64], Int) = ([], 0)
        image.withUnsafeBytes { image in
          for start in stride(from: 0, to: image.count, by: 4096) where !frames.contains(UInt64(start / 4096)) {
            func word(_ index: Int) -> UInt64 {
              image.loadUnaligned(fromByteOffset: start + 8 * index, as: UInt64.self)
            }
            // Another mark for each rate: the pages of one that was ended stay as they are.
            guard word(0) == 0x5350_504d_4154_5347 + UInt64(rate), word(1) < pages else { continue }
            counts.append(word(511))
            // Each word from the third on is the one before it.
            let words = UnsafeRawBufferPointer(rebasing: image[start + 16..<start + 4096])
            if let base = words.baseAddress, memcmp(base, base + 8, words.count - 8) != 0 { torn += 1 }
          }
        }
        for name in [path, path + ".moved", path + ".notes", path + ".frames"] { unlink(name) }
        return (counts, torn, note)
      }
      let url = try #require(daemon.urls.last)
      for source in [["--memory", guest.memoryPath], ["--host", url]] {
        while true {
          let (counts, torn, note) = try counts(source)
          let spread = (counts.max() ?? 0) - (counts.min() ?? 0)
          print(
            "\(source[0]): \(counts.count) of \(pages) pages that change are of the instant, counts \(spread) apart; \(note)"
          )
          #expect(spread < pages && torn <= 1, "\(spread) \(torn)")
          if counts.count > pages / 100 { break }
          // What a machine that has much else to do reads more slowly than the guest writes has no page that stands still: then the
          // guest writes more slowly, too.
          rate /= 4
          try #require(rate > 0, "\(note)")
          try stamp()
        }
      }
      // Whoever may have it stand still has all of it.
      let hypervisor = try GrassDaemon(memory: guest.memoryPath, options: ["--qmp", guest.statusSocket])
      defer { hypervisor.stop() }
      let still = try counts(["--host", try #require(hypervisor.urls.last), "--pause"])
      #expect(still.counts.count == pages && still.torn <= 1, "\(still.counts.count) \(still.torn)")
      #expect((still.counts.max() ?? 0) - (still.counts.min() ?? 0) < pages)
      #expect(still.note.contains("PAUSED=yes") && still.note.contains("PAGES_MOVED=0"), "\(still.note)")
      #expect(try guest.run("echo goes on", timeout: .seconds(10)).text.contains("goes on"))
      if rate < 48 {
        // As fast as at first, and a mark of its own.
        rate = 47
        try stamp()
      }
      let naive = try counts(["--host", url, "--rounds", "0"], slowly: true)
      print(
        "a mere copy: counts \((naive.counts.max() ?? 0) - (naive.counts.min() ?? 0)) apart, \(naive.torn) pages torn")
      #expect(naive.counts.count == pages)
      #expect((naive.counts.max() ?? 0) - (naive.counts.min() ?? 0) >= pages || naive.torn > 1)
    }

    /// Who has it stand still and dies does not keep it so, and whom others stopped stays so.
    @Test(arguments: standardGuests.filter { $0.kernel == "6.1" })
    func aGuestGoesOnWhenWhoPausedItDies(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let daemon = try GrassDaemon(memory: guest.memoryPath, options: ["--qmp", guest.statusSocket])
      defer { daemon.stop() }
      let url = try #require(daemon.urls.last)
      let image = Process()
      image.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
      image.arguments = ["dump", "--host", url, "--pause", "-o", "-"]
      // Nobody reads it, so that it does not end.
      let pipe = Pipe()
      image.standardOutput = pipe
      image.standardError = FileHandle.nullDevice
      try image.run()
      defer {
        kill(image.processIdentifier, SIGKILL)
        image.waitUntilExit()
        try? guest.resume()
      }
      func isStill() throws -> Bool { try !guest.isRunning() }
      func wait(_ seconds: Int, until isDone: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<seconds * 20 {
          if try isDone() { return true }
          usleep(50_000)
        }
        return false
      }
      #expect(try wait(30, until: isStill), "it does not stand still")
      kill(image.processIdentifier, SIGKILL)
      image.waitUntilExit()
      #expect(try wait(20) { try !isStill() }, "it stands still though nobody wants it")

      try guest.pause()
      let result = try grassctl.run(["dump", "--host", url, "--pause", "--profile", "crash", "-o", "-"])
      #expect(result.output.count > 100_000, "\(result.errors)")
      usleep(500_000)
      #expect(try isStill(), "somebody else had stopped it")

      let plain = try GrassDaemon(memory: guest.memoryPath)
      defer { plain.stop() }
      let refused = try grassctl.run(["dump", "--host", try #require(plain.urls.last), "--pause", "-o", "-"])
      #expect(refused.status == 3 && refused.errors.contains("--qmp"), "\(refused.status) \(refused.errors)")
    }

    /// Frames of each class come from work that makes some: files on a disk in a file, large pages, processes' memory.
    @Test(arguments: standardGuests.filter { $0.kernel == "6.1" })
    func levelsLeaveOutWhatMakedumpfileLeavesOut(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try #require(try ExpertTests.loadDevices(guest), "scripts/setup fetches the modules of this kernel")
      let work = try guest.run(
        """
        echo 6 > /proc/sys/vm/nr_hugepages
        mkdir -p /tmp/levels /tmp/large /tmp/disk; mount -t tmpfs -o huge=always large /tmp/large
        seq 1 300000 > /tmp/levels/numbers; seq 1 900000 > /tmp/large/numbers
        dd if=/dev/zero of=/tmp/levels/disk bs=64k count=32 2> /dev/null
        mkdosfs /tmp/levels/disk && losetup /dev/loop4 /tmp/levels/disk && mount -t vfat /dev/loop4 /tmp/disk &&
          seq 1 100000 > /tmp/disk/numbers && sync
        """)
      #expect(work.status == 0, "\(work.text)")
      defer {
        _ = try? guest.run(
          """
          echo 0 > /proc/sys/vm/nr_hugepages; umount /tmp/large; umount /tmp/disk; losetup -d /dev/loop4
          rm -r /tmp/levels /tmp/large /tmp/disk
          """)
      }
      try guest.pause()
      defer { try? guest.resume() }
      let whole = folder.file("whole")
      #expect(try grassctl.run(["dump", "-o", whole, "--memory", guest.memoryPath]).status == 0)
      let all = PageSets.count(try PageSets.elf(whole))
      var kept: Set<Data> = []
      #expect(all == kind.memory * 256)
      for level in [1, 2, 4, 8, 16, 31] {
        let (theirs, ours) = (folder.file("theirs"), folder.file("ours"))
        // Compressed once: which pages there are is the same, and compressing takes most of the time.
        _ = try runProgram("makedumpfile", (level == 31 ? ["-c"] : []) + ["-d", "\(level)", whole, theirs])
        let dump = try grassctl.run(["dump", "-o", ours, "--level", "\(level)", "--memory", guest.memoryPath])
        #expect(dump.status == 0, "\(dump.errors)")
        let (expected, found) = (try PageSets.kdump(theirs), try PageSets.elf(ours))
        #expect(found == expected, "level \(level): \(PageSets.difference(found, expected))")
        // What makedumpfile wrote says the same here.
        let (log, own) = (
          try grassctl.run(["dmesg", "--memory", theirs]), try grassctl.run(["dmesg", "--memory", ours])
        )
        #expect(log.status == 0 && log.output == own.output, "level \(level): \(log.errors)")
        if level == 31 {
          let kdump = folder.file("kdump")
          let options = ["--level", "31", "--format", "kdump", "--memory", guest.memoryPath]
          #expect(try grassctl.run(["dump", "-o", kdump] + options).status == 0)
          #expect(try PageSets.kdump(kdump) == expected)
          // Debian's makedumpfile has no zstd, and goes through a dump again that it knows: nothing more is to be left out.
          let (zlib, again) = (folder.file("zlib"), folder.file("again"))
          #expect(try grassctl.run(["dump", "-o", zlib, "--compression", "zlib"] + options).status == 0)
          _ = try runProgram("makedumpfile", ["-c", "-d", "31", zlib, again])
          #expect(try PageSets.kdump(again) == expected)
          // makedumpfile takes the flattened form apart, and what it makes of it is the same image.
          let flat = try grassctl.run(["dump", "-o", "-"] + options)
          #expect(flat.status == 0, "\(flat.errors)")
          try Data(flat.output).write(to: URL(filePath: folder.file("flat")))
          _ = try runProgram("sh", ["-c", "makedumpfile -R '\(folder.file("rearranged"))' < '\(folder.file("flat"))'"])
          #expect(try PageSets.kdump(folder.file("rearranged")) == expected)
          // GRASS reads it as it came.
          let (flatMemory, rearranged) = (
            try MemoryImage.openReadable(folder.file("flat")), try MemoryImage.openReadable(folder.file("rearranged"))
          )
          #expect(flatMemory.first?.segments == rearranged.first?.segments)
          // A device that describes page frames leaves out the same.
          let daemon = try GrassDaemon(memory: guest.memoryPath, monitors: [monitorPath("frames")])
          defer { daemon.stop() }
          let told = folder.file("told")
          let from = ["--level", "31", "--format", "kdump", "--host", daemon.urls[0]]
          #expect(try grassctl.run(["dump", "-o", told] + from).status == 0)
          #expect(try PageSets.kdump(told) == expected)
          let memory = try RemoteMemory(session: Session(to: LinkAddress(daemon.urls[0])))
          #expect(memory.frames(from: 4096, count: 9, arguments: [0, 0])?.reduce(0) { $0 + $1.count } == 9)
        }
        kept.insert(found)
        for path in [theirs, ours] { try FileManager.default.removeItem(atPath: path) }
      }
      #expect(kept.count == 6, "levels differ: \(kept.map(PageSets.count))")
    }

    /// How often in all ``whateverIsKilledItGoesOn()`` kills something; `GRASS_KILLS` says otherwise.
    private static let kills = ProcessInfo.processInfo.environment["GRASS_KILLS"].flatMap { Int($0) } ?? 6

    /// The client, the link and grassd are killed in turn, at random points; begun again, the same command goes on, the image is that of
    /// the memory, and nothing is fetched twice but what was under way.
    @Test func whateverIsKilledItGoesOn() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      var daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      let cable = try Cable(to: try #require(daemon.urls.last), in: folder.url.path)
      defer { cable.stop() }
      let raw = folder.file("of QEMU")
      try guest.dump(to: raw, format: .raw)
      func run(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try Spawner.shared.start(process)
        return process
      }
      // How many bytes an image costs that nobody disturbs.
      let whole = try grassctl.run(["dump", "--host", cable.url, "-o", folder.file("whole"), "--format", "raw"])
      #expect(whole.status == 0, "\(whole.errors)")
      try FileManager.default.removeItem(atPath: folder.file("whole"))
      let cost = try cable.carried()
      var kills = ["client": 0, "link": 0, "grassd": 0]
      for (format, most) in [("raw", Self.kills / 2), ("kdump", Self.kills - Self.kills / 2)] {
        let image = folder.file(format)
        let command = ["dump", "--host", cable.url, "-o", image, "--format", format]
        let before = try cable.carried()
        var (killed, begun) = (0, 1)
        var process = try run(command)
        while process.isRunning || process.terminationStatus != 0 || process.terminationReason == .uncaughtSignal {
          if !process.isRunning {
            begun += 1
            try #require(begun <= 4 * (killed + 4), "it does not go on by itself after \(killed) kills")
            process = try run(command)
          }
          guard killed < most else {
            process.waitUntilExit()
            continue
          }
          // By what was fetched, not by time: all kills come before the end, however fast the machine is.
          let point = try cable.carried() + Int(.random(in: 0.02...0.9 / Double(most)) * Double(cost))
          while process.isRunning, try cable.carried() < point { usleep(10_000) }
          guard process.isRunning else { continue }
          let victim = ["client", "link", "grassd"][kills.values.reduce(0, +) % 3]
          switch victim {
          case "client":
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
          case "link": cable.cut()
          default:
            daemon.bury()
            daemon = try GrassDaemon(memory: guest.memoryPath)
            try cable.plug(into: try #require(daemon.urls.last))
          }
          kills[victim, default: 0] += 1
          killed += 1
        }
        let fetched = try cable.carried() - before
        // Of each beginning the description of the kernel and of its pages; of each end what was under way.
        let allowed = cost + killed * (48 << 20)
        print("\(format): \(killed) kills, \(fetched) bytes fetched, \(cost) without")
        #expect(fetched <= allowed, "\(format), \(killed) kills")
        #expect(killed > 0)
        if format == "raw" {
          _ = try runProgram("cmp", [raw, image])
        } else {
          let drgn = KernelStore().directory.appendingPathComponent("../drgn==0.3.0").standardizedFileURL.path
          _ = try runProgram("python3", ["-c", Self.script, image, raw], environment: ["PYTHONPATH": drgn])
        }
        #expect(!FileManager.default.fileExists(atPath: image + ".part.journal"))
        try FileManager.default.removeItem(atPath: image)
      }
      print("killed: \(kills)")
    }

    /// Pages here and there, by their physical addresses and through the page tables, and the kernel's own name.
    private static let script = """
      import drgn, sys
      image, raw = sys.argv[1:3]
      program = drgn.Program()
      program.set_core_dump(image)
      note = dict(line.split("=", 1) for line in program["VMCOREINFO"].string_().decode().splitlines() if "=" in line)
      same = absent = 0
      with open(raw, "rb") as memory:
          memory.seek(0, 2)
          for frame in range(1, memory.tell() // 4096, 41):
              memory.seek(frame * 4096)
              try:
                  page = program.read(frame * 4096, 4096, physical=True)
              except drgn.FaultError:
                  absent += 1
                  continue
              assert page == memory.read(4096), f"frame {frame} differs"
              same += 1
      names = program.read(int(note["SYMBOL(init_uts_ns)"], 16), 512)
      assert note["OSRELEASE"].encode() in names
      print(same, absent)
      """

    /// Volatility, which knows the kernel by nothing but the symbols that the kernel itself carries; and no page tables of five levels.
    @Test(arguments: standardGuests.filter { $0.kernel == "6.1" })
    func volatilitySaysWhatGrassSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      let symbols = folder.url.appendingPathComponent("symbols/linux")
      for path in [symbols.path, folder.file("cache")] {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      }
      let written = try grassctl.run(
        ["symbols", "--memory", guest.memoryPath, "-o", symbols.appendingPathComponent("kernel.json").path])
      try #require(written.status == 0, "\(written.errors)")
      // Volatility passes over zombies. Threads that work off queues have more of a name in ps, and names that are no words are written otherwise. Command lines have bytes that are no text, which Foundation's parser
      // does not take.
      func key(_ pid: Int?, _ parent: Int?, _ name: String?) -> String {
        let isPlain = parent != 2 && name?.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) } == true
        return "\(pid ?? -1) \(parent ?? -1) \(isPlain ? name ?? "" : "")"
      }
      let own = try grassctl.run(["ps", "--json", "--memory", guest.memoryPath]).text
      let wanted = Set(
        own.matches(of: /"pid": (\d+), "tgid": \d+, "ppid": (\d+), "state": "[^Z]", .*?"comm": "([^"]*)"/).map {
          key(Int($0.1), Int($0.2), String($0.3))
        })
      let library = KernelStore().directory.appendingPathComponent("../volatility3==2.28.2").standardizedFileURL.path
      // All that it reads: no kdump.
      for (format, level) in [("elf", 31), ("lime", 0), ("raw", 0)] {
        let image = folder.file(format)
        let dump = try grassctl.run(
          ["dump", "--memory", guest.memoryPath, "-o", image, "--format", format, "--level", "\(level)"])
        try #require(dump.status == 0, "\(dump.errors)")
        let text = try runProgram(
          "python3",
          [
            "-c", Self.volatility, "-q", "-r", "json", "--offline", "-s", symbols.deletingLastPathComponent().path,
            "--cache-path", folder.file("cache"), "-f", image,
            "linux.pslist",
          ], environment: ["PYTHONPATH": library])
        let rows = try JSONSerialization.jsonObject(with: Data(text.drop { $0 != "[" }.utf8)) as? [[String: Any]]
        let theirs = Set(
          try #require(rows, "\(text)").map { key($0["PID"] as? Int, $0["PPID"] as? Int, $0["COMM"] as? String) })
        #expect(theirs == wanted, "\(format): \(theirs.symmetricDifference(wanted).sorted())")
        #expect(theirs.count > 40)
        try FileManager.default.removeItem(atPath: image)
      }
    }

    /// Volatility, which holds the symbols' form against its schema where Python has jsonschema.
    ///
    /// Of the whole table that takes a minute. So it is done with parts of it, others each time, and Volatility itself does without.
    private static let volatility = """
      import glob, json, random, sys
      from volatility3 import schemas
      from volatility3.cli import main
      with open(glob.glob(sys.argv[sys.argv.index("-s") + 1] + "/linux/*.json")[0]) as file:
          table = json.load(file)
      for name in "user_types", "enums", "symbols":
          table[name] = dict(random.sample(sorted(table[name].items()), min(200, len(table[name]))))
      if not schemas.validate(table, False):
          sys.exit("the symbols are not as the schema says: " + json.dumps(table)[:2000])
      sys.modules["jsonschema"] = None
      sys.argv[0] = "vol"
      main()
      """

    @Test(arguments: standardGuests)
    func drgnReadsTheSamePages(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      let drgn = KernelStore().directory.appendingPathComponent("../drgn==0.3.0").standardizedFileURL.path
      for (format, level) in [("elf", 31), ("kdump", 0)] {
        let image = folder.file("\(format) \(level)")
        let dump = try grassctl.run(
          ["dump", "-o", image, "--format", format, "--level", "\(level)", "--memory", guest.memoryPath])
        #expect(dump.status == 0, "\(dump.errors)")
        let said = try runProgram(
          "python3", ["-c", Self.script, image, guest.memoryPath], environment: ["PYTHONPATH": drgn])
        let numbers = said.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        try #require(numbers.count == 2, "\(said)")
        #expect(level == 0 ? numbers[1] == 0 && numbers[0] > 6000 : numbers[0] > 100 && numbers[1] > 1000, "\(said)")
      }
    }

    /// crash needs the debug information of the kernel, which `scripts/setup --debug` fetches.
    @Test(.enabled(if: debugKernel != nil))
    func crashOpensEveryImage() throws {
      let kind = try #require(standardGuests.first { $0.kernel == "6.1" })
      let guest = try SharedGuests.shared.guest(kind)
      let folder = try Folder()
      try guest.pause()
      defer { try? guest.resume() }
      let commands = folder.file("commands")
      try Data("sys\nlog\nkmem -i\nquit\n".utf8).write(to: URL(filePath: commands))
      var answers: [String: String] = [:]
      for (format, level) in [("elf", 0), ("elf", 31), ("kdump", 0), ("kdump", 31)] {
        let image = folder.file("image")
        let dump = try grassctl.run(
          ["dump", "-o", image, "--format", format, "--level", "\(level)", "--memory", guest.memoryPath])
        #expect(dump.status == 0, "\(dump.errors)")
        let said = try runProgram("crash", ["-s", "-i", commands, debugKernel ?? "", image])
        #expect(
          said.contains("NODENAME: grass-guest") && said.contains("Linux version 6.1"), "\(format) \(level): \(said)")
        answers["\(format) \(level)"] = said.split(separator: "\n").filter { !$0.contains("DUMPFILE") }.joined(
          separator: "\n")
        try FileManager.default.removeItem(atPath: image)
      }
      #expect(Set(answers.values).count == 1, "\(answers)")
    }
  }
}

/// The file with the debug information of the first kernel; nil where it was not fetched.
private let debugKernel: String? = (try? KernelStore().kernel("6.1")).flatMap { kernel in
  let path = kernel.image.deletingLastPathComponent().appendingPathComponent("vmlinux.debug").path
  return FileManager.default.fileExists(atPath: path) ? path : nil
}
