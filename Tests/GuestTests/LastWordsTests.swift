import Detection
import Foundation
import KernelInfo
import KernelViews
import Lab
import Links
import Memory
import Paging
import Records
import Remote
import Testing

extension OwnGuestTests {
  /// What a device keeps of a kernel that died, held against what the kernel itself wrote on its console.
  @Suite(.serialized) struct LastWordsTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Waits until a condition holds; nil where it does not in time.
    private func wait<Value>(_ time: Duration, until condition: () throws -> Value?) rethrows -> Value? {
      let start = ContinuousClock.now
      while ContinuousClock.now - start < time {
        if let value = try condition() { return value }
        usleep(50_000)
      }
      return nil
    }

    /// The functions of the panic's call trace on the console, innermost first.
    private func trace(_ console: String) -> [String] {
      guard let panic = console.range(of: "Kernel panic - not syncing: sysrq") else { return [] }
      let lines = console[panic.lowerBound...].split(whereSeparator: \.isNewline).drop { !$0.contains("Call Trace:") }
        .dropFirst()
      return lines.prefix { !$0.contains("RIP:") && !$0.contains("Kernel Offset") }.compactMap { line in
        // `[   12.345678]  panic+0x110/0x2d0`; what the kernel guesses has a question mark.
        guard !line.contains("? "), let plus = line.range(of: "+0x") else { return nil }
        return line[..<plus.lowerBound].split(separator: " ").last.map(String.init)
      }
    }

    @Test(arguments: ["6.1", "6.12"]) func theyOutliveTheBoot(_ kernel: String) throws {
      let ram = try GuestMemory(mebibytes: 512)
      let options = GuestOptions(kernel: kernel, memory: 512, sleepers: 3)
      var guest = try Guest(options, ram: ram)
      defer { guest.shutDown() }
      let known = FileManager.default.temporaryDirectory.appendingPathComponent("grass-known-\(UUID().uuidString)").path
      defer { try? FileManager.default.removeItem(atPath: known) }
      // The id of a boot is made when somebody first asks for it.
      let boot = try guest.run("cat /proc/sys/kernel/random/boot_id").text.trimmingCharacters(
        in: .whitespacesAndNewlines)
      func inD() throws -> Set<Int> {
        Set(
          try guest.run("grep -l '^State:.D' /proc/[0-9]*/status | cut -d/ -f3").text.split(separator: "\n")
            .compactMap { Int($0) })
      }
      // Tasks that wait for locks which others hold for good; some more wait for a moment only.
      try #require(try guest.run("MODE=held /bin/workload > /dev/null 2>&1 & sleep 4").status == 0)
      let first = try inD()
      try #require(try guest.run("sleep 1").status == 0)
      let waiting = try inD().intersection(first).sorted()
      #expect(waiting.count >= 2, "too few tasks of the guest's are in D: \(waiting)")
      let daemon = try GrassDaemon(
        memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[1]))
      try #require(try wait(.seconds(60)) { try session.line().detectorTick >= 3 ? true : nil } != nil)
      #expect(try session.info().features.contains(.words))
      let none = try grassctl.run(["last-words", "--host", daemon.urls[1], "--no-known"])
      #expect(none.status == 3 && none.errors.contains("no kernel has panicked"), "\(none.errors)")

      try guest.panic()
      // Whatever the first look caught, a later one has the end of the log.
      let found = try wait(.seconds(60)) { () -> LastWords? in
        guard let head = try session.lastWords().first, let words = try session.lastWords(number: head.number)
        else { return nil }
        return words.lines.contains { String(decoding: $0.text, as: UTF8.self).contains("end Kernel panic") }
          ? words : nil
      }
      let words = try #require(found, "no last words with the log's end")
      #expect(words.head.release == (try KernelStore().kernel(kernel).release) && words.head.faulted == 0)
      #expect(words.state.panicCPU != nil && words.cpus.count == 2 && words.state.threads > 20)
      #expect(Set(words.tasks.filter { $0.role.contains(.waiting) }.map { Int($0.pid) }).isSuperset(of: waiting))
      #expect(words.tasks.first?.role.contains(.panicked) == true)
      #expect(words.tasks.allSatisfy { $0.stackBytes.count <= ($0.role.contains(.panicked) ? 16384 : 4096) })
      // The log is the guest's own: every record of the console is in it, whole.
      let texts = Set(words.lines.map { String(decoding: $0.text, as: UTF8.self) })
      #expect(texts.contains { $0.hasPrefix("Kernel panic - not syncing: sysrq triggered crash") })
      let live = try report(["--host", daemon.urls[1], "--known", known])
      try check(live, of: guest.console, waiting: waiting, boot: boot)
      // The finding leads there.
      let checked = try grassctl.run(["check", "--host", daemon.urls[1], "--known", known, "--detector", "panic"])
      #expect(checked.text.contains("grassctl last-words"), "\(checked.text)")
      let watched = try grassctl.run(["watch", "--host", daemon.urls[1], "--once"])
      #expect(watched.text.contains("grassctl last-words"), "\(watched.text)")

