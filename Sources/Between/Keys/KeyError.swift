import Host

/// Why a key, a file of keys, a certificate or a handshake cannot be used.
public struct KeyError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The text or the bytes are not what they should be; says why, and what to do.
    case malformed(String)
    /// A public key that makes every shared secret known: nobody honest has it.
    case weakKey
    /// A system call failed, with this errno.
    case system(call: String, code: Int32)
    /// There is no such file; says what to do.
    case missing(String)
    /// The file's mode lets others do what they must not; `wanted` is the mode that it should have.
    case openToOthers(mode: UInt32, wanted: UInt32)
    /// The file, or its folder, belongs to another user, who could change it.
    case foreign(owner: UInt32)
    /// It is no regular file.
    case notAFile
    /// It is a symbolic link, which somebody else may have laid there.
    case symbolicLink
    /// It is longer than any such file has to be, in bytes.
    case tooLong(limit: Int)
    /// It is there already, and would have been overwritten.
    case exists
    /// A handshake's message, or what was asked of the handshake, was refused.
    case handshake(HandshakeFault)
    /// A certificate is no proof.
    case certificate(CertificateFault)
  }

  /// What it is about: a path, a name, or what the text was meant to be.
  public var subject: String
  public var reason: Reason

  public init(_ subject: String, _ reason: Reason) {
    self.subject = subject
    self.reason = reason
  }

  public var description: String {
    switch reason {
    case .malformed(let why): "\(subject): \(why)"
    case .weakKey: "\(subject): is a key that keeps no secret (a point of small order); nobody honest has it"
    case .system(let call, let code): "\(subject): \(call) failed: \(SystemCall.describe(code))"
    case .missing(let advice): "\(subject): there is no such file; \(advice)"
    case .openToOthers(let mode, let wanted):
      "\(subject): others may \(wanted & 0o044 == 0 ? "read" : "change") it (mode \(octal(mode))), so it is not used; "
        + "run `chmod \(octal(wanted)) \(shellWord(subject))`, and "
        + (wanted & 0o044 == 0 ? "if others may have done so, make a new one" : "see whether what is in it is right")
    case .foreign(let owner):
      "\(subject): belongs to user \(owner), who could change it, so it is not used; "
        + "it must belong to who runs this or to root (`chown`)"
    case .notAFile: "\(subject): is no regular file; name the file itself"
    case .symbolicLink: "\(subject): is a symbolic link, which is not followed; name the file that it leads to"
    case .tooLong(let limit): "\(subject): is longer than \(limit) bytes; this cannot be the file that was meant"
    case .exists: "\(subject): is there already, and is not overwritten; name another file, or move that one away"
    case .handshake(let fault): "\(subject): \(fault)"
    case .certificate(let fault): "\(subject): \(fault)"
    }
  }
}

/// Why a handshake refused a message or a call.
public enum HandshakeFault: Hashable, Sendable, CustomStringConvertible {
  /// It is the other side's turn, or the handshake has ended, or has not.
  case badTurn
  /// The message is shorter than what it must hold, in bytes.
  case tooShort(Int, atLeast: Int)
  /// The message is longer than Noise has them, or would be.
  case tooLong(Int)
  /// The message was altered, or made under other keys or for another prologue.
  case badTag
  /// The other side's key is of small order, or not in its one form.
  case badKey

  public var description: String {
    switch self {
    case .badTurn: "this message is not the next one of this handshake"
    case .tooShort(let count, let least): "a message of \(count) bytes, which must have \(least) at least"
    case .tooLong(let count): "a message of \(count) bytes; there are 65535 at most"
    case .badTag: "a message that was altered on its way, or that is meant for other keys"
    case .badKey: "a message with a key that keeps no secret; nobody honest sends it"
    }
  }
}

/// Why a certificate is no proof.
public enum CertificateFault: Hashable, Sendable, CustomStringConvertible {
  /// The certifier did not sign this.
  case badSignature
  /// It was signed by another certifier: the fingerprint of that one.
  case otherCertifier(String)
  /// Its time has not come: seconds since 1970.
  case notYet(UInt64)
  /// Its time is over: seconds since 1970.
  case expired(UInt64)
  /// It is of another key: the fingerprint of that one.
  case otherKey(String)
  /// It is for a host of another name: that name.
  case otherName(String)

  public var description: String {
    switch self {
    case .badSignature: "the certificate's signature is not its certifier's; it was altered, or made by somebody else"
    case .otherCertifier(let fingerprint): "the certificate was made by another certifier, \(fingerprint)"
    case .notYet(let time):
      "the certificate is not valid before \(UTCTime.text(time)); see whether this machine's clock is right"
    case .expired(let time):
      "the certificate was valid until \(UTCTime.text(time)); make a new one with `grassctl key certify`"
    case .otherKey(let fingerprint): "the certificate is of another key, \(fingerprint)"
    case .otherName(let name): "the certificate is for \(quoted(name)), which is another host"
    }
  }
}

func octal(_ mode: UInt32) -> String { String(mode, radix: 8) }

/// A path as a shell takes it.
func shellWord(_ path: String) -> String {
  let isPlain = path.utf8.allSatisfy { byte in
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "/._-+:@".utf8.contains(byte)
  }
  return isPlain && !path.isEmpty
    ? path : "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}

/// Text that may be anybody's, as a message shows it: its beginning, without what would steer a terminal.
package func quoted(_ text: some StringProtocol) -> String {
  var shown = ""
  for (index, scalar) in text.unicodeScalars.enumerated() {
    if index == 48 {
      shown += "…"
      break
    }
    shown.unicodeScalars.append(isPrintable(scalar) ? scalar : "\u{FFFD}")
  }
  return "\"\(shown)\""
}

/// Whether a scalar shows itself and does nothing else: no control, no change of direction, no new line.
func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
  default: true
  }
}
