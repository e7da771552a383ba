import CRegion
import Devices
import Glibc
import Memory
import Records
import Region
import Synchronization
import Testing

@testable import Daemon
@testable import Detection

/// What is made of what those say who look at the host: a program of a test stands for them, which does as it is told.
struct LookoutTests {
  /// A device that takes what is handed to it.
  private final class TakingDevice: Device {
    private let taken = Mutex<[grass_finding_content]>([])
    private let suspended = Mutex(0)
    private let room = Mutex(true)
    var all: [grass_finding_content] { taken.withLock { $0 } }
    var suspendedCount: Int { suspended.withLock { $0 } }
    func setRoom(_ has: Bool) { room.withLock { $0 = has } }

    var description: String { "a device of tests" }
    func setKernelHint(_ address: PhysicalAddress) {}
    func load(_ program: MonitorProgram, for kernel: KernelMapping) throws(DeviceError) {}
    func failure() -> DeviceError? { nil }
    func stop() {}
    func hand(_ finding: grass_finding_content) -> Bool {
      guard room.withLock({ $0 }) else { return false }
      taken.withLock { $0.append(finding) }
      return true
    }
    func setSuspended(_ count: Int) { suspended.withLock { $0 = count } }
  }

  /// A lookout whose looker does, in each look, what the next of `looks` says.
  private final class Trial {
    let device = TakingDevice()
    let region: SharedRegion
    let lookout: Lookout
    let folder: String
    private let said = Said()

    private final class Said: Sendable {
      let events = Mutex<[ServerEvent]>([])
    }

    var events: [String] {
      said.events.withLock { $0.map { "\($0.text) \($0.details.map(\.value).joined(separator: " "))" } }
    }

    init(_ looks: [String], findings: [String: [UInt8]] = [:]) throws {
      var template = Array("/tmp/grass-lookout-XXXXXX".utf8CString)
      folder = try #require(mkdtemp(&template).map { String(cString: $0) })
      region = try SharedRegion(layout: RegionLayout(slots: 1, requestSize: 4096, responseSize: 8192, findings: 16))
      try Self.write(Array(looks.joined(separator: "\n").utf8), to: folder + "/looks")
      for (name, bytes) in findings { try Self.write(bytes, to: folder + "/" + name) }
      // Reads a look's frame, and says what the next line of the file has.
      let program = """
        import os, signal, struct, sys
        folder = sys.argv[1]
        def say(kind, data):
            sys.stdout.buffer.write(struct.pack("<II", kind, len(data)) + data)
            sys.stdout.buffer.flush()
        while True:
            head = sys.stdin.buffer.read(8)
            if len(head) < 8: sys.exit(0)
            request = sys.stdin.buffer.read(struct.unpack("<II", head)[1])
            lines = open(folder + "/looks").read().split("\\n")
            open(folder + "/looks", "w").write("\\n".join(lines[1:]))
            open(folder + "/request", "wb").write(request)
            for word in lines[0].split():
                if word == "crash": os.kill(os.getpid(), signal.SIGSEGV)
                elif word == "nonsense": sys.stdout.buffer.write(b"nonsense"); sys.stdout.buffer.flush()
                elif word.startswith("asks="): say(2, word[5:].encode())
                elif word.startswith("fails="): say(5, (word[6:] + ": no memory there").encode())
                elif word.startswith("lacks="): say(4, (word[6:] + ": no such symbol").encode())
                else: say(3, open(folder + "/" + word, "rb").read())
            if lines[0]: say(7, b"")
            else: signal.pause()
        """
      try Self.write(Array(program.utf8), to: folder + "/looker.py")
      let said = said
      lookout = Lookout(
        ["/usr/bin/python3", folder + "/looker.py", folder], region: region, device: device, period: .seconds(60)
      ) { event in said.events.withLock { $0.append(event) } }
      lookout.begin()
    }

    deinit {
      lookout.end()
      for name in ["looks", "request", "looker.py", "one", "two"] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }

    private static func write(_ bytes: [UInt8], to path: String) throws {
      let file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
      try #require(file >= 0 && Glibc.write(file, bytes, bytes.count) == bytes.count)
      close(file)
    }

    /// Steps on, a minute of the lookout's time in each step that has nothing under way, until a condition holds.
    func until(_ condition: () -> Bool) -> Bool {
      let start = ContinuousClock.now
      var shift = Duration.zero
      while ContinuousClock.now - start < .seconds(60) {
        lookout.step(at: .now + shift)
        if condition() { return true }
        // Only so far that no patience ends.
        if !lookout.isBusy { shift += .seconds(10) }
        usleep(2000)
      }
      return false
    }
  }

  private func content(_ detector: String, tid: Int32 = 1, severity: Finding.Severity = .critical) -> [UInt8] {
    let moment = Finding.Moment(guest: 1, utc: 1)
    let subjects = [Subject.task(tid: tid, start: 1, comm: [])]
    var content = LoggedFinding.content(
      Finding(
        id: "\(detector):000000000000000\(tid)", detector: detector, kind: .attack, severity: severity,
        confidence: .strong,
        state: .confirmed, first: moment, last: moment, count: 1, subjects: subjects, title: "", evidence: [],
        techniques: [], remedy: "", kernel: "", boot: nil, baseline: .tables))
    return withUnsafeBytes(of: &content) { Array($0) } + Array("\(detector) found \(tid)".utf8)
  }

  private func states(_ device: TakingDevice) -> [UInt32] { device.all.map { UInt32($0.state) } }

