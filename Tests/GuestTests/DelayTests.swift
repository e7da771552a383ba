import Detection
import Foundation
import KernelInfo
import KernelViews
import Lab
import Links
import Memory
import Paging
import Remote
import Synchronization
import Testing

extension OwnGuestTests {
  /// How long it takes until what happened is known.
  ///
  /// `GRASS_DELAYS=5 scripts/test --filter DelayTests` measures five times and prints a table (Benchmarks/detection does); without
  /// it, what needs guests of its own is left out. Facts and their order are tested, times are not: they are the machine's.
  @Suite(.serialized) struct DelayTests {
    private static let repetitions = ProcessInfo.processInfo.environment["GRASS_DELAYS"].flatMap { Int($0) } ?? 0

    /// Prints a row of the table: all that was measured, in seconds, and what it is held against.
    private static func report(_ what: String, _ delays: [Duration], goal: String) {
      let seconds = delays.map { $0 / .seconds(1) }.sorted()
      guard let least = seconds.first, let most = seconds.last else { return }
      func text(_ value: Double) -> String { String(format: "%.3f", value) }
      print(
        "| \(what) | \(seconds.count) | \(text(least)) | \(text(seconds[seconds.count / 2])) | \(text(most)) | \(goal) |"
      )
    }

    private static func head() {
      print("| what | times | least s | median s | most s | goal s |")
      print("| --- | --- | --- | --- | --- | --- |")
    }

