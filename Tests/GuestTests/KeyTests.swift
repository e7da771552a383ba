import Foundation
import Keys
import Lab
import Links
import Memory
import Remote
import Testing

extension OwnGuestTests {
  /// What a newcomer does who watches one machine from another: two network namespaces with a cable between them, the real
  /// programs, and a guest that panics.
  @Suite(.serialized) struct KeyTests {
    /// Two network namespaces, each with an address of one network, gone with this object.
    private final class TwoHosts {
      let (watched, remote): (String, String)
      static let address = "10.93.0.1"

      init() throws {
        let name = "grass-\(UInt32.random(in: 0 ... .max))"
        (watched, remote) = ("\(name)-w", "\(name)-r")
        for space in [watched, remote] { try Self.ip(["netns", "add", space]) }
        try Self.ip(["-n", watched, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", remote])
        for (space, address) in [(watched, Self.address), (remote, "10.93.0.2")] {
          try Self.ip(["-n", space, "address", "add", "\(address)/24", "dev", "cable"])
          for device in ["cable", "lo"] { try Self.ip(["-n", space, "link", "set", device, "up"]) }
        }
      }

      deinit {
        // With the namespace goes its end of the cable.
        for space in [watched, remote] { try? Self.ip(["netns", "delete", space]) }
      }

      private static func ip(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ip"] + arguments
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "ip \(arguments.joined(separator: " "))")
      }
    }

    /// One who uses grassctl on the remote host: a folder of keys, and what the programs say.
    private struct User {
      let hosts: TwoHosts
      let folder: URL

      func run(_ arguments: String...) throws -> (status: Int32, output: String, errors: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
          ["ip", "netns", "exec", hosts.remote, BuiltTool.directory.appendingPathComponent("grassctl").path] + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(["GRASS_CONFIG": folder.path]) { $1 }
        let (output, errors) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let watchdog = DispatchWorkItem { kill(process.processIdentifier, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: .now() + 120, execute: watchdog)
        defer { watchdog.cancel() }
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text, said)
      }

      var publicKey: String {
        get throws { try String(contentsOf: folder.appendingPathComponent("id.pub"), encoding: .utf8) }
      }
    }

