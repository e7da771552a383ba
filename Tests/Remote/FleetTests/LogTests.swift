import Detection
import Foundation
import Glibc
import Host
import Logging
import Scratch
import Testing

@testable import Fleet

/// Findings and states in files and in syslog.
@Suite(.serialized) struct LogTests {
  private func line(_ text: String) -> LogLine {
    LogLine(bytes: Array(text.utf8), utc: 1_800_000_000.25, severity: 2, kind: "state")
  }

  private func lines(_ path: String) -> [String] {
    ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }

  private func wait(until isSo: () -> Bool) {
    for _ in 0..<1200 where !isSo() { usleep(10_000) }
  }

  private static let standing = Standing(state: .panic, since: 1_799_999_999, cause: "the \"kernel\"\npanicked")

  @Test func aFileThatWasMovedAwayIsMadeAnew() throws {
    let scratch = try Scratch()
    let path = scratch.file("log")
    let queue = try LogQueue(FileLog(path: path)) { _, _ in }
    queue.add(line("one"))
    wait { lines(path) == ["one"] }
    rename(path, path + ".1")
    queue.add(line("two"))
    wait { lines(path + ".1") == ["one", "two"] }
    queue.reopen()
    queue.add(line("three"))
    wait { lines(path) == ["three"] }
    queue.finish()
    #expect(lines(path + ".1") == ["one", "two"] && lines(path) == ["three"])
    let rights = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(rights.map { $0 & 0o7 } == 0, "others read it")
  }

  /// On a disk that is full lines wait, which is said once, and when there is room again each is there, whole and once.
  @Test func aFullDiskIsSaidAndLosesNoLine() throws {
    let scratch = try Scratch()
    let (folder, said) = (scratch.file("small"), Locked<[String]>([]))
    mkdir(folder, 0o755)
    // A disk of its own, where this user may mount one.
    guard mount("none", folder, "tmpfs", 0, "size=64k") == 0 else { return }
    defer { umount2(folder, Int32(MNT_DETACH)) }
    let path = "\(folder)/log"
    let queue = try LogQueue(FileLog(path: path), pause: 0.05) { problem, words in
      said.withLock { $0.append(problem == nil ? "well: \(words)" : "ill: \(words)") }
    }
    let filler = "\(folder)/filler"
    let piece = String(repeating: "x", count: 3000)
    try String(repeating: "y", count: 40_000).write(toFile: filler, atomically: false, encoding: .utf8)
    for number in 0..<20 { queue.add(line("\(number) \(piece)")) }
    wait { queue.figures.problem != nil }
    #expect(queue.figures.problem?.contains("No space left") == true)
    unlink(filler)
    wait { queue.figures.written == 20 }
    queue.finish()
    #expect(lines(path) == (0..<20).map { "\($0) \(piece)" })
    let words = said.withLock { $0 }
    #expect(words.count == 2 && words[0].hasPrefix("ill: ") && words[1].contains("is written again"), "\(words)")
    #expect(queue.figures.lost == 0 && queue.figures.problem == nil)
  }

  @Test func whatWaitsTooLongIsDroppedFromTheOldestOnAndCounted() throws {
    let scratch = try Scratch()
    let path = scratch.file("folder/log")
    let queue = try LogQueue(FileLog(path: path), room: 5, pause: 0.05) { _, _ in }
    queue.add(line("0"))
    wait { queue.figures.problem != nil }
    for number in 1..<10 { queue.add(line("\(number)")) }
    mkdir(scratch.file("folder"), 0o755)
    wait { queue.figures.written == 5 }
    queue.finish()
    #expect(lines(path) == ["0", "6", "7", "8", "9"] && queue.figures.lost == 5)
  }

  // MARK: Syslog

