import Foundation
import Synchronization
import Testing

@testable import Remote

/// Changes posted to a real web server that is well, busy, slow, rude or away.
@Suite(.serialized) struct WebhookTests {
  /// A web server of a test, in a process of its own.
  private final class Server {
    private let process = Process()
    private let folder: URL
    let port: Int

    /// A server that answers as it is told.
    ///
    /// `answers` has what it does to requests, one after the other: a status, or `slow`; what follows the last is 200. `port` is
    /// where it listens; 0 lets it choose.
    init(_ answers: [String] = [], port: Int = 0) throws {
      folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-webhook-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let program = """
        import http.server, os, sys, threading, time
        def follow(parent):
            while os.getppid() == parent: time.sleep(0.2)
            os._exit(0)
        threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
        folder, port, answers = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = answers.pop(0) if answers else "200"
                if answer == "slow": time.sleep(5)
                if answer in ("200", "slow"):
                    kind = self.headers["Content-Type"]
                    with open(folder + "/posts", "ab") as posts: posts.write(kind.encode() + b" " + body + b"\\n")
                try:
                    self.send_response(200 if answer == "slow" else int(answer))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError: pass
            def log_message(self, *_): pass
        class Many(http.server.ThreadingHTTPServer): daemon_threads = True
        server = Many(("127.0.0.1", port), Handler)
        print(server.server_address[1], flush=True)
        server.serve_forever()
        """
      let file = folder.appendingPathComponent("server.py")
      try Data(program.utf8).write(to: file)
      process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
      process.arguments = [file.path, folder.path, "\(port)"] + answers
      let output = Pipe()
      process.standardOutput = output
      try process.run()
      let text = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
      self.port = try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)), "the server does not begin")
    }

    var url: URL { URL(string: "http://127.0.0.1:\(port)/hook") ?? URL(fileURLWithPath: "/") }

    /// What was posted and taken, in order.
    var posts: [String] {
      guard let text = try? String(contentsOf: folder.appendingPathComponent("posts"), encoding: .utf8) else {
        return []
      }
      return text.split(separator: "\n").map(String.init)
    }

    func end() {
      // Other signals it holds back, as the thread does that started it.
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }

    deinit {
      if process.isRunning { end() }
      try? FileManager.default.removeItem(at: folder)
    }
  }

  /// What was said to the operator.
  private final class Said: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
  }

  private func patience(room: Int = 256, attempts: Int = 8, timeout: Double = 10) -> Webhook.Patience {
    .init(room: room, attempts: attempts, firstPause: 0.02, longestPause: 0.1, timeout: timeout)
  }

  private func wait(until condition: () -> Bool) -> Bool {
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(60) {
      if condition() { return true }
      usleep(10_000)
    }
    return false
  }

  private func json(_ number: Int) -> [UInt8] { Array("{\"id\":\"\(number)\"}".utf8) }
  private func line(_ number: Int) -> String { "application/json {\"id\":\"\(number)\"}" }

  @Test func everyChangeIsPostedOnceAndInOrder() throws {
    let server = try Server()
    let said = Said()
    let hook = try Webhook(server.url, patience: patience()) { said.add($0) }
    for number in 0..<50 { hook.post(json(number)) }
    hook.finish(within: 60)
    #expect(server.posts == (0..<50).map(line) && said.all == [])
  }

  @Test func aServerThatFailsIsAskedAgain() throws {
    let server = try Server(["500", "503", "429"])
    let said = Said()
    let hook = try Webhook(server.url, patience: patience()) { said.add($0) }
    for number in 0..<3 { hook.post(json(number)) }
    hook.finish(within: 60)
    #expect(server.posts == (0..<3).map(line))
    #expect(said.all.count == 1 && said.all[0].contains("tried again: status 500"), "\(said.all)")
  }

  @Test func whatIsRefusedForGoodIsDroppedAndSaidToBe() throws {
    let server = try Server(["400"])
    let said = Said()
    let hook = try Webhook(server.url, patience: patience()) { said.add($0) }
    for number in 0..<3 { hook.post(json(number)) }
    hook.finish(within: 60)
    #expect(server.posts == [1, 2].map(line))
    #expect(
      said.all.contains { $0.contains("dropped: status 400") } && said.all.contains { $0.contains("1 were dropped") })
  }

  /// Nobody listens at first: what waits is posted when somebody does.
  @Test func aServerThatIsAwayGetsAllOfItLater() throws {
    let first = try Server()
    let port = first.port
    first.end()
    let said = Said()
    let hook = try Webhook(first.url, patience: patience(attempts: 100_000)) { said.add($0) }
    for number in 0..<5 { hook.post(json(number)) }
    #expect(wait { !said.all.isEmpty }, "nothing is said of a server that is away")
    let second = try Server(port: port)
    hook.finish(within: 60)
    #expect(second.posts == (0..<5).map(line) && said.all.count == 1)
  }

  /// One that is away for good costs no more than the queue, and who follows never waits for it.
  @Test func whatHasNoRoomIsDroppedTheOldestFirst() throws {
    let gone = try Server()
    gone.end()
    let said = Said()
    let hook = try Webhook(gone.url, patience: patience(room: 4, attempts: 100_000)) { said.add($0) }
    hook.post(json(0))
    #expect(wait { !said.all.isEmpty })
    let start = ContinuousClock.now
    for number in 1..<1000 { hook.post(json(number)) }
    #expect(ContinuousClock.now - start < .seconds(5), "who posts waits for the server")
    let server = try Server(port: gone.port)
    hook.finish(within: 60)
    // The one that was on its way, and the newest three.
    #expect(server.posts == [0, 997, 998, 999].map(line), "\(server.posts)")
    #expect(said.all.contains { $0.contains("the oldest of them are dropped") })
    #expect(said.all.contains { $0.contains("996 changes were dropped in all") }, "\(said.all)")
  }

  @Test func aServerThatIsTooSlowIsNotWaitedFor() throws {
    let server = try Server(["slow"])
    let said = Said()
    let hook = try Webhook(server.url, patience: patience(timeout: 1)) { said.add($0) }
    let start = ContinuousClock.now
    hook.post(json(0))
    hook.post(json(1))
    #expect(ContinuousClock.now - start < .seconds(1))
    hook.finish(within: 60)
    // It was tried again, and the slow answer came too late; the server may have it twice.
    #expect(Set(server.posts) == [line(0), line(1)] || wait { Set(server.posts) == [line(0), line(1)] })
    #expect(said.all.contains { $0.contains("tried again") })
  }

  /// The end does not wait for a server that never comes.
  @Test func theEndSaysWhatWasNotPosted() throws {
    let gone = try Server()
    gone.end()
    let said = Said()
    let hook = try Webhook(gone.url, patience: patience(attempts: 100_000)) { said.add($0) }
    for number in 0..<3 { hook.post(json(number)) }
    let start = ContinuousClock.now
    hook.finish(within: 0.2)
    #expect(ContinuousClock.now - start < .seconds(20))
    #expect(said.all.contains { $0.contains("3 changes were not posted any more") }, "\(said.all)")
  }

  @Test func onlyAddressesOfWebServersAreTaken() {
    #expect(Webhook.takes("http://127.0.0.1:8080/hook") && Webhook.takes("https://alerts.example/x"))
    for text in ["", "alerts", "ftp://example/x", "http://", "file:///tmp/x"] {
      #expect(!Webhook.takes(text), "\(text)")
    }
  }
}
