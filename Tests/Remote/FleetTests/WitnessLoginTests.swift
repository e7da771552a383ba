import Foundation
import Glibc
import Host
import Logging
import Scratch
import Testing

@testable import Fleet

/// How the service says to the second witness who it is.
struct WitnessLoginTests {
  /// A web server over TLS that answers as Prometheus does, but only who sends the one header that it wants; it notes what it was asked.
  private static let server = """
    import http.server, json, ssl, sys
    folder, wanted = sys.argv[1:3]
    class Prometheus(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            ok = self.headers.get("Authorization") == wanted
            self.send_response(200 if ok else 401); self.end_headers()
            answer = {"status": "success", "data": {"resultType": "vector", "result": [
                {"metric": {"instance": "a:9100"}, "value": [1, "1"]}]}} if ok else {"status": "error", "error": "who are you?"}
            self.wfile.write(json.dumps(answer).encode())
        def log_message(self, *words): pass
    server = http.server.HTTPServer(("127.0.0.1", 0), Prometheus)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/one.pem", folder + "/one.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()
    """

  private func start(_ program: [String], in scratch: borrowing Scratch) throws -> (process: Process, first: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments = ["--pdeathsig", "KILL", "--"] + program
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    return (process, text.trimmingCharacters(in: .whitespacesAndNewlines))
  }

  /// What a witness says: which agents are up, or why it does not tell.
  private func answer(_ witness: FleetConfiguration.Witness) throws -> (agents: [String: Bool]?, failure: String?) {
    let first = Locked<[String: Bool]?>(nil)
    let done = DispatchSemaphore(value: 0)
    let asker = try AgentWitness(witness, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) { answer in
      first.withLock { $0 = answer }
      done.signal()
    }
    defer { asker.finish() }
    done.wait()
    return (first.withLock { $0 }, asker.failure)
  }

  @Test func passwordsAndTokensComeFromFiles() throws {
    let scratch = try Scratch()
    try CertificateTests.makeCertificate("one", in: scratch)
    // What has a meaning in curl's settings, in YAML and to a shell is a password's own affair.
    let password = #"open "sesame" \n $(reboot) # ä"#
    try scratch.write("\(password)\n", to: "password")
    try scratch.write("t0ken.of-ours\n", to: "token")
    let basic = "Basic \(Data("ann:\(password)".utf8).base64EncodedString())"
    for (wanted, login) in [
      (basic, "username: ann, password_file: password"), ("Bearer t0ken.of-ours", "credentials_file: token"),
    ] {
      let (server, port) = try start(["/usr/bin/python3", "-c", Self.server, scratch.path, wanted], in: scratch)
      defer {
        kill(server.processIdentifier, SIGKILL)
        server.waitUntilExit()
      }
      func witness(_ rest: String) throws -> FleetConfiguration.Witness {
        let (read, problems) = ConfigurationReader.read(
          """
          witness: {prometheus: "https://127.0.0.1:\(port)", every: 3600\(rest)}
          hosts: [{name: a, url: "shm:///a"}]
          """, file: scratch.file("fleet.yaml"))
        return try #require(read?.witness, "\(problems)")
      }
      let known = try answer(try witness(", ca_file: one.pem, \(login)"))
      #expect(known.agents == ["a": true] && known.failure == nil, "\(known)")
      // Nobody known, and somebody who is not.
      let unknown = try answer(try witness(", ca_file: one.pem"))
      #expect(unknown.agents == nil && unknown.failure?.contains("who are you?") == true, "\(unknown)")
      let untrusted = try answer(try witness(", \(login)"))
      #expect(untrusted.agents == nil && untrusted.failure?.contains("certificate") == true, "\(untrusted)")
      // What is in the file by then counts, and what is wrong with it is said without it.
      let changed = try witness(", ca_file: one.pem, \(login)")
      let file = login.hasSuffix("token") ? "token" : "password"
      try scratch.write("another\nsecret\n", to: file)
      let broken = try answer(changed)
      #expect(broken.agents == nil && broken.failure?.contains("\(file) is not one line of text") == true, "\(broken)")
      try scratch.write("another secret\n", to: file)
      #expect(try answer(changed).failure?.contains("who are you?") == true)
    }
  }

