import Foundation
import Glibc
import Scratch
import Testing

@testable import Fleet

/// The service's own TLS.
@Suite(.serialized) struct CertificateTests {
  /// Makes NAME.pem, which vouches for itself, and NAME.key.
  static func makeCertificate(_ name: String, in scratch: borrowing Scratch) throws {
    _ = try RunningService.said(
      by: "openssl",
      [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=\(name)", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", scratch.file("\(name).key"), "-out",
        scratch.file("\(name).pem"),
      ])
    try #require(FileManager.default.fileExists(atPath: scratch.file("\(name).pem")), "openssl makes no certificate")
  }

  @Test func filesThatDoNotGoAreNamed() throws {
    let scratch = try Scratch()
    try Self.makeCertificate("one", in: scratch)
    try Self.makeCertificate("two", in: scratch)
    func problems(_ tls: String) -> [ConfigurationProblem] {
      ConfigurationReader.read("tls: \(tls)\nhosts: [{name: a, url: shm:///a}]", file: scratch.file("f.yaml")).problems
    }
    #expect(problems("{certificate: one.pem, key: one.key}").isEmpty)
    for (tls, key, words) in [
      ("{certificate: one.pem}", "tls.key", "is missing"),
      ("{certificate: none.pem, key: one.key}", "tls.certificate", "none.pem"),
      ("{certificate: one.pem, key: none.key}", "tls.key", "none.key"),
      ("{certificate: one.key, key: one.key}", "tls.certificate", "one.key"),
      ("{certificate: one.pem, key: one.pem}", "tls.key", "one.pem"),
      ("{certificate: one.pem, key: two.key}", "tls.key", "is not the key of"), ("yes", "tls", "one value"),
    ] {
      let found = problems(tls)
      #expect(
        found.count == 1 && found[0].key == key && found[0].line == 1 && found[0].what.contains(words),
        "\(tls): \(found)")
    }
  }

  /// The service as it is, over TLS; with SIGHUP it shows another certificate, and one that does not go changes nothing.
  @Test func anotherCertificateIsShownAfterSIGHUP() throws {
    let scratch = try Scratch()
    try Self.makeCertificate("one", in: scratch)
    try Self.makeCertificate("two", in: scratch)
    let (pem, key) = (scratch.file("own.pem"), scratch.file("own.key"))
    func show(_ name: String) throws {
      for (from, to) in [("\(name).pem", pem), ("\(name).key", key)] {
        try Data(contentsOf: URL(fileURLWithPath: scratch.file(from))).write(to: URL(fileURLWithPath: to))
      }
    }
    try show("one")
    let file = try scratch.write(
      "listen: 127.0.0.1:0\ntls: {certificate: own.pem, key: own.key}\nhosts: [{name: a, url: \"tcp://127.0.0.1:1\"}]\n",
      to: "fleet.yaml")
    let service = try RunningService(file)
    defer { service.stop() }
    let url = try service.ready()
    try #require(url.hasPrefix("https://"))
    func answer(_ trusted: String) throws -> String {
      try RunningService.said(
        by: "curl", ["-s", "--max-time", "10", "--cacert", scratch.file("\(trusted).pem"), "\(url)/healthz"])
    }
    #expect(try answer("one") == "ok\n" && answer("two") == "")
    // Who speaks without TLS gets nothing.
    #expect(
      try RunningService.said(
        by: "curl", ["-s", "--max-time", "10", url.replacing("https", with: "http") + "/healthz"]) == "")

    try show("two")
    service.signal(SIGHUP)
    for _ in 0..<400 where try answer("two") != "ok\n" { usleep(50_000) }
    #expect(try answer("two") == "ok\n" && answer("one") == "")
    try Data("nothing".utf8).write(to: URL(fileURLWithPath: key))
    service.signal(SIGHUP)
    usleep(500_000)
    #expect(try answer("two") == "ok\n" && service.isRunning)
  }
}
