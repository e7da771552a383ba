import CRegion
import Detection
import Devices
import Glibc
import Host
import Keys
import Region

/// Whom a daemon's device lets in: the file of keys, the device's own key, and what becomes of both, told and logged.
final class Doorkeeper {
  private let options: Server.Keys
  private let report: (ServerEvent) -> Void
  private var stamp: FileStamp?
  private var lines: [grass_key_line]
  /// What waits to be handed to the device for its log.
  private var outgoing: [grass_finding_content] = []
  private var uses: [[UInt8]: Use] = [:]
  private var refusals: [[UInt8]: Use] = [:]
  /// The device's own key, as it was last.
  private var own: [UInt8]?

  /// How often a key's owner asked, since when.
  private struct Use {
    var sessions = 0
    var read: UInt64 = 0
    var runs: UInt64 = 0
    var first: Finding.Moment
  }

  /// So many keys have findings of their own, lest those push others out of the device's table.
  private static let mostUses = 16
  private static let mostWaiting = 64

  /// Reads the file and makes the device's keys.
  ///
  /// - Throws: ``ServerError`` where the file or the device's own key cannot be used.
  init(_ options: Server.Keys, report: @escaping (ServerEvent) -> Void) throws {
    self.options = options
    self.report = report
    stamp = FileStamp(options.authorized)
    lines = []
    lines = try read()
  }

  /// What a GPU is told of keys; it asks for the device's own with each program.
  func keysOfGPU() throws -> GPUKeys {
    let options = options
    // What is wrong with it ends the daemon before it serves.
    _ = try Self.identity(options)
    return GPUKeys(
      lines: lines, followsLists: options.followsFile,
      certificate: try options.certificate.map { try Self.certificate($0) } ?? []
    ) { take throws(DeviceError) in
      do {
        guard let own = try Self.identity(options) else { return take(nil) }
        own.withPrivateKey { take($0) }
      } catch {
        throw DeviceError(.keys("\(error)"))
      }
    }
  }

  private static func identity(_ options: Server.Keys) throws(KeyError) -> Identity? {
    if let path = options.identity { return try Identity(contentsOf: path) }
    return try Identity.credential(named: "grass-identity")
  }

  /// The device's keys for a region of this layout.
  func keyring(for layout: RegionLayout) throws -> Keyring {
    let own = try Self.identity(options)
    let keyring: Keyring
    if let own {
      keyring = try own.withPrivateKey { try Keyring(for: layout, privateKey: $0, lines: lines) }
    } else {
      keyring = try Keyring(for: layout, lines: lines)
    }
    if let path = options.certificate { try keyring.setCertificate(Self.certificate(path)) }
    return keyring
  }

  private static func certificate(_ path: String) throws -> [UInt8] {
    guard let file = fopen(path, "r") else {
      throw ServerError.keys(path, "open failed: \(SystemCall.describe(errno))")
    }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = fread(&bytes, 1, bytes.count, file)
    return try Certificate(parsing: String(decoding: bytes.prefix(count), as: UTF8.self)).bytes
  }

  /// The file's keys, as a device takes them; lines that cannot be used are reported.
  private func read() throws(KeyError) -> [grass_key_line] {
    let file = try AuthorizedKeys(contentsOf: options.authorized)
    for problem in file.problems {
      report(.init(weight: .warning, text: "a line of the keys does not count", details: [("line", "\(problem)")]))
    }
    return file.keys.map { entry in
      var line = grass_key_line()
      withUnsafeMutableBytes(of: &line.key) { $0.copyBytes(from: entry.key.bytes) }
      line.rights = entry.rights.rawValue
      line.expiry = entry.expiry ?? 0
      line.requests = entry.limits.requests ?? 0
      line.kibibytes = entry.limits.kibibytes ?? 0
      withUnsafeMutableBytes(of: &line.comment) { $0.copyBytes(from: Array(entry.comment.utf8).prefix($0.count)) }
      return line
    }
  }

  /// Does what is due: takes what happened at the device's door, and reads the file again where that was asked for.
  func look(_ device: any Device) {
    followFile(device)
    let now = device.publicKey
    if let own, let now, own != now {
      report(
        .init(
          weight: .warning, text: "the device has made itself another key; clients that know the old one refuse it",
          details: [("key", name(now, ""))]))
    }
    own = now
    while let event = device.takeKeyEvent() { take(event) }
    while let first = outgoing.first, device.hand(first) { outgoing.removeFirst() }
    guard outgoing.count > Self.mostWaiting else { return }
    // Records go before what somebody has to hear of.
    let notable = outgoing.filter { $0.severity >= UInt8(GRASS_SEVERITY_WARNING.rawValue) }
    outgoing = notable.suffix(Self.mostWaiting)
  }