      if kernel == "6.1" { try anImageIsTaken(of: guest, daemon.urls) }

      // The host boots anew, and everything that was in its memory is gone.
      let console = guest.console
      guest.shutDown()
      guest = try Guest(options, ram: ram)
      let next = try guest.run("cat /proc/sys/kernel/random/boot_id").text.trimmingCharacters(
        in: .whitespacesAndNewlines)
      let ticks = try session.line().detectorTick
      try #require(try wait(.seconds(90)) { try session.line().detectorTick >= ticks + 3 ? true : nil } != nil)
      let closed = try wait(.seconds(60)) { try session.line().open == 0 ? true : nil }
      #expect(closed != nil, "the old boot's findings stay open")
      let later = try Session(to: LinkAddress(daemon.urls[0]))
      let head = try #require(try later.lastWords().first)
      #expect(try later.lastWords().count == 1 && head.finding == words.head.finding)
      let kept = try report(["--host", daemon.urls[0], "--known", known])
      try check(kept, of: console, waiting: waiting, boot: boot)
      #expect((kept["notes"] as? [String])?.contains { $0.contains("that boot is over") } == true)
      #expect(boot != next)
      // For people, too; and without symbols it says so and shows addresses.
      let text = try grassctl.run(["last-words", "--host", daemon.urls[0], "--known", known])
      #expect(
        text.text.contains("the kernel panicked on CPU") && text.text.contains("sysrq_handle_crash"), "\(text.text)")
      let plain = try grassctl.run(["last-words", "--host", daemon.urls[0], "--no-known"])
      #expect(plain.status == 0 && plain.errors.contains("no symbols of Linux"), "\(plain.errors)")
      #expect(plain.text.contains("Kernel panic - not syncing: sysrq triggered crash"))
    }

    /// Who watches takes an image of the dead host, which is of one instant; and what is encrypted only who has the key can read.
    private func anImageIsTaken(of guest: Guest, _ urls: [String]) throws {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-images-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let watched = try grassctl.run(
        ["watch", "--host", urls[1], "--once", "--dump-on", "hang,panic", "--dump-to", folder.path])
      #expect(watched.status == 0, "\(watched.errors)")
      let images = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      let image = folder.appendingPathComponent(try #require(images.first, "\(watched.errors)")).path
      #expect(images.count == 1 && images[0].hasPrefix("panic-") && images[0].hasSuffix(".kdump"), "\(images)")
      let log = try grassctl.run(["dmesg", "--memory", image])
      #expect(
        log.status == 0 && log.text.contains("Kernel panic - not syncing: sysrq triggered crash"), "\(log.errors)")
      // A CPU that has panicked goes on in a loop, and writes to its stack: few pages move.
      #expect(FileManager.default.contents(atPath: image)?.range(of: Data("PAGES_MOVED=".utf8)) != nil)

      let (key, sealed, opened) = ("\(folder.path)/key", "\(folder.path)/sealed", "\(folder.path)/opened")
      let made = try runProgram("age-keygen", ["-o", key])
      let recipient = try #require(
        made.split(separator: " ").last.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) })
      let arguments = ["dump", "--host", urls[0], "--profile", "crash", "-o"]
      let encrypted = try grassctl.run(arguments + [sealed, "--encrypt-to", recipient])
      #expect(encrypted.status == 0, "\(encrypted.errors)")
      #expect(try grassctl.run(["dmesg", "--memory", sealed]).status != 0)
      #expect(FileManager.default.contents(atPath: sealed)?.range(of: Data("sysrq triggered".utf8)) == nil)
      _ = try runProgram("age", ["--decrypt", "-i", key, "-o", opened, sealed])
      #expect(try grassctl.run(["dmesg", "--memory", opened]).output == log.output)
      let wrong = try grassctl.run(arguments + ["\(folder.path)/none", "--encrypt-to", "age1nobody"])
      #expect(wrong.status != 0 && !wrong.errors.isEmpty)
      #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/none"))
    }

    /// A kernel that was made to lie before it died: what can be read is kept, what cannot is said.
    @Test func memoryThatLiesIsNotFollowed() throws {
      let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512, sleepers: 3))
      defer { guest.shutDown() }
      try #require(try guest.run("MODE=held /bin/workload > /dev/null 2>&1 & sleep 4").status == 0)
      try guest.panic()
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let ram = try FileHandle(forUpdating: URL(fileURLWithPath: guest.memoryPath))
      func write(_ value: UInt64, at address: VirtualAddress) throws {
        try ram.seek(toOffset: try kernel.addressSpace.translate(address).rawValue)
        try ram.write(contentsOf: withUnsafeBytes(of: value) { Data($0) })
      }
      func field(_ structure: String, _ path: String) throws -> Int {
        try kernel.types.structure(structure).field(path).offset
      }
      // The list of modules leads nowhere, the log's records lie outside all memory, a task's stack is another's or no stack.
      try write(0x4141_4141_4141_4141, at: try #require(kernel.symbols.address(of: "modules")))
      let ring = try kernel.addressSpace.read(try #require(kernel.symbols.address(of: "prb")), count: 8)
        .withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
      try write(0xffff_8fff_ffff_0000, at: VirtualAddress(ring) + field("printk_ringbuffer", "desc_ring.infos"))
      let tasks = try kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false)).tasks
      let waiting = tasks.filter { $0.state == .diskSleep }
      try #require(waiting.count >= 2)
      try write(8, at: waiting[0].address + field("task_struct", "thread.sp"))
      try write(0xdead_beef_0000_0000, at: waiting[1].address + field("task_struct", "stack"))

      let daemon = try GrassDaemon(
        memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.2", "--no-known"])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      let found = try wait(.seconds(60)) { () -> LastWords? in
        try session.lastWords().first.flatMap { try session.lastWords(number: $0.number) }
      }
      let words = try #require(found)
      #expect(words.head.faulted > 0 && !words.head.faults.isEmpty)
      #expect(words.state.panicCPU != nil && words.cpus.count == 2 && words.modules.isEmpty && words.lines.isEmpty)
      #expect(words.tasks.first?.role.contains(.panicked) == true)
      let kept = Dictionary(words.tasks.map { ($0.pid, $0) }) { first, _ in first }
      // No stack pointer is believed that lies outside its stack, and no stack that is none.
      #expect(kept[waiting[0].tid]?.stackStart == kept[waiting[0].tid]?.stack.lowerBound)
      #expect(kept[waiting[1].tid]?.stackBytes.isEmpty == true && kept[waiting[1].tid]?.comm == waiting[1].comm)
      let printed = try grassctl.run(["last-words", "--host", daemon.urls[1], "--no-known"])
      #expect(printed.status == 0 && printed.errors.contains("could not be gathered whole"), "\(printed.errors)")
      #expect(printed.text.contains("sysrq_handle_crash+"), "\(printed.text)")
    }

    private func report(_ arguments: [String]) throws -> [String: Any] {
      let result = try grassctl.run(["last-words", "--json"] + arguments)
      #expect(result.status == 0, "\(result.errors)")
      return try #require(try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [String: Any])
    }

    /// Holds a report against what the guest's console says of the panic.
    private func check(_ report: [String: Any], of console: String, waiting: [Int], boot: String) throws {
      #expect(report["cause"] as? String == "panic" && report["boot"] as? String == boot)
      let tasks = try #require(report["tasks"] as? [[String: Any]])
      let stack = try #require(tasks.first?["stack"] as? [String])
      #expect((tasks.first?["roles"] as? [String])?.contains("panicked") == true)
      let ours = stack.compactMap { $0.split(separator: "+").first.map(String.init) }
      let theirs = trace(console)
      try #require(theirs.count > 4, "the console has no call trace")
      // Below the panic the kernel shows itself printing; from there on both are the same.
      let from = try #require(theirs.firstIndex { $0 == "panic" || $0 == "vpanic" }, "\(theirs)")
      #expect(ours.suffix(theirs.count - from) == theirs[from...], "ours \(ours), the kernel's \(theirs)")
      // A task that waits says where.
      for pid in waiting {
        let task = try #require(tasks.first { $0["pid"] as? Int == pid }, "\(pid)")
        #expect(task["state"] as? String == "D" && task["error"] == nil, "\(task)")
        let frames = try #require(task["stack"] as? [String])
        #expect(frames.count > 3 && frames.first?.hasPrefix("__schedule+") == true, "\(frames)")
      }
    }
  }
}
