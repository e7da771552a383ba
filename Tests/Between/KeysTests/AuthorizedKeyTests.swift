import Foundation
import Keys
import Scratch
import Testing

struct AuthorizedKeyTests {
  private static let key = "grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

  @Test(
    "a line's options, and what a line without rights gives",
    arguments: [
      (key, .watch, nil, ""), ("\(key) alice@desk", .watch, nil, "alice@desk"),
      ("watch,run \(key)   the on-call  rota ", [.watch, .run], nil, "the on-call  rota"),
      ("read \(key)", .read, nil, ""), ("all \(key)", .all, nil, ""), ("run,run \(key)", .run, nil, ""),
      ("admin,acquire,read,run,watch \(key)", .all, nil, ""),
      ("expires=2027-01-31 \(key) x", .watch, 1_801_353_600, "x"),
      ("expires=2027-01-31T12:30Z,all \(key)", .all, 1_801_398_600, ""),
      ("\tread,expires=2027-01-31T12:30:15\t\(key)\tb\u{f6}se", .read, 1_801_398_615, "b\u{f6}se"),
    ] as [(String, Rights, UInt64?, String)])
  func lines(line: String, rights: Rights, expiry: UInt64?, comment: String) throws {
    let parsed = try AuthorizedKey(parsing: line)
    #expect("\(parsed.key)" == Self.key)
    #expect(parsed.rights == rights)
    #expect(parsed.expiry == expiry)
    #expect(parsed.comment == comment)
    #expect(try AuthorizedKey(parsing: "\(parsed)") == parsed)
  }

  @Test(
    "what a key may ask for in a second",
    arguments: [
      ("watch", .none), ("requests=500", .init(requests: 500)),
      ("all,bytes=64M,requests=1", .init(requests: 1, kibibytes: 65536)),
      ("bytes=1M", .init(kibibytes: 1024)), ("bytes=1500K", .init(kibibytes: 1500)),
      ("bytes=2G", .init(kibibytes: 2 << 20)),
      ("requests=4294967295,bytes=4294967295K", .init(requests: .max, kibibytes: .max)),
    ] as [(String, AuthorizedKey.Limits)])
  func limits(options: String, limits: AuthorizedKey.Limits) throws {
    let parsed = try AuthorizedKey(parsing: "\(options) \(Self.key)")
    #expect(parsed.limits == limits)
    #expect(try AuthorizedKey(parsing: "\(parsed)") == parsed)
  }

  @Test(
    "limits that cannot be are told",
    arguments: [
      "requests=0", "requests=", "requests=-1", "requests=4294967296", "requests=1,requests=2", "bytes=64",
      "bytes=1023K",
      "bytes=M", "bytes=5000G", "bytes=1M,bytes=1M", "bytes=64m", "bytes=0x10M",
    ])
  func badLimits(options: String) {
    let reason = reason { try AuthorizedKey(parsing: "\(options) \(Self.key)") }
    #expect(reason.contains("option") && reason.contains("write"))
  }

  @Test(
    "a line that cannot be used says why",
    arguments: [
      ("watch", "does not begin with"), ("watch,run", "does not begin with"),
      ("watch \(key.dropLast(3))", "is not the base64"),
      ("write \(key)", "option \"write\": is none; write watch, run, read, acquire, admin or all"),
      ("watch,,run \(key)", "option \"\": is none"), ("Watch \(key)", "is none"), ("no-pty \(key)", "is none"),
      ("watch, run \(key)", "option \"\": is none"), ("watch run \(key)", "does not begin with"),
      ("expires=2027-02-29 \(key)", "is no time"), ("expires=2027-1-1 \(key)", "is no time"),
      ("expires= \(key)", "is no time"), ("expires=1970-01-01 \(key)", "is no time"),
      ("expires=2027-01-01,expires=2030-01-01 \(key)", "is given twice"),
      ("\(key) \(String(repeating: "\u{f6}", count: 33))", "has 66 bytes; there is room for 64"),
      ("\(key) \u{1b}[2J", "cannot be seen"), ("\(key) \u{202e}gnp", "cannot be seen"),
      ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH", "is a key of ssh"),
      ("all grass-ed25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "is a certifier's key"),
    ])
  func refused(line: String, why: String) {
    let reason = reason { try AuthorizedKey(parsing: line) }
    #expect(reason.contains(why))
  }

  @Test("a bad line is told by its number and does not count; the others do, and of a key's two lines the first")
  func file() throws {
    let others = (0..<3).map { _ in Identity.generate().publicKey }
    let text = """
      # who may ask
      watch,run \(others[0]) first

      nonsense
      all \(others[0]) again
        # a comment with blanks before it
      read,expires=2020-01-01 \(others[1])
      oops \(others[2])
      \(others[2]) last
      """
    let file = AuthorizedKeys(parsing: Array(text.utf8), file: "/etc/grass/authorized_keys")
    #expect(file.keys.map(\.key) == others)
    #expect(file.keys.map(\.rights) == [[.watch, .run], .read, .watch])
    #expect(file.keys.map { $0.isExpired(at: UTCTime.now) } == [false, true, false])
    #expect(file.problems.map(\.line) == [4, 5, 8])
    let told = file.problems.map(\.description)
    #expect(told.allSatisfy { $0.hasPrefix("/etc/grass/authorized_keys:") })
    #expect(told[0].contains("does not count"))
    #expect(told[1].contains(others[0].fingerprint) && told[1].contains("in line 2 already"))
    #expect(told[2].contains("option \"oops\": is none"))
  }

  @Test("lines that are no text, or longer than any, do not count; a file without an end of line is whole")
  func garbage() throws {
    let key = Identity.generate().publicKey
    var bytes: [UInt8] = [0xff, 0xfe, 0x00, 0x0a]
    bytes += Array("\(key) \(String(repeating: "x", count: 5000))\n".utf8)
    bytes += Array("run \(key) me\r".utf8)
    let file = AuthorizedKeys(parsing: bytes, file: "f")
    #expect(file.keys == [try AuthorizedKey(key: key, rights: .run, comment: "me")])
    #expect(file.problems.map(\.description).map { $0.prefix(4) } == ["f:1:", "f:2:"])
    #expect(AuthorizedKeys(parsing: [], file: "f").keys.isEmpty)
    // Whatever the bytes are: no line is lost that was not told, and nothing ends.
    var random = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      let noise = (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }
      let mixed = AuthorizedKeys(parsing: noise + [0x0a] + Array("all \(key)\n".utf8) + noise, file: "f")
      #expect(mixed.keys.map(\.key) == [key])
      #expect(!mixed.problems.isEmpty)
    }
  }