  /// A socket that takes messages, and its address.
  private func taker(_ family: Int32, _ kind: __socket_type, path: String = "") throws -> (
    Int32, FleetConfiguration.SyslogAddress
  ) {
    let one = socket(family, Int32(kind.rawValue), 0)
    var time = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    if family == AF_UNIX {
      var name = sockaddr_un()
      name.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
      let isBound = withUnsafePointer(to: &name) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(one, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        }
      }
      try #require(isBound)
      return (one, .unix(path: path))
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(one, $0, size) == 0 && getsockname(one, $0, &size) == 0
      }
    }
    try #require(isBound)
    if kind == SOCK_STREAM { listen(one, 4) }
    let port = Int(UInt16(bigEndian: address.sin_port))
    return (one, kind == SOCK_STREAM ? .tcp(host: "127.0.0.1", port: port) : .udp(host: "127.0.0.1", port: port))
  }

  private func receive(_ socket: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = recv(socket, &bytes, bytes.count, 0)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }

  /// Facility local0 (16) and severity 2 make 130.
  private static var message: Regex<Substring> {
    /<130>1 2027-01-15T08:00:00\.250Z \S+ grass-fleet [0-9]+ state - hello/
  }

  @Test func messagesAreAsTheStandardHasThem() throws {
    let scratch = try Scratch()
    for (family, kind) in [(AF_UNIX, SOCK_DGRAM), (AF_INET, SOCK_DGRAM)] {
      let (socket, address) = try taker(family, kind, path: scratch.file("log"))
      defer { close(socket) }
      let queue = try LogQueue(SyslogLog(address, facility: 16)) { _, _ in }
      queue.add(line("hello"))
      let text = receive(socket)
      #expect(try Self.message.wholeMatch(in: text) != nil, "\(address): \(text)")
      queue.finish()
    }
  }

  /// Over TCP its length stands before each message; who ends the connection is connected to again.
  @Test func aServerThatComesBackIsToldAgain() throws {
    let (socket, address) = try taker(AF_INET, SOCK_STREAM)
    defer { close(socket) }
    let queue = try LogQueue(SyslogLog(address, facility: 16), pause: 0.05) { _, _ in }
    queue.add(line("hello"))
    let first = accept(socket, nil, nil)
    let text = receive(first)
    let length = try #require(Int(text.prefix { $0 != " " }))
    let message = text.drop { $0 != " " }.dropFirst()
    #expect(message.utf8.count == length, "\(text)")
    #expect(try Self.message.wholeMatch(in: message) != nil, "\(text)")
    close(first)
    // The first that follows may be lost in the connection that is over: nobody answers to it.
    let isThere = Locked(false)
    let writing = try DedicatedThread(name: "more") {
      while !isThere.withLock({ $0 }) {
        queue.add(self.line("hello"))
        usleep(20_000)
      }
    }
    let second = accept(socket, nil, nil)
    isThere.withLock { $0 = true }
    writing.join()
    #expect(second >= 0 && receive(second).contains("hello"))
    close(second)
    queue.finish()
  }

  // MARK: Forms

  @Test func statesAreLinesOfJSONAndDetectionFindings() throws {
    let event = FleetEvent(
      .state, host: "a", json: FleetJSON.bytes(FleetJSON.state("a", ["rack": "1"], Self.standing, at: 1)),
      subject: .state(Self.standing, labels: ["rack": "1"]))
    func object(_ form: EventForm) throws -> [String: Any] {
      let bytes = try #require(form.line(event, at: 1_800_000_000))
      #expect(!bytes.contains(UInt8(ascii: "\n")))
      return try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
    }
    let plain = try object(.json)
    #expect(plain["time"] as? String == "2027-01-15T08:00:00.000Z" && plain["event"] as? String == "state")
    #expect((plain["data"] as? [String: Any])?["cause"] as? String == "the \"kernel\"\npanicked")
    let ocsf = try object(.ocsf)
    #expect(
      ocsf["class_uid"] as? Int == 2004 && ocsf["type_uid"] as? Int == 200_401 && ocsf["severity_id"] as? Int == 5)
    #expect((ocsf["device"] as? [String: Any])?["hostname"] as? String == "a")
    #expect((ocsf["finding_info"] as? [String: Any])?["uid"] as? String == "state:a")
    #expect(ocsf["time"] as? Int == 1_800_000_000_000 && ocsf["is_alert"] as? Bool == true)
    // What the class has to have.
    for key in ["activity_id", "category_uid", "metadata", "severity_id", "time", "finding_info"] {
      #expect(ocsf[key] != nil, "\(key)")
    }
    let other = FleetEvent(.acknowledgement, host: "a", json: Array("{}".utf8))
    #expect(EventForm.ocsf.line(other, at: 1) == nil && EventForm.json.line(other, at: 1) != nil)
  }

  /// A device's finding goes all the way: into a file as JSON, and as OCSF to who takes datagrams.
  @Test func whatADeviceFindsIsWritten() throws {
    let scratch = try Scratch()
    let device = try StandInDevice(path: scratch.file("region"))
    defer { device.stop() }
    let (socket, address) = try taker(AF_UNIX, SOCK_DGRAM, path: scratch.file("socket"))
    defer { close(socket) }
    var configuration = FleetConfiguration()
    configuration.keys = scratch.path
    configuration.logs = [
      .init(target: .file(scratch.file("log")), form: .json, facility: 3),
      .init(target: .syslog(address), form: .ocsf, facility: 3),
    ]
    configuration.hosts = [.init(name: "a", url: "shm://\(device.path)", labels: [:], period: 0.05)]
    let watch = try FleetWatch(
      configuration, store: FleetStore(path: scratch.file("fleet.db")),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try watch.start()
    #expect(receive(socket).contains("\"uid\": \"state:a\""))
    device.log()
    device.log(isClosing: true)
    wait { lines(scratch.file("log")).count { $0.contains("\"event\": \"finding\"") } == 2 }
    let messages = [receive(socket), receive(socket)]
    #expect(messages[0].contains("\"class_uid\": 2004") && messages[0].contains("\"hostname\": \"a\""), "\(messages)")
    #expect(
      messages[0].hasPrefix("<29>1 ") && messages[1].hasPrefix("<30>1 "), "notice, and informational once it is over")
    #expect(messages[1].contains("\"status_id\": 4"))
    watch.stop()
    let events = lines(scratch.file("log"))
    #expect(events.first?.contains("\"event\": \"state\"") == true)
    #expect(events.last?.contains("\"state\": \"closed\"") == true, "\(events)")
  }
}