    @Test func aNewcomerWatchesAcrossANetwork() throws {
      let place = FileManager.default.temporaryDirectory.appendingPathComponent("grass-keys-\(UUID().uuidString)")
      try FileManager.default.createDirectory(
        at: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      defer { try? FileManager.default.removeItem(at: place) }
      let hosts = try TwoHosts()
      let (me, stranger) = (
        User(hosts: hosts, folder: place.appendingPathComponent("me")),
        User(hosts: hosts, folder: place.appendingPathComponent("stranger"))
      )
      let host = "tcp://\(TwoHosts.address):7117"
      let guest = try Guest(GuestOptions(kernel: "6.1", memory: 512, sleepers: 3))
      defer { guest.shutDown() }

      // Without keys, nobody beyond this machine is served.
      let lists = place.appendingPathComponent("authorized_keys")
      let refused = try start(hosts, guest.memoryPath, ["--listen", host], logs: place)
      refused.process.waitUntilExit()
      #expect(refused.process.terminationStatus == 1)
      let why = try refused.log()
      #expect(why.contains("start grassd with keys"), "\(why)")

      // 1. A key, 2. its line, 3. grassd, 4. grassd's key, 5. the view.
      let made = try me.run("key", "new")
      try #require(made.status == 0, "\(made.errors)")
      let here = Identity.generate()
      try "all \(me.publicKey)\nread,watch \(here.publicKey)\n".write(to: lists, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: lists.path)
      let region = "/dev/shm/grass-keys-\(UUID().uuidString)"
      let own = Identity.generate()
      let ownPath = place.appendingPathComponent("device").path
      try own.write(to: ownPath)
      let daemon = try start(
        hosts, guest.memoryPath,
        [
          "--listen", host, "shm://\(region)", "--keys", lists.path, "--identity", ownPath, "--detectors", "--no-known",
        ],
        logs: place)
      defer {
        daemon.process.terminate()
        daemon.process.waitUntilExit()
        #expect(daemon.process.terminationStatus == 0)
      }
      let said = try daemon.wait(for: "key grass-x25519")
      #expect(said.contains("ready \(host)\nready shm://\(region)\nkey \(own.publicKey)\n"))
      let unknown = try me.run("ps", "--host", host)
      #expect(unknown.status != 0)
      let trust = "grassctl key trust \(host) --fingerprint \(own.publicKey.fingerprint)"
      #expect(unknown.errors.contains(trust), "\(unknown.errors)")
      #expect(try me.run("key", "trust", host, "--fingerprint", own.publicKey.fingerprint).status == 0)
      let tasks = try me.run("ps", "--host", host)
      #expect(tasks.status == 0 && tasks.output.contains("/bin/sh /init"), "\(tasks.errors)")

      // Each wrong step says what to do.
      let keyless = try stranger.run("ps", "--host", host)
      #expect(keyless.status != 0 && keyless.errors.contains("grassctl key new"), "\(keyless.errors)")
      #expect(try stranger.run("key", "new").status == 0)
      #expect(try stranger.run("key", "trust", host, "--fingerprint", own.publicKey.fingerprint).status == 0)
      let unlisted = try stranger.run("ps", "--host", host)
      #expect(unlisted.status != 0 && unlisted.errors.contains("authorized_keys"), "\(unlisted.errors)")
      let other = Identity.generate().publicKey
      #expect(try stranger.run("key", "trust", "--remove", host).status == 0)
      #expect(try stranger.run("key", "trust", host, "--fingerprint", other.fingerprint).status == 0)
      let changed = try stranger.run("ps", "--host", host)
      #expect(changed.status != 0 && changed.errors.contains(own.publicKey.fingerprint), "\(changed.errors)")
      #expect(changed.errors.contains("known_hosts"), "\(changed.errors)")

      // Root adds a line to the file, and lets nobody in by it.
      let line = try "all \(stranger.publicKey)"
      let file = try FileHandle(forWritingTo: lists)
      try file.seekToEnd()
      try file.write(contentsOf: Data(line.utf8))
      try file.close()
      #expect(try stranger.run("key", "trust", "--remove", host).status == 0)
      #expect(try stranger.run("key", "trust", host, "--fingerprint", own.publicKey.fingerprint).status == 0)
      #expect(try stranger.run("ps", "--host", host).status != 0)

      // The private key lies nowhere that another process could read.
      try own.withPrivateKey { key in
        // As it is kept, and as X25519 takes it (RFC 7748, 5): either opens every session.
        var number = Array(key)
        number[0] &= 0xf8
        number[31] = number[31] & 0x7f | 0x40
        for form in [Array(key), number] {
          let (isReadable, isInGuest) = (
            try Self.readable(of: daemon.process.processIdentifier, holds: form),
            try Self.file(guest.memoryPath, holds: form)
          )
          #expect(isReadable == nil && !isInGuest, "\(form == number ? "clamped" : "as it is"): \(isReadable ?? "")")
        }
      }
      // Nor do a session's keys, once it has been used; but in this process, which is its client.
      let session = try Session(
        to: LinkAddress("shm://\(region)"), keys: SessionKeys(identity: here, known: own.publicKey) { _, _ in })
      let memory = try RemoteMemory(session: session)
      var batch = ReadBatch<PhysicalAddress>()
      batch.add(PhysicalAddress(1 << 20), count: 1 << 20)
      memory.read(&batch)
      try session.heartbeat()
      #expect(batch.faults.isEmpty && session.isSealed)
      var count = 0
      try session.withKeys { key in
        count += 1
        let bytes = Array(key)
        let isReadable = try Self.readable(of: daemon.process.processIdentifier, holds: bytes)
        let isInGuest = try Self.file(guest.memoryPath, holds: bytes)
        let isInRegion = try Self.file(region, holds: bytes)
        let isHere = try Self.readable(of: getpid(), holds: bytes)
        #expect(isReadable == nil && !isInGuest && !isInRegion && isHere != nil)
      }
      #expect(count == 3)
      session.close()
      // The search itself finds what is there to be found.
      #expect(try Self.readable(of: daemon.process.processIdentifier, holds: own.publicKey.bytes) != nil)

      // After the panic somebody gets in who has never been there, by the word of an admin, and nobody else.
      try guest.send("echo c > /proc/sysrq-trigger")
      let deadline = ContinuousClock.now + .seconds(60)
      while try !me.run("watch", "--once", "--host", host).output.contains("panicked"), ContinuousClock.now < deadline {
        usleep(100_000)
      }
      let newcomer = User(hosts: hosts, folder: place.appendingPathComponent("newcomer"))
      #expect(try newcomer.run("key", "new").status == 0)
      #expect(try newcomer.run("key", "trust", host, "--fingerprint", own.publicKey.fingerprint).status == 0)
      #expect(try newcomer.run("dmesg", "--host", host).status != 0)
      let added = try me.run("key", "add", "--host", host, "watch,read \(newcomer.publicKey)")
      #expect(added.status == 0, "\(added.errors)")
      let log = try newcomer.run("dmesg", "--host", host)
      #expect(log.status == 0 && log.output.contains("Kernel panic"), "\(log.errors)")
      #expect(try stranger.run("dmesg", "--host", host).status != 0)
      // Who asked, who was refused and who changed the list is in the device's log.
      let end = ContinuousClock.now + .seconds(60)
      var story = ""
      repeat {
        story = try newcomer.run("watch", "--once", "--host", host).output
      } while ContinuousClock.now < end
        && !(story.contains("the file of keys") && story.contains("asked to be let in")
          && story.contains("asked the device"))
      #expect(story.contains("whom the device lets in was changed: the file of keys"), "\(story)")
      #expect(story.contains("asked the device"), "\(story)")
      #expect(story.contains("asked to be let in, which nobody has allowed"), "\(story)")

      // Who is removed is out.
      let removed = try me.run("key", "remove", "--host", host, newcomer.publicKey)
      #expect(removed.status == 0, "\(removed.errors)")
      #expect(try newcomer.run("dmesg", "--host", host).status != 0)
    }

    private struct Started {
      let process: Process
      let output: URL
      let errors: URL

      func log() throws -> String { try String(contentsOf: errors, encoding: .utf8) }

      /// What it has printed, once `text` is there.
      func wait(for text: String) throws -> String {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
          let said = try String(contentsOf: output, encoding: .utf8)
          if said.contains(text), said.hasSuffix("\n") { return said }
          let log = try log()
          try #require(process.isRunning, "grassd ended: \(log)")
          usleep(20_000)
        }
        return try String(contentsOf: output, encoding: .utf8)
      }
    }