  @Test("a file that others could have changed or laid there lets nobody in")
  func modes() throws {
    let scratch = try Scratch()
    let path = try scratch.write("all \(Self.key)\n", to: "authorized_keys", mode: 0o644)
    #expect(try AuthorizedKeys(contentsOf: path).keys.count == 1)
    for open in [0o664, 0o646, 0o666] as [mode_t] {
      try #require(chmod(path, open) == 0)
      #expect(throws: KeyError(path, .openToOthers(mode: UInt32(open), wanted: 0o644))) {
        try AuthorizedKeys(contentsOf: path)
      }
    }
    try #require(chmod(path, 0o600) == 0)
    try #require(chmod(scratch.path, 0o777) == 0)
    #expect(throws: KeyError(scratch.path, .openToOthers(mode: 0o777, wanted: 0o755))) {
      try AuthorizedKeys(contentsOf: path)
    }
    try #require(chmod(scratch.path, 0o755) == 0)
    #expect(try AuthorizedKeys(contentsOf: path).keys.count == 1)
    #expect(throws: KeyError.self) { try AuthorizedKeys(contentsOf: scratch.file("missing")) }
  }

  @Test("rights by name")
  func rights() throws {
    #expect(try Rights(parsing: "watch,run,read") == [.watch, .run, .read])
    #expect(try Rights(parsing: "all") == .all)
    #expect(Rights.all.rawValue == 31)
    #expect("\(Rights.all)" == "watch,run,read,acquire,admin" && "\(Rights())" == "none")
    #expect("\(Rights(rawValue: 0x22))" == "run,0x20")
    for (right, name) in Rights.names { #expect(Rights(named: name) == right && "\(right)" == name) }
    for text in ["", "watch,", "Watch", "watch run", "none"] {
      #expect(throws: KeyError.self, "\(text)") { try Rights(parsing: text) }
    }
  }

  @Test(
    "a point in time and its text are each other's",
    arguments: [
      (0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (1_709_251_199, "2024-02-29T23:59:59Z"),
      (4_107_542_400, "2100-03-01T00:00:00Z"), (1_798_761_599, "2026-12-31T23:59:59Z"),
      (13_574_563_200, "2400-02-29T00:00:00Z"), (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] as [(UInt64, String)])
  func times(seconds: UInt64, text: String) {
    #expect(UTCTime.text(seconds) == text)
    if seconds > 946_684_799 { #expect(UTCTime.parse(text) == seconds) }
  }

  @Test("days of five centuries have texts of their own that parse to them, as the system's calendar has it")
  func days() {
    var (day, parts) = (time_t(946_684_800), tm())
    for _ in 0..<15_000 {
      gmtime_r(&day, &parts)
      let text = UTCTime.text(UInt64(day))
      let expected = String(format: "%04d-%02d-%02dT00:00:00Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday)
      guard text == expected, UTCTime.parse(text.prefix(10)) == UInt64(day) else {
        Issue.record("\(text), \(expected)")
        return
      }
      day += 11 * 86400
    }
  }

  @Test(
    "what is no time",
    arguments: [
      "", "2027", "2027-13-01", "2027-00-10", "2027-04-31", "2100-02-29", "2027-01-31T24:00", "2027-01-31T12:60",
      "1999-12-31",
      "2027-01-31T12", "2027-01-31 12:00", "2027-01-31Z", "2027-01-31T12:00+01:00", "2027-01-31T12:00:61", "-027-01-01",
    ])
  func noTimes(text: String) { #expect(UTCTime.parse(text) == nil) }
}