    /// From the moment in which the kernel says in its own memory that it panics to the finding in the log.
    @Test(.enabled(if: repetitions > 0), arguments: [1, 0.1])
    func aPanicIsInTheLog(_ period: Double) throws {
      var delays: [Duration] = []
      var words: [Duration] = []
      for _ in 0..<Self.repetitions {
        let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512, sleepers: 3))
        defer { guest.shutDown() }
        let daemon = try GrassDaemon(
          memory: guest.memoryPath, options: ["--detectors", "--detector-period", "\(period)", "--no-known"])
        defer { daemon.stop() }
        let session = try Session(to: LinkAddress(daemon.urls[0]))
        while try session.line().detectorTick < 5 { usleep(10_000) }
        let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
        let place = try kernel.addressSpace.translate(try #require(kernel.symbols.address(of: "panic_cpu")))
        // At any moment between two ticks.
        usleep(UInt32.random(in: 0...1_000_000))
        try guest.send("echo c > /proc/sysrq-trigger")
        var panicked: ContinuousClock.Instant?
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
          if panicked == nil, try kernel.memory.read(place, count: 4) != [255, 255, 255, 255] { panicked = .now }
          if try session.line().newestFinding > 0 { break }
          usleep(500)
        }
        let found = ContinuousClock.now
        let news = try session.findings(after: 0, upTo: try session.line().newestFinding)
        #expect(news.findings.first.map { DeviceDetectors.finding($0).detector } == "panic")
        // It was found before this one looked: the time between two looks.
        delays.append(panicked.map { found - $0 } ?? .zero)
        while try session.lastWords().isEmpty, ContinuousClock.now < deadline { usleep(500) }
        #expect(try session.lastWords().count == 1)
        words.append(ContinuousClock.now - found)
      }
      Self.head()
      Self.report("a panic is in the log, period \(period) s", delays, goal: "\(period * 1.1 + 0.2)")
      Self.report("and its last words are kept after that", words, goal: "-")
    }

    /// From the moment in which no CPU of the guest leaves its interrupt any more to the finding in the log.
    @Test(.enabled(if: repetitions > 0), arguments: [1, 0.1])
    func aHangOfAllCPUsIsNamed(_ period: Double) throws {
      let guest = try Guest(GuestOptions(kernel: "6.12", memory: 512, sleepers: 3))
      defer { guest.shutDown() }
      let daemon = try GrassDaemon(
        memory: guest.memoryPath, options: ["--detectors", "--detector-period", "\(period)", "--no-known"])
      defer { daemon.stop() }
      let session = try Session(to: LinkAddress(daemon.urls[0]))
      while try session.line().detectorTick < 5 { usleep(10_000) }
      var delays: [Duration] = []
      for _ in 0..<Self.repetitions {
        let before = try session.line().newestFinding
        usleep(UInt32.random(in: 0...1_000_000))
        let hang = try guest.hang()
        let start = ContinuousClock.now
        while try session.line().newestFinding == before, ContinuousClock.now - start < .seconds(60) { usleep(500) }
        delays.append(ContinuousClock.now - start)
        let news = try session.findings(after: before, upTo: try session.line().newestFinding)
        #expect(news.findings.first.map { DeviceDetectors.finding($0).detector } == "stopped")
        try guest.endHang(hang)
        while try session.line().open > 0, ContinuousClock.now - start < .seconds(90) { usleep(10_000) }
        #expect(try session.line().open == 0)
      }
      Self.head()
      Self.report("all CPUs hang, period \(period) s", delays, goal: "3")
    }

    /// A `grassctl watch`, and when it said what on standard error.
    private final class Watching {
      private let process = Process()
      private let errors = Pipe()
      private let said = Said()

      private final class Said: Sendable {
        let lines = Mutex<[(line: String, when: ContinuousClock.Instant)]>([])
      }

      init(_ arguments: [String]) throws {
        process.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
        process.arguments = ["watch"] + arguments
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        errors.fileHandleForReading.readabilityHandler = { [said] handle in
          let text = String(decoding: handle.availableData, as: UTF8.self)
          let now = ContinuousClock.now
          said.lines.withLock { $0 += text.split(whereSeparator: \.isNewline).map { (String($0), now) } }
        }
        try process.run()
      }

      var lines: [String] { said.lines.withLock { $0.map(\.line) } }

      /// When it first said something behind the first `count` lines that has this in it.
      func heard(_ text: String, after count: Int) -> ContinuousClock.Instant? {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
          if let found = said.lines.withLock({ $0.dropFirst(count).first { $0.line.contains(text) } }) {
            return found.when
          }
          usleep(1000)
        }
        Issue.record("watch never said '\(text)' but \(lines)")
        return nil
      }

      func end() {
        errors.fileHandleForReading.readabilityHandler = nil
        // Not by SIGTERM: that may be blocked in the thread that started it, hence in it.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
      }
    }

    /// Whether the other side is stopped or gone, whoever watches hears of it, and that it is there again.
    @Test(arguments: [0, 1]) func aLinkThatIsCutIsSaid(_ link: Int) throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      var stopped: [Duration] = []
      var gone: [Duration] = []
      for _ in 0..<max(1, Self.repetitions) {
        let daemon = try GrassDaemon(
          memory: guest.memoryPath, options: ["--detectors", "--detector-period", "0.5", "--no-known"])
        defer { daemon.bury() }
        let watching = try Watching(["--host", daemon.urls[link], "--interval", "0.25"])
        defer { watching.end() }
        _ = try #require(watching.heard("watching \(daemon.urls[link])", after: 0))
        var count = watching.lines.count
        try daemon.pause()
        var start = ContinuousClock.now
        stopped.append(try #require(watching.heard("grassd", after: count)) - start)
        daemon.signal(SIGCONT)
        _ = try #require(watching.heard("connected to \(daemon.urls[link]) again", after: count))
        count = watching.lines.count
        start = .now
        daemon.signal(SIGKILL)
        gone.append(try #require(watching.heard("grassd", after: count)) - start)
      }
      guard Self.repetitions > 0 else { return }
      Self.head()
      let scheme = link == 0 ? "shm" : "tcp"
      Self.report("\(scheme): the other side stops, --interval 0.25", stopped, goal: "1.25")
      Self.report("\(scheme): the other side is gone, --interval 0.25", gone, goal: "1.25")
    }
  }
}