    /// Starts grassd on the watched host.
    private func start(
      _ hosts: TwoHosts, _ memory: String, _ options: [String], logs place: URL
    ) throws -> Started {
      let base = place.appendingPathComponent("grassd-\(UUID().uuidString)")
      let (output, errors) = (base.appendingPathExtension("out"), base.appendingPathExtension("log"))
      for file in [output, errors] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
      process.arguments =
        [
          "--pdeathsig", "KILL", "--", "/usr/bin/env", "ip", "netns", "exec", hosts.watched,
          BuiltTool.directory.appendingPathComponent("grassd").path, "--memory", memory,
        ] + options
      process.standardOutput = try FileHandle(forWritingTo: output)
      process.standardError = try FileHandle(forWritingTo: errors)
      process.standardInput = FileHandle.nullDevice
      try Spawner.shared.start(process)
      return Started(process: process, output: output, errors: errors)
    }

    /// Where memory of a process that another one can read holds these bytes: all but what is locked for secrets.
    private static func readable(of process: Int32, holds secret: [UInt8]) throws -> String? {
      let memory = open("/proc/\(process)/mem", O_RDONLY)
      try #require(memory >= 0)
      defer { close(memory) }
      let needle = Data(secret)
      var range: Range<Int>?
      var mapping = ""
      for line in try mappings(of: process).split(separator: "\n") {
        let words = line.split(separator: " ")
        if let first = words.first, !first.hasSuffix(":") {
          let ends = first.split(separator: "-").compactMap { Int($0, radix: 16) }
          // A guest's memory is looked at by itself.
          let isLooked =
            ends.count == 2 && words.count > 1 && words[1].hasPrefix("r") && !line.hasSuffix("[vvar]")
            && !line.contains("/memfd:")
          range = isLooked ? ends[0]..<ends[1] : nil
          mapping = String(line)
        } else if line.hasPrefix("VmFlags:"), let place = range, !words.contains("lo") {
          // Piece by piece, each with the beginning of the next.
          for start in stride(from: place.lowerBound, to: place.upperBound, by: 16 << 20) {
            var bytes = Data(count: min(place.upperBound - start, (16 << 20) + needle.count))
            let count = bytes.withUnsafeMutableBytes { pread(memory, $0.baseAddress, $0.count, off_t(start)) }
            if count > 0, let place = bytes.prefix(count).range(of: needle) {
              return "at 0x\(String(start + place.lowerBound, radix: 16)) in \(mapping)"
            }
          }
        }
      }
      return nil
    }

    /// A process's mappings, all of them: Foundation takes a short read of such a file for its end.
    private static func mappings(of process: Int32) throws -> String {
      let file = open("/proc/\(process)/smaps", O_RDONLY)
      try #require(file >= 0)
      defer { close(file) }
      var (text, piece) = ([UInt8](), [UInt8](repeating: 0, count: 1 << 16))
      while case let count = read(file, &piece, piece.count), count > 0 { text += piece[..<count] }
      return String(decoding: text, as: UTF8.self)
    }

    private static func file(_ path: String, holds secret: [UInt8]) throws -> Bool {
      try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped).range(of: Data(secret)) != nil
    }
  }
}