  private func followFile(_ device: any Device) {
    let now = FileStamp(options.authorized)
    guard now != stamp else { return }
    stamp = now
    guard options.followsFile else {
      // Whoever is root here could let himself in. The list in the device stays as it is, and somebody hears of it.
      report(
        .init(
          weight: .warning,
          text:
            "the file of keys was changed, and is not read again; the device's list changes by requests of admin keys",
          details: [("path", options.authorized)]))
      log(
        KeyChange.finding(
          about: "the file of keys", "changed, unread", rights: "none", by: nil, at: Self.now))
      return
    }
    do throws(KeyError) {
      let next = try read()
      device.setKeys(next)
      lines = next
      report(.init(weight: .notice, text: "the file of keys was read again", details: [("keys", "\(next.count)")]))
    } catch {
      report(
        .init(
          weight: .error, text: "the file of keys cannot be read again; whom the device lets in stays as it is",
          details: [("reason", error.description)]))
    }
  }

  private func take(_ event: KeyEvent) {
    let key = name(event.key, event.comment)
    // As much of these as an entry of the log has room for.
    let by = event.by.map { String(fingerprint($0).prefix(15)) }
    let rights = Rights(rawValue: event.rights) == .all ? "all" : Rights(rawValue: event.rights).description
    switch event.kind {
    case .session where event.rights == 0:
      report(.init(weight: .warning, text: "a key that is not in the list was refused", details: [("key", key)]))
      guard let use = count(event, in: &refusals) else { return }
      log(RefusedKey.finding(about: key, count: use.sessions, first: use.first, at: Self.now))
    case .session:
      report(.init(weight: .notice, text: "a session began", details: [("key", key), ("rights", rights)]))
    case .sessionEnd:
      report(
        .init(
          weight: .notice, text: "a session ended",
          details: [("key", key), ("read", "\(event.read)"), ("runs", "\(event.runs)")]))
      guard let use = count(event, in: &uses) else { return }
      log(
        KeyUse.finding(
          about: key, sessions: use.sessions, read: use.read, runs: use.runs, first: use.first, at: Self.now))
    case .added: change(key, "added", rights, by)
    case .changed: change(key, "other rights", rights, by)
    case .removed: change(key, "removed", rights, by)
    case .expired: change(key, "expired", rights, by)
    case .certified: change(key, "certified", rights, by)
    }
  }

  private func change(_ key: String, _ how: String, _ rights: String, _ by: String?) {
    report(
      .init(
        weight: .warning, text: "the list of keys was changed",
        details: [("by", by ?? "this machine"), ("how", how), ("key", key), ("rights", rights)]))
    log(KeyChange.finding(about: key, how, rights: rights, by: by, at: Self.now))
  }

  private func count(_ event: KeyEvent, in table: inout [[UInt8]: Use]) -> Use? {
    guard table[event.key] != nil || table.count < Self.mostUses else { return nil }
    var use = table[event.key] ?? Use(first: Self.now)
    use.sessions += 1
    use.read &+= event.read
    use.runs &+= event.runs
    table[event.key] = use
    return use
  }

  private func log(_ finding: Finding) { outgoing.append(LoggedFinding.content(finding)) }

  /// What people know a key by: the start of its fingerprint, and its comment.
  private func name(_ key: [UInt8], _ comment: String) -> String {
    "key \(fingerprint(key).prefix(23))" + (comment.isEmpty ? "" : " (\(comment.prefix(16)))")
  }

  private func fingerprint(_ key: [UInt8]) -> String {
    do throws(KeyError) { return try PublicKey(bytes: key).fingerprint } catch { return "of small order" }
  }

  private static var now: Finding.Moment {
    var moment = timespec()
    clock_gettime(CLOCK_REALTIME, &moment)
    return .init(guest: nil, utc: Double(moment.tv_sec) + Double(moment.tv_nsec) / 1e9)
  }

  /// What tells one state of a file from another.
  private struct FileStamp: Equatable {
    var device, inode: UInt
    var size: Int
    var seconds, nanoseconds: Int

    init?(_ path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      device = UInt(status.st_dev)
      inode = UInt(status.st_ino)
      size = Int(status.st_size)
      seconds = status.st_mtim.tv_sec
      nanoseconds = status.st_mtim.tv_nsec
    }
  }
}