  /// Found once, it is handed over; missed twice, it is over; and both are in the daemon's own log.
  @Test func whatTwoLooksDoNotFindAgainIsClosed() throws {
    let trial = try Trial(
      ["one", "one", "asks=a", "one", "asks=a", "asks=a", "asks=a"], findings: ["one": content("hidden-module")])
    let closed = GRASS_FINDING_CLOSED.rawValue
    #expect(trial.until { states(trial.device).contains(closed) })
    // Confirmed, again for the table, missed once, seen again, and then missed twice.
    #expect(states(trial.device) == [2, 2, 2, closed], "\(states(trial.device))")
    #expect(trial.events.contains("found: hidden-module found 1 hidden-module"))
    #expect(trial.events.contains("closed: hidden-module found 1 hidden-module"))
    #expect(trial.events.filter { $0.hasPrefix("found: ") }.count == 1)
  }

  @Test func whoIsBlindClosesNothing() throws {
    let trial = try Trial(
      [
        "one two", "fails=hidden-module two", "fails=hidden-module two", "one two", "two", "lacks=hidden-module two",
        "two",
      ],
      findings: ["one": content("hidden-module"), "two": content("changed-text")])
    #expect(trial.until { states(trial.device).contains(GRASS_FINDING_CLOSED.rawValue) })
    #expect(trial.lookout.suspended.isEmpty, "it has failed twice in a row only")
    #expect(trial.events.filter { $0.hasPrefix("closed: ") } == ["closed: hidden-module found 1 hidden-module"])
  }

  /// The others go on.
  @Test func aDetectorThatEndsItsProcessIsNamedAndSuspended() throws {
    let trial = try Trial(
      ["asks=deadlock asks=hung-task crash", "one", "one"], findings: ["one": content("hidden-module")])
    #expect(
      trial.until {
        trial.device.all.contains { LoggedFinding.identity(ofID: "hidden-module:0000000000000001") == $0.identity }
      })
    #expect(trial.lookout.suspended == ["hung-task"] && trial.device.suspendedCount == 1)
    #expect(
      trial.events.contains { $0.contains("not asked any more hung-task was ended by signal 11") }, "\(trial.events)")
    let named = try #require(trial.device.all.first)
    #expect(named.severity == UInt8(GRASS_SEVERITY_NOTICE.rawValue))
    // And it is not asked again.
    let bytes = try request(trial)
    #expect(try Looker.Request(bytes).suspended == ["hung-task"])
    // A new kernel is looked at by all.
    trial.lookout.begin()
    #expect(trial.lookout.suspended.isEmpty && trial.device.suspendedCount == 0)
  }

  private func request(_ trial: Trial) throws -> [UInt8] {
    let file = open(trial.folder + "/request", O_RDONLY)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = read(file, &bytes, bytes.count)
    try #require(count > 0)
    return Array(bytes[..<count])
  }

  @Test func whoFailsThreeTimesInARowIsSuspended() throws {
    let trial = try Trial(["fails=deadlock", "fails=deadlock", "fails=deadlock", "asks=a"])
    #expect(trial.until { trial.lookout.suspended == ["deadlock"] })
    // What a kernel has not is no fault.
    let other = try Trial(
      ["lacks=deadlock", "lacks=deadlock", "lacks=deadlock", "lacks=deadlock", "one"],
      findings: ["one": content("oom-imminent")])
    #expect(other.until { !other.device.all.isEmpty })
    #expect(
      other.lookout.suspended.isEmpty && other.events.filter { $0.contains("cannot look on this kernel") }.count == 1)
  }

  @Test func aLookerThatTalksNonsenseOrHangsIsSentAway() throws {
    let trial = try Trial(["asks=oops nonsense", "one", "one"], findings: ["one": content("hidden-module")])
    #expect(trial.until { trial.device.all.count >= 2 })
    #expect(trial.lookout.suspended == ["oops"])
    // An empty line: it never answers.
    let silent = try Trial(["", "one"], findings: ["one": content("hidden-module")])
    #expect(silent.until { access(silent.folder + "/request", F_OK) == 0 })
    silent.lookout.step(at: .now + .seconds(300))
    #expect(!silent.lookout.isBusy)
    #expect(silent.until { !silent.device.all.isEmpty })
  }

  @Test func nothingIsLostWhileTheDeviceTakesNothing() throws {
    let trial = try Trial(
      ["one two", "asks=a", "asks=a", "asks=a"],
      findings: ["one": content("hidden-module"), "two": content("changed-text")])
    trial.device.setRoom(false)
    #expect(trial.until { trial.events.filter { $0.hasPrefix("closed: ") }.count == 2 })
    trial.device.setRoom(true)
    trial.lookout.step()
    #expect(states(trial.device).sorted() == [2, 2, 3, 3])
  }

  /// That is the last thing that can be said, and it is.
  @Test func memoryThatIsTakenAwayIsAFinding() throws {
    let trial = try Trial(["one", "one"], findings: ["one": content("hidden-module")])
    #expect(trial.until { !trial.device.all.isEmpty })
    trial.lookout.loseMemory()
    trial.lookout.step()
    let told = try #require(trial.device.all.last)
    #expect(told.identity == LoggedFinding.identity(ofID: LostMemory.finding(at: .init(guest: nil, utc: 0)).id))
    #expect(told.severity == UInt8(GRASS_SEVERITY_CRITICAL.rawValue))
    trial.lookout.reload()
    for seconds in 0..<10 { trial.lookout.step(at: .now + .seconds(seconds * 60)) }
    #expect(!trial.lookout.isBusy)
  }

  /// Devices look for it by themselves: it is said when they have not by the next look.
  @Test func whatTheDeviceLooksForIsLeftToItAtFirst() throws {
    let trial = try Trial(["one", "asks=a", "asks=a", "one", "one"], findings: ["one": content("hung-task")])
    #expect(trial.until { !trial.device.all.isEmpty })
    #expect(states(trial.device) == [2])
    #expect(trial.events.filter { $0.hasPrefix("closed") }.isEmpty)
  }
}