  /// A real Prometheus with users and TLS of its own.
  @Test func aRealPrometheusWithUsersTells() throws {
    let scratch = try Scratch()
    try CertificateTests.makeCertificate("one", in: scratch)
    // bcrypt of "open sesame".
    try scratch.write(
      """
      tls_server_config: {cert_file: one.pem, key_file: one.key}
      basic_auth_users: {ann: "$2b$04$0XBaGevq.3BDhznmYrWy5eyzbNMNpNezuXx91m9mzZdghunveF5Pm"}
      """, to: "web.yml")
    try scratch.write("global: {}\n", to: "prometheus.yml")
    try scratch.write("open sesame\n", to: "password")
    try scratch.write("shut sesame\n", to: "wrong")
    let prometheus = try RunningProgram(
      "/usr/bin/prometheus",
      [
        "--config.file=\(scratch.file("prometheus.yml"))", "--web.config.file=\(scratch.file("web.yml"))",
        "--storage.tsdb.path=\(scratch.file("tsdb"))", "--web.listen-address=127.0.0.1:0", "--log.format=json",
      ], log: scratch.file("prometheus.log"))
    defer { prometheus.stop() }
    // It says where it listens in its log only.
    var port = ""
    while port.isEmpty {
      try #require(prometheus.isRunning, "Prometheus ended: \(prometheus.said)")
      usleep(20_000)
      if let match = prometheus.said.firstMatch(of: /"address":"127\.0\.0\.1:([0-9]+)"[^\n]*"msg":"Listening on"/) {
        port = String(match.1)
      }
    }
    func answer(_ file: String) throws -> (agents: [String: Bool]?, failure: String?) {
      let witness = FleetConfiguration.Witness(
        prometheus: "https://127.0.0.1:\(port)", query: "label_replace(vector(1), \"instance\", \"a:1\", \"\", \"\")",
        label: "instance", period: 3600, login: .password(user: "ann", file: scratch.file(file)),
        authority: scratch.file("one.pem"))
      for _ in 0..<200 {
        let answer = try self.answer(witness)
        // It answers before it is ready.
        if answer.failure?.contains("otherwise") != true || file == "wrong" { return answer }
        usleep(50_000)
      }
      return try self.answer(witness)
    }
    let known = try answer("password")
    #expect(known.agents == ["a": true] && known.failure == nil, "\(known)")
    let wrong = try answer("wrong")
    #expect(wrong.agents == nil && wrong.failure != nil, "\(wrong)")
  }

  /// Who lists this machine's processes sees no secret and no address of those that ask.
  @Test func noSecretStandsOnACommandLine() throws {
    let scratch = try Scratch()
    try scratch.write("s3cret-of-ours\n", to: "token")
    // It takes the connection and never answers, so that curl is there to be looked at.
    let (listener, port) = try loopbackListener()
    defer { close(listener) }
    let asker = try AgentWitness(
      .init(
        prometheus: "http://127.0.0.1:\(port)/of/ours", query: "up", label: "instance",
        period: 3600, login: .token(file: scratch.file("token"))),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, say: { _ in })
    defer { asker.finish() }
    let connection = accept(listener, nil, nil)
    defer { close(connection) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = recv(connection, &bytes, bytes.count, 0)
    let request = String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    #expect(
      request.contains("Authorization: Bearer s3cret-of-ours\r\n") && request.contains("/of/ours/api/v1/query?query=up")
    )
    // The children of this process, whichever thread started them.
    var seen = 0
    for name in try FileManager.default.contentsOfDirectory(atPath: "/proc") where name.allSatisfy(\.isNumber) {
      guard let line = FileManager.default.contents(atPath: "/proc/\(name)/cmdline") else { continue }
      let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      guard words.first == "curl", words.contains("--config") else { continue }
      seen += 1
      let environment = FileManager.default.contents(atPath: "/proc/\(name)/environ") ?? Data()
      for text in words + [String(decoding: environment, as: UTF8.self)] {
        #expect(!text.contains("s3cret") && !text.contains("of/ours"))
      }
    }
    #expect(seen > 0)
  }
}
