import Glibc
public import Keys

/// The file `config`: names of hosts, so that `grass://db1` is one.
///
/// ```
/// # Also for hosts that have none of their own.
/// identity ~/.config/grass/id
///
/// host db1
///   address tcp://10.0.0.7:7117
///   identity ~/keys/db
///   key grass-x25519 BASE64
/// ```
/// A word and what it says are a line; blanks before and between do not matter, and `#` begins a comment. `address` is the one that
/// each host needs. `key` is the device's, also by its fingerprint: then no other is taken, whatever `known_hosts` says. Of what
/// is said twice, the first counts. A line that cannot be used is told and does not count; the others do.
public struct Configuration: Sendable {
  /// A host that has a name.
  public struct Host: Hashable, Sendable {
    public var name: String
    /// The line of its `host`.
    public var line: Int
    /// The address of a link.
    public var address: String?
    /// The path of the identity to ask it with.
    public var identity: String?
    /// The one key that its device has.
    public var key: HostKey?
  }

  /// What stands before a name of this file, with `://`.
  public static let scheme = "grass"

  /// The file's path.
  public let path: String
  /// In the order of their lines.
  public private(set) var hosts: [Host] = []
  /// The path of the identity for hosts that have none of their own.
  public private(set) var identity: String?
  /// Lines that do not count.
  public private(set) var problems: [LineProblem] = []

  /// Reads a file; one that is not there says nothing.
  ///
  /// - Parameters:
  ///   - path: the file's.
  ///   - home: what `~` stands for.
  /// - Throws: ``HostsError/Reason/file(_:)`` where it cannot be read, or others could have changed it.
  public init(contentsOf path: String, home: String?) throws(HostsError) {
    self.path = path
    guard KeyFile.exists(path) else { return }
    let bytes = try reading(path) { () throws(KeyError) in
      try KeyFile.withContents(of: KeyFile.target(of: path), .unchanged, limit: LineFile.limit) {
        bytes throws(KeyError) in Array(bytes)
      }
    }
    parse(bytes, home: home)
  }

  /// The user's own.
  ///
  /// - Throws: ``HostsError`` where it cannot be read, or others could have changed it.
  public static func standard() throws(HostsError) -> Configuration {
    // Who has no home has no names of hosts either, and may still ask by address.
    guard let folder = try? UserFolder.standard() else { return Configuration(parsing: [], path: "config", home: nil) }
    return try Configuration(contentsOf: folder.configuration, home: getenv("HOME").map { String(cString: $0) })
  }

  /// Parses the text of such a file; `path` is its name in what is told, and where relative paths begin.
  public init(parsing text: some Collection<UInt8>, path: String, home: String?) {
    self.path = path
    parse(Array(text), home: home)
  }

  private mutating func parse(_ bytes: [UInt8], home: String?) {
    /// Whose lines are read: the file's own, a host's, or those of one that does not count.
    enum Block { case file, host, none }
    var block = Block.file
    let lines = bytes.withUnsafeBytes { LineFile.lines(of: $0, file: path, problems: &problems) }
    for (number, text) in lines {
      func problem(_ why: String) { problems.append(LineProblem(file: path, line: number, why: why)) }
      let words = LineFile.words(text, most: 2)
      let (word, value) = (words[0], words.count == 2 ? words[1] : "")
      guard !value.isEmpty else {
        problem("does not count: \(quoted(word)) says nothing; \(Self.advice)")
        if word == "host" { block = .none }
        continue
      }
      if word == "host" {
        let name = value.lowercased()
        if !Self.isName(name) {
          problem(
            "does not count, nor what follows for this host: \(quoted(value)) is no name; use letters, digits, . - and _"
          )
          block = .none
        } else if let other = hosts.first(where: { $0.name == name }) {
          problem("does not count, nor what follows: line \(other.line) has this host already; leave one of them")
          block = .none
        } else {
          hosts.append(Host(name: name, line: number))
          block = .host
        }
        continue
      }
      guard ["address", "identity", "key"].contains(word) else {
        problem("does not count: there is no word \(quoted(word)); \(Self.advice)")
        continue
      }
      switch (block, word) {
      case (.none, _): continue
      case (.file, "identity"):
        guard identity == nil else {
          problem("does not count: the identity was said above; leave one of them"); continue
        }
        identity = Self.expand(value, home: home, file: path)
      case (.file, _): problem("does not count: it must follow a line `host NAME`")
      case (.host, _):
        if let why = set(word, String(value), home: home, of: hosts.count - 1) { problem("does not count: \(why)") }
      }
    }
    problems.sort { $0.line < $1.line }
  }

  /// What is wrong with it, nil where nothing is.
  private mutating func set(_ word: Substring, _ value: String, home: String?, of index: Int) -> String? {
    let twice = "this host's \(word) was said above; leave one of them"
    switch word {
    case "address":
      guard hosts[index].address == nil else { return twice }
      guard value.contains("://"), !value.hasPrefix("\(Self.scheme)://") else {
        return "\(quoted(value)) is no address; write one as grassd printed it, tcp://HOST:PORT"
      }
      do throws(HostsError) { _ = try HostName(address: value) } catch { return "\(error)" }
      hosts[index].address = value
    case "identity":
      guard hosts[index].identity == nil else { return twice }
      hosts[index].identity = Self.expand(value[...], home: home, file: path)
    default:
      guard hosts[index].key == nil else { return twice }
      do throws(HostsError) { hosts[index].key = try HostKey(parsing: value) } catch { return "\(error)" }
    }
    return nil
  }

  private static let advice = "write host NAME, address URL, identity PATH or key KEY"

  private static func isName(_ name: String) -> Bool {
    name.utf8.count <= 64
      && name.utf8.allSatisfy { byte in
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
          || "._-".utf8.contains(byte)
      }
  }

  private static func expand(_ path: Substring, home: String?, file: String) -> String {
    if path.hasPrefix("/") { return String(path) }
    if path.hasPrefix("~/"), let home { return home + path.dropFirst() }
    return "\(KeyFile.folder(of: file))/\(path)"
  }

  /// What a text leads to that is the address of a link, or `grass://NAME` for a host of this file.
  ///
  /// An address that this file gives a host has that host's identity and key.
  ///
  /// - Throws: ``HostsError`` where there is no such name, or it has no address.
  public func destination(_ text: String) throws(HostsError) -> HostDestination {
    let prefix = "\(Self.scheme)://"
    guard text.lowercased().hasPrefix(prefix) else {
      let name = try HostName(address: text)
      let host = hosts.first { host in host.address.flatMap { try? HostName(address: $0) } == name }
      return try destination(text, of: host)
    }
    var name = text.dropFirst(prefix.count).lowercased()
    if name.hasSuffix("/") { name.removeLast() }
    guard let host = hosts.first(where: { $0.name == name }) else {
      throw HostsError(quoted(text), .noSuchHost(file: path, names: hosts.map(\.name)))
    }
    guard let address = host.address else {
      throw HostsError(quoted(text), .noAddress(file: path, line: host.line))
    }
    return try destination(address, of: host)
  }

  private func destination(_ address: String, of host: Host?) throws(HostsError) -> HostDestination {
    HostDestination(
      address: address, name: try HostName(address: address, alias: host?.name), identity: host?.identity ?? identity,
      key: host?.key, file: path, line: host?.line ?? 0)
  }
}
