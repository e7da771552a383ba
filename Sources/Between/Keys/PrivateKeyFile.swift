/// The text of a file with a private key: comments, and one line `WORD-private BASE64`.
enum PrivateKeyFile {
  /// Longer is no such file.
  static let limit = 4096

  private static let newline = UInt8(ascii: "\n")

  static func write(
    _ secret: SecretBytes, as word: String, heading: String, to path: String, replacing: Bool
  ) throws(KeyError) {
    let head = Array("# \(heading)\n\(word)-private ".utf8)
    let text = SecretBytes(count: head.count + Base64.length(secret.count) + 1) { text in
      text.copyBytes(from: head)
      secret.withUnsafeBytes { secret in
        Base64.encode(
          secret, into: UnsafeMutableRawBufferPointer(rebasing: text[head.count..<text.count - 1]))
      }
      text[text.count - 1] = newline
    }
    let result: Result<Void, KeyError> = text.withUnsafeBytes { bytes in
      do throws(KeyError) {
        return .success(try KeyFile.write(bytes, to: path, mode: 0o600, replacing: replacing))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  static func read(_ path: String, as word: String, _ rule: KeyFile.Rule) throws(KeyError) -> SecretBytes {
    do throws(KeyError) {
      return try KeyFile.withContents(of: path, rule, limit: limit) { text throws(KeyError) in
        try parse(text, as: word, path: path)
      }
    } catch {
      guard case .missing = error.reason else { throw error }
      throw KeyError(path, .missing("`\(command(word))` makes one, or name the file that has it"))
    }
  }

  /// What makes such a key.
  private static func command(_ word: String) -> String {
    "grassctl key new" + (word == CertifierKey.word ? " --certifier" : "")
  }

  private static func parse(
    _ text: UnsafeRawBufferPointer, as word: String, path: String
  ) throws(KeyError) -> SecretBytes {
    func malformed(_ why: String) -> KeyError { KeyError(path, .malformed(why)) }
    var found: SecretBytes?
    var rest = text[...]
    while let end = rest.firstIndex(of: newline) ?? (rest.isEmpty ? nil : rest.endIndex) {
      let line = trim(rest[rest.startIndex..<end])
      rest = rest[min(end + 1, rest.endIndex)...]
      guard let first = line.first, first != UInt8(ascii: "#") else { continue }
      let space = line.firstIndex { isBlank($0) } ?? line.endIndex
      let kind = line[line.startIndex..<space]
      guard kind.elementsEqual("\(word)-private".utf8) else {
        if kind.elementsEqual(PublicKey.word.utf8) || kind.elementsEqual(CertifierKey.word.utf8) {
          throw malformed("has a public key; the private one lies in the file without .pub")
        }
        if kind.elementsEqual("\(PublicKey.word)-private".utf8) {
          throw malformed("has an identity's key, not a certifier's; `grassctl key new --certifier` makes one")
        }
        if kind.elementsEqual("\(CertifierKey.word)-private".utf8) {
          throw malformed("has a certifier's key, not an identity's; `grassctl key new` makes one")
        }
        throw malformed("has no key of GRASS; `\(command(word))` makes one")
      }
      guard found == nil else { throw malformed("has more than one key; keep one in a file") }
      let secret = trim(line[space...])
      found = try SecretBytes(count: 32) { bytes throws(KeyError) in
        guard Base64.decode(UnsafeRawBufferPointer(rebasing: secret), into: bytes) else {
          throw malformed(
            "the key in it is damaged: it is not the base64 of 32 bytes; take it from a copy, or make a new one")
        }
      }
    }
    guard let found else { throw malformed("has no key; `\(command(word))` makes one") }
    return found
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0d }

  private static func trim(_ line: Slice<UnsafeRawBufferPointer>) -> Slice<UnsafeRawBufferPointer> {
    var line = line
    while let first = line.first, isBlank(first) { line = line.dropFirst() }
    while let last = line.last, isBlank(last) { line = line.dropLast() }
    return line
  }
}
