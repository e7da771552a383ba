import Acquisition
import Detection
import FoundationEssentials
import Glibc
import Keys
import Links
import Remote
import Yams

/// Reads a configuration's YAML, and says of each mistake where it is and what to do.
public struct ConfigurationReader {
  private let file: String
  private var problems: [ConfigurationProblem] = []

  /// The longest file that is read, in bytes: ten thousand hosts take a tenth of it.
  private static let limit = 16 << 20

  private init(file: String) { self.file = file }

  /// Reads a file.
  ///
  /// - Returns: the configuration, or all that is wrong with it, in the order of its lines.
  public static func read(
    contentsOf path: String
  ) -> (configuration: FleetConfiguration?, problems: [ConfigurationProblem]) {
    func failed(_ what: String, _ remedy: String) -> (FleetConfiguration?, [ConfigurationProblem]) {
      (nil, [ConfigurationProblem(file: path, line: 0, key: "", what: what, remedy: remedy)])
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      return failed("cannot be read", "see whether it is there and this user may read it")
    }
    guard data.count <= limit else {
      return failed("has \(data.count) bytes", "give a file of \(limit) bytes at most: shard the fleet")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      return failed("is not UTF-8", "save it as UTF-8")
    }
    return read(text, file: path)
  }

  /// Reads the text of a file, whose name is `file` in what is told.
  public static func read(
    _ text: String, file: String
  ) -> (configuration: FleetConfiguration?, problems: [ConfigurationProblem]) {
    var reader = ConfigurationReader(file: file)
    let node: Node?
    do {
      node = try Yams.compose(yaml: text)
    } catch {
      let (line, what) = describe(error)
      reader.problem(line, "", "is no YAML: \(what)", "correct that line; keys are indented by blanks, never by tabs")
      return (nil, reader.problems)
    }
    let configuration = node.map { reader.fleet($0) }
    if configuration == nil {
      reader.problem(
        0, "hosts", "is missing: the file is empty", "add `hosts:` and below it `- name: NAME` with `url: URL`")
    }
    let problems = reader.problems.enumerated().sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }
    return (problems.isEmpty ? configuration : nil, problems.map(\.element))
  }

  private static func describe(_ error: any Error) -> (line: Int, what: String) {
    switch error {
    case YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
      YamlError.composer(_, let problem, let mark, _):
      return (mark.line, problem)
    case YamlError.duplicatedKeysInMapping(let duplicates, let context):
      return (context.mark.line, "the key \(duplicates.sorted().joined(separator: ", ")) is there twice")
    case YamlError.reader(let problem, _, _, _): return (0, problem)
    default: return (0, String("\(error)".prefix(200)))
    }
  }

  private mutating func problem(_ line: Int, _ key: String, _ what: String, _ remedy: String) {
    problems.append(ConfigurationProblem(file: file, line: line, key: key, what: what, remedy: remedy))
  }

  // MARK: Pieces

  /// What a mapping has, by key; keys that are not among `known` are problems.
  private mutating func members(_ node: Node, _ key: String, known: [String]) -> [String: Node]? {
    guard case .mapping(let mapping) = node else {
      problem(node.line, key, "is \(node.kind)", "write it as keys with values: \(known.joined(separator: ", "))")
      return nil
    }
    var members: [String: Node] = [:]
    for (name, value) in mapping {
      guard case .scalar(let scalar) = name, known.contains(scalar.string) else {
        let text = name.scalar?.string ?? "?"
        let near = known.filter { Self.distance($0, text) <= 2 }.min {
          Self.distance($0, text) < Self.distance($1, text)
        }
        problem(
          name.line, key.isEmpty ? text : "\(key).\(text)", "there is no such key",
          near.map { "did you mean `\($0)`?" } ?? "the keys are \(known.joined(separator: ", "))")
        continue
      }
      members[scalar.string] = value
    }
    return members
  }

  /// How many letters apart two words are (Levenshtein).
  private static func distance(_ one: String, _ other: String) -> Int {
    let (one, other) = (Array(one.utf8.prefix(40)), Array(other.utf8.prefix(40)))
    var row = Array(0...other.count)
    for (i, a) in one.enumerated() {
      var before = row[0]
      row[0] = i + 1
      for (j, b) in other.enumerated() {
        let next = min(row[j] + 1, row[j + 1] + 1, before + (a == b ? 0 : 1))
        before = row[j + 1]
        row[j + 1] = next
      }
    }
    return row[other.count]
  }

  private mutating func text(_ node: Node?, _ key: String) -> String? {
    guard let node else { return nil }
    guard case .scalar(let scalar) = node, !scalar.string.isEmpty else {
      problem(node.line, key, "is \(node.kind)", "give one value, as text")
      return nil
    }
    return scalar.string
  }

  private mutating func number(_ node: Node?, _ key: String, _ range: ClosedRange<Double>, unit: String) -> Double? {
    guard let node, let text = text(node, key) else { return nil }
    guard let value = Double(text), range.contains(value) else {
      problem(
        node.line, key, "\(quoted(text)) does not go", "give \(unit), from \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return value
  }

  private mutating func list(_ node: Node?, _ key: String) -> [(key: String, node: Node)] {
    guard let node else { return [] }
    guard case .sequence(let sequence) = node else {
      problem(node.line, key, "is \(node.kind)", "write a list: each on a line of its own that begins with `- `")
      return []
    }
    return sequence.enumerated().map { ("\(key)[\($0.offset + 1)]", $0.element) }
  }

  private mutating func texts(_ node: Node?, _ key: String) -> [(text: String, key: String, line: Int)] {
    list(node, key).compactMap { key, node in text(node, key).map { ($0, key, node.line) } }
  }

  // MARK: The file

  private mutating func fleet(_ node: Node) -> FleetConfiguration {
    var result = FleetConfiguration()
    let known = [
      "listen", "database", "period", "timeout", "retention", "keys", "url", "alertmanager", "webhooks", "users",
      "proxy", "shard", "hosts", "detectors_every", "logs", "tls", "witness", "images",
    ]
    guard let members = members(node, "", known: known) else { return result }
    if let value = members["listen"], let address = address(value) { result.listen = address }
    result.database = relative(text(members["database"], "database") ?? result.database)
    result.period = number(members["period"], "period", Self.periods, unit: "seconds") ?? result.period
    result.timeout = number(members["timeout"], "timeout", 0.05...60, unit: "seconds") ?? result.timeout
    result.detectorsEvery =
      number(members["detectors_every"], "detectors_every", 0...604_800, unit: "seconds") ?? result.detectorsEvery
    result.retention = number(members["retention"], "retention", 0.01...36500, unit: "days") ?? result.retention
    result.keys = text(members["keys"], "keys").map { relative($0) }
    if let value = members["url"], let url = text(value, "url") { result.url = web(url, "url", value.line) }
    for (url, key, line) in texts(members["alertmanager"], "alertmanager") {
      if let url = web(url, key, line) { result.alertmanagers.append(url) }
    }
    for (url, key, line) in texts(members["webhooks"], "webhooks") {
      if let url = web(url, key, line) { result.webhooks.append(url) }
    }
    logs(members["logs"], &result)
    if let value = members["tls"] { result.tls = tls(value) }
    users(members["users"], &result)
    if let value = members["proxy"] { result.proxy = proxy(value) }
    if let value = members["shard"] { result.shard = shard(value) }
    if let value = members["witness"] { result.witness = witness(value) }
    if let value = members["images"] { result.images = images(value) }
    if let value = members["hosts"] {
      hosts(value, &result)
    } else {
      problem(node.line, "hosts", "is missing", "add `hosts:` and below it `- name: NAME` with `url: URL`")
    }
    if result.isOpen, !result.listen.isLoopback, members["users"] == nil, members["proxy"] == nil {
      problem(
        members["listen"]?.line ?? node.line, "listen",
        "\(quoted(result.listen.description)) is reached by others, and nobody has to say who they are",
        "add `users:` (grass-fleet password makes a hash) or `proxy:`, or listen at 127.0.0.1")
    }
    return result
  }

  private static let periods = 0.01...3600.0

  /// A path, from the file's folder on where it is relative.
  private func relative(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    if path.hasPrefix("~/") { return FileManager.default.homeDirectoryForCurrentUser.path + path.dropFirst() }
    let folder = file.lastIndex(of: "/").map { String(file[...$0]) } ?? ""
    return folder + path
  }

  private mutating func address(_ node: Node) -> FleetConfiguration.Address? {
    guard let text = text(node, "listen") else { return nil }
    guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
      (0...65535).contains(port)
    else {
      problem(node.line, "listen", "\(quoted(text)) has no port", "write HOST:PORT, as in 127.0.0.1:9187")
      return nil
    }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    guard !host.isEmpty, !host.contains("/") else {
      problem(node.line, "listen", "\(quoted(text)) has no host", "write HOST:PORT; 0.0.0.0:9187 listens everywhere")
      return nil
    }
    return .init(host: host, port: port)
  }

  private mutating func web(_ text: String, _ key: String, _ line: Int) -> String? {
    guard Webhook.takes(text) else {
      problem(line, key, "\(quoted(text)) is no address of a web server", "write http://HOST:PORT or https://HOST/PATH")
      return nil
    }
    // An address is logged and shown; what is secret is not to stand in it.
    guard URL(string: text)?.user == nil else {
      problem(
        line, key, "has a name or a password in it",
        key.hasPrefix("witness")
          ? "give `username:` and `password_file:`, or `credentials_file:`" : "write the address without them")
      return nil
    }
    return text.hasSuffix("/") ? String(text.dropLast()) : text
  }

  private mutating func logs(_ node: Node?, _ result: inout FleetConfiguration) {
    for (key, node) in list(node, "logs") {
      guard let members = members(node, key, known: ["file", "syslog", "form", "facility"]) else { continue }
      let form = text(members["form"], "\(key).form") ?? EventForm.json.rawValue
      guard let form = EventForm(rawValue: form) else {
        problem(
          members["form"]?.line ?? node.line, "\(key).form", "\(quoted(form)) is no form",
          "write \(EventForm.allCases.map(\.rawValue).joined(separator: " or "))")
        continue
      }
      let facility = text(members["facility"], "\(key).facility") ?? "daemon"
      guard let facility = Self.facilities.firstIndex(of: facility) else {
        problem(
          members["facility"]?.line ?? node.line, "\(key).facility", "\(quoted(facility)) is no facility",
          "write daemon, auth, authpriv, user, or local0 to local7")
        continue
      }
      switch (members["file"], members["syslog"]) {
      case (let place?, nil):
        guard let path = text(place, "\(key).file") else { continue }
        result.logs.append(.init(target: .file(relative(path)), form: form, facility: facility))
      case (nil, let place?):
        guard let url = text(place, "\(key).syslog") else { continue }
        guard let address = Self.syslog(url) else {
          problem(
            place.line, "\(key).syslog", "\(quoted(url)) leads nowhere",
            "write unix:///PATH, udp://HOST:PORT or tcp://HOST:PORT")
          continue
        }
        result.logs.append(.init(target: .syslog(address), form: form, facility: facility))
      default:
        problem(node.line, key, "says not where it goes", "give either `file: PATH` or `syslog: udp://HOST:PORT`")
      }
    }
  }

  /// As RFC 5424 numbers them.
  private static let facilities =
    [
      "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
      "audit", "alert", "clock",
    ] + (0..<8).map { "local\($0)" }

  private static func syslog(_ text: String) -> FleetConfiguration.SyslogAddress? {
    if text.hasPrefix("unix:///") { return .unix(path: String(text.dropFirst(7))) }
    guard text.hasPrefix("udp://") || text.hasPrefix("tcp://"), let colon = text.lastIndex(of: ":"),
      let port = Int(text[text.index(after: colon)...]), (1...65535).contains(port)
    else { return nil }
    var host = String(text.dropFirst(6)[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    guard !host.isEmpty, !host.contains("/") else { return nil }
    return text.hasPrefix("udp") ? .udp(host: host, port: port) : .tcp(host: host, port: port)
  }

  private mutating func tls(_ node: Node) -> FleetConfiguration.TLS? {
    guard let members = members(node, "tls", known: ["certificate", "key"]) else { return nil }
    var paths: [String] = []
    for name in ["certificate", "key"] {
      guard let path = text(members[name], "tls.\(name)") else {
        if members[name] == nil {
          problem(node.line, "tls.\(name)", "is missing", "add `\(name): PATH` of a file in PEM")
        }
        return nil
      }
      paths.append(relative(path))
    }
    let tls = FleetConfiguration.TLS(certificate: paths[0], key: paths[1])
    do throws(ServerCertificate.Failure) { _ = try ServerCertificate(tls) } catch {
      problem(
        members[error.key]?.line ?? node.line, "tls.\(error.key)", error.what,
        "give files in PEM that belong together and that this user may read")
    }
    return tls
  }

  private mutating func users(_ node: Node?, _ result: inout FleetConfiguration) {
    for (key, node) in list(node, "users") {
      guard let members = members(node, key, known: ["name", "password", "role"]) else { continue }
      guard let name = text(members["name"], "\(key).name") else {
        if members["name"] == nil { problem(node.line, "\(key).name", "is missing", "add `name: NAME`") }
        continue
      }
      if result.users.contains(where: { $0.name == name }) {
        problem(node.line, "\(key).name", "\(quoted(name)) is there twice", "leave one of them")
      }
      var isAdmin = false
      if let value = members["role"], let role = text(value, "\(key).role") {
        guard ["admin", "reader"].contains(role) else {
          problem(
            value.line, "\(key).role", "\(quoted(role)) is no role",
            "write `reader`, or `admin` for who may change something")
          continue
        }
        isAdmin = role == "admin"
      }
      guard let value = members["password"], let text = text(value, "\(key).password") else {
        if members["password"] == nil {
          problem(node.line, "\(key).password", "is missing", "run `grass-fleet password` and put in what it prints")
        }
        continue
      }
      guard let password = PasswordHash(text) else {
        problem(
          value.line, "\(key).password", "is no hash of a password",
          "run `grass-fleet password` and put in what it prints, in quotes; never the password itself")
        continue
      }
      result.users.append(.init(name: name, password: password, isAdmin: isAdmin))
    }
  }

  private mutating func proxy(_ node: Node) -> FleetConfiguration.Proxy? {
    guard let members = members(node, "proxy", known: ["header", "from", "admins"]) else { return nil }
    let header = text(members["header"], "proxy.header") ?? "X-Remote-User"
    guard header.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || Self.isWordByte($0) }) else {
      problem(
        members["header"]?.line ?? node.line, "proxy.header", "\(quoted(header)) is no header",
        "write letters, digits and -")
      return nil
    }
    let from = texts(members["from"], "proxy.from")
    for (address, key, line) in from where !Self.isAddress(address) {
      problem(line, key, "\(quoted(address)) is no address", "write the proxy's own, as in 10.0.0.2 or ::1")
    }
    if from.isEmpty {
      problem(
        node.line, "proxy.from", "names no address: anybody could say who they are",
        "list the proxy's own, as in `from: [127.0.0.1]`")
    }
    return .init(
      header: header, from: Set(from.map(\.text)), admins: Set(texts(members["admins"], "proxy.admins").map(\.text)))
  }

  private static func isAddress(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ":") || Self.isHexByte($0) }
  }

  private mutating func shard(_ node: Node) -> FleetConfiguration.Shard? {
    guard let text = text(node, "shard") else { return nil }
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let number = parts[0], let count = parts[1], count >= 1, count <= 10_000,
      (1...count).contains(number)
    else {
      problem(node.line, "shard", "\(quoted(text)) is no shard", "write NUMBER/COUNT, as in 1/3 for the first of three")
      return nil
    }
    return .init(number: number, count: count)
  }

  private mutating func witness(_ node: Node) -> FleetConfiguration.Witness? {
    let known = [
      "prometheus", "query", "label", "every", "username", "password_file", "credentials_file", "ca_file",
    ]
    guard let members = members(node, "witness", known: known) else { return nil }
    guard let value = members["prometheus"], let text = text(value, "witness.prometheus") else {
      if members["prometheus"] == nil {
        problem(node.line, "witness.prometheus", "is missing", "add `prometheus: http://HOST:9090`")
      }
      return nil
    }
    guard let url = web(text, "witness.prometheus", value.line) else { return nil }
    let query = self.text(members["query"], "witness.query") ?? "up{job=\"node\"}"
    let label = self.text(members["label"], "witness.label") ?? "instance"
    guard label.utf8.allSatisfy({ Self.isWordByte($0) || $0 == UInt8(ascii: "_") }) else {
      problem(
        members["label"]?.line ?? node.line, "witness.label", "\(quoted(label)) is no name of a label",
        "write the label that has the host's name, as in `label: instance`")
      return nil
    }
    let authority = file(members["ca_file"], "witness.ca_file")
    return .init(
      prometheus: url, query: query, label: label,
      period: number(members["every"], "witness.every", 1...3600, unit: "seconds") ?? 15,
      login: login(node, members, to: url), authority: authority)
  }

  /// How the service says who it is, by files, which are read here to see whether they go.
  private mutating func login(
    _ node: Node, _ members: [String: Node], to url: String
  ) -> FleetConfiguration.Witness.Login? {
    let (user, password, token) = (members["username"], members["password_file"], members["credentials_file"])
    if let token, let other = user ?? password {
      problem(
        max(token.line, other.line), "witness.credentials_file", "is given beside a name or a password",
        "leave either `credentials_file:`, or `username:` with `password_file:`")
      return nil
    }
    func secret(_ node: Node?, _ name: String) -> String? {
      guard let node, let path = file(node, "witness.\(name)") else { return nil }
      do throws(SecretFile.Failure) { _ = try SecretFile.read(path) } catch {
        problem(
          node.line, "witness.\(name)", "\(quoted(path)) \(error.what)", "put the secret into it, and nothing else")
        return nil
      }
      return path
    }
    var login: FleetConfiguration.Witness.Login?
    if let token {
      login = secret(token, "credentials_file").map { .token(file: $0) }
    } else if user != nil || password != nil {
      guard let user, let password else {
        let missing = user == nil ? "username" : "password_file"
        problem(
          (user ?? password ?? node).line, "witness.\(missing)", "is missing",
          "add `\(missing): \(user == nil ? "NAME" : "PATH")`")
        return nil
      }
      guard let name = text(user, "witness.username") else { return nil }
      // RFC 7617: what is behind the first colon is the password.
      guard !name.contains(where: { $0 == ":" || $0.isNewline }) else {
        problem(user.line, "witness.username", "\(quoted(name)) is no name", "write it without a colon")
        return nil
      }
      login = secret(password, "password_file").map { .password(user: name, file: $0) }
    }
    let host = URL(string: url)?.host ?? ""
    if login != nil, url.lowercased().hasPrefix("http://"), !["127.0.0.1", "localhost", "::1", "[::1]"].contains(host) {
      problem(
        members["prometheus"]?.line ?? node.line, "witness.prometheus",
        "\(quoted(url)) would have the secret go over the network in clear", "write https://, or ask at 127.0.0.1")
    }
    return login
  }

  /// The path of a file that this user may read.
  private mutating func file(_ node: Node?, _ key: String) -> String? {
    guard let node, let text = text(node, key) else { return nil }
    let path = relative(text)
    guard access(path, R_OK) == 0 else {
      problem(node.line, key, "\(quoted(path)) cannot be read", "give a file that is there and that this user may read")
      return nil
    }
    return path
  }

  private mutating func images(_ node: Node) -> FleetConfiguration.Images? {
    let known = ["store", "sign_with", "folder", "encrypt_to", "level", "profile", "keep", "rules"]
    guard let members = members(node, "images", known: known), let destination = destination(node, members) else {
      return nil
    }
    var images = FleetConfiguration.Images(
      destination: destination, level: level(members, "images") ?? 0,
      keep: whole(members["keep"], "images.keep", 0...10_000) ?? 0, rules: [])
    for (key, node) in list(members["rules"], "images.rules") {
      let names = ["states", "findings", "kinds", "severities", "level", "profile", "per_day"]
      guard let members = self.members(node, key, known: names) else { continue }
      images.rules.append(
        .init(
          states: words(members, "states", key, Set(HostState.allCases.filter { !$0.isBlind }.map(\.rawValue))),
          findings: words(members, "findings", key, Set(Detectors.all.map { $0.name })),
          kinds: words(members, "kinds", key, Set(Finding.Kind.allCases.map(\.rawValue))),
          severities: words(members, "severities", key, Set(Finding.Severity.allCases.map(\.rawValue))),
          level: level(members, key) ?? images.level, perDay: whole(members["per_day"], "\(key).per_day", 1...1000) ?? 1
        ))
      if names.prefix(4).allSatisfy({ members[$0] == nil }) {
        problem(
          node.line, key, "says not when an image is taken",
          "give `states:`, or `findings:`, `kinds:` and `severities:`, each with a list")
      }
    }
    return images
  }

  /// Where images go: into a store, or, encrypted, into files.
  private mutating func destination(
    _ node: Node, _ members: [String: Node]
  ) -> FleetConfiguration.Images.Destination? {
    switch (members["store"], members["folder"]) {
    case (nil, nil):
      problem(
        node.line, "images.store", "is missing",
        "add `store: PATH` of a folder for images, or `folder: PATH` with `encrypt_to:`")
      return nil
    case (_?, let folder?):
      problem(folder.line, "images.folder", "is given beside a store", "leave one of them")
      return nil
    case (let value?, nil):
      if let other = members["encrypt_to"] {
        problem(
          other.line, "images.encrypt_to", "does not go with a store, whose images share what is the same in them",
          "write `folder: PATH` in place of `store:`, or keep the store on an encrypted disk")
      }
      let signer = file(members["sign_with"], "images.sign_with")
      if let signer, let node = members["sign_with"] {
        do throws(KeyError) { _ = try CertifierIdentity(contentsOf: signer) } catch {
          problem(
            node.line, "images.sign_with", "\(quoted(signer)) is no private key: \(error)",
            "give what `grassctl key new --certifier` made")
        }
      }
      return text(value, "images.store").map { .store(relative($0), signer: signer) }
    case (nil, let value?):
      if let other = members["sign_with"] {
        problem(
          other.line, "images.sign_with", "does not go with a folder: files are not signed",
          "write `store: PATH` in place of `folder:`, or leave it out")
      }
      guard members["encrypt_to"] != nil else {
        problem(
          value.line, "images.encrypt_to", "is missing",
          "add `encrypt_to: [age1…]`: age-keygen makes a key; or use a `store:`")
        return nil
      }
      var recipients: [String] = []
      for (text, key, line) in texts(members["encrypt_to"], "images.encrypt_to") {
        let recipient = text.hasPrefix("age1") ? text : relative(text)
        do throws(Encryption.Failure) { try Encryption.check(recipient) } catch {
          problem(
            line, key, "\(quoted(recipient)) does not go: \(error)",
            "give a public key of age (age1…), or a file of such")
          continue
        }
        recipients.append(recipient)
      }
      if recipients.isEmpty, case .sequence(let list)? = members["encrypt_to"], list.isEmpty {
        problem(value.line, "images.encrypt_to", "is empty", "give at least one public key of age (age1…)")
      }
      return text(value, "images.folder").map { .folder(relative($0), recipients: recipients) }
    }
  }

  /// What an image leaves out: a number, or a profile's.
  private mutating func level(_ members: [String: Node], _ key: String) -> Int? {
    guard let value = members["profile"] else { return whole(members["level"], "\(key).level", 0...31) }
    guard members["level"] == nil else {
      problem(value.line, "\(key).profile", "is given beside a level", "leave one of them")
      return nil
    }
    guard let profile = text(value, "\(key).profile") else { return nil }
    guard let level = ["evidence": 0, "crash": 31][profile] else {
      problem(
        value.line, "\(key).profile", "\(quoted(profile)) is no profile",
        "write `evidence` for everything, or `crash` for the kernel's own data")
      return nil
    }
    return level
  }

  private mutating func whole(_ node: Node?, _ key: String, _ range: ClosedRange<Int>) -> Int? {
    guard let node, let text = text(node, key) else { return nil }
    guard let value = Int(text), range.contains(value) else {
      problem(
        node.line, key, "\(quoted(text)) does not go",
        "give a whole number, from \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return value
  }

  /// A list of words that have to be among those that are `known`.
  private mutating func words(
    _ members: [String: Node], _ name: String, _ key: String, _ known: Set<String>
  ) -> Set<String> {
    var words: Set<String> = []
    for (word, key, line) in texts(members[name], "\(key).\(name)") {
      guard known.contains(word) else {
        let near = known.filter { Self.distance($0, word) <= 2 }.min()
        problem(
          line, key, "\(quoted(word)) is none of them",
          near.map { "did you mean `\($0)`?" }
            ?? (known.count > 10
              ? "`grassctl detectors` lists them" : "they are \(known.sorted().joined(separator: ", "))"))
        continue
      }
      words.insert(word)
    }
    return words
  }

  private mutating func hosts(_ node: Node, _ result: inout FleetConfiguration) {
    var lines: [String: Int] = [:]
    for (key, node) in list(node, "hosts") {
      guard let members = members(node, key, known: ["name", "url", "labels", "period"]) else { continue }
      guard let value = members["name"], let name = text(value, "\(key).name") else {
        if members["name"] == nil { problem(node.line, "\(key).name", "is missing", "add `name: NAME`") }
        continue
      }
      guard Self.isName(name) else {
        problem(
          value.line, "\(key).name", "\(quoted(name)) is no name", "use letters, digits, . - and _, 100 of them at most"
        )
        continue
      }
      if let line = lines[name] {
        problem(
          value.line, "\(key).name", "\(quoted(name)) is the host of line \(line), too",
          "give each host a name of its own")
      }
      lines[name] = value.line
      let labels = labels(members["labels"], "\(key).labels")
      let period = number(members["period"], "\(key).period", Self.periods, unit: "seconds")
      guard let place = members["url"], let url = text(place, "\(key).url") else {
        if members["url"] == nil {
          problem(node.line, "\(key).url", "is missing", "add `url: URL`, as grassd printed it")
        }
        continue
      }
      if !url.lowercased().hasPrefix("grass://") {
        do throws(LinkError) { _ = try LinkAddress(url) } catch {
          problem(
            place.line, "\(key).url", "\(quoted(url)) leads nowhere",
            "write it as grassd printed it: \(LinkKinds.forms)")
          continue
        }
      }
      if let shard = result.shard, !shard.has(name) { continue }
      result.hosts.append(.init(name: name, url: url, labels: labels, period: period ?? result.period))
    }
  }

  private mutating func labels(_ node: Node?, _ key: String) -> [String: String] {
    guard let node else { return [:] }
    guard case .mapping(let mapping) = node else {
      problem(node.line, key, "is \(node.kind)", "write {NAME: VALUE, …}")
      return [:]
    }
    var labels: [String: String] = [:]
    for (name, value) in mapping {
      guard let label = name.scalar?.string, Self.isLabel(label) else {
        problem(
          name.line, "\(key).\(name.scalar?.string ?? "?")", "is no name of a label",
          "use letters, digits and _, and none of \(Self.ownLabels.sorted().joined(separator: ", ")), which are GRASS's own"
        )
        continue
      }
      labels[label] = text(value, "\(key).\(label)").map { String($0.prefix(200)) }
    }
    return labels
  }

  /// Labels that metrics and alerts have by themselves.
  private static let ownLabels: Set<String> = [
    "host", "state", "kind", "severity", "detector", "alertname", "job", "instance", "le",
  ]

  private static func isWordByte(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) && byte < 0x80
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private static func isHexByte(_ byte: UInt8) -> Bool {
    isWordByte(byte) && (byte < UInt8(ascii: "A") || byte | 0x20 <= UInt8(ascii: "f"))
  }

  private static func isName(_ name: String) -> Bool {
    (1...100).contains(name.utf8.count) && name.utf8.allSatisfy { isWordByte($0) || "._-".utf8.contains($0) }
      && name.utf8.first.map(isWordByte) == true
  }

  private static func isLabel(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else { return false }
    return name.utf8.count <= 60 && !name.hasPrefix("__") && !ownLabels.contains(name)
      && name.utf8.allSatisfy { isWordByte($0) || $0 == UInt8(ascii: "_") }
  }
}

/// A text as messages show it: whatever it has, on one line, and not too much of it.
private func quoted(_ text: String) -> String {
  "\"\(String(text.prefix(80)).replacing("\n", with: " "))\""
}

extension Node {
  /// The line that it begins in.
  fileprivate var line: Int { mark?.line ?? 0 }

  /// What it is, in words.
  fileprivate var kind: String {
    switch self {
    case .scalar(let scalar): scalar.string.isEmpty ? "empty" : "one value"
    case .mapping: "a mapping"
    case .sequence: "a list"
    case .alias: "an alias"
    }
  }
}
