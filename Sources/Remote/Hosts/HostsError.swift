public import Keys

/// Why a host cannot be named, trusted or asked.
public struct HostsError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// A file cannot be read or written, or holds no key; says which and why.
    case file(KeyError)
    /// There is neither a home nor a variable that says where the user's files are.
    case noFolder
    /// The configuration has no host of this name; those that it has.
    case noSuchHost(file: String, names: [String])
    /// The configuration's host has no address.
    case noAddress(file: String, line: Int)
    /// The text is no name of a host, or no pattern of names; says why.
    case badName(String)
    /// The text is neither a key nor a fingerprint.
    case badKey(String)
    /// The device's key is not to be trusted.
    case refused(shown: PublicKey, HostVerdict, file: String)
    /// The device's key is not the one that the configuration has: that one's fingerprint, and the host's line.
    case notTheOne(shown: PublicKey, fingerprint: String, file: String, line: Int)
    /// Other keys are known for this name: the lines of the file.
    case alreadyKnown(file: String, lines: [Int])
    /// Nothing is known for this name that could be forgotten; lines whose patterns cover it all the same.
    case nothingKnown(file: String, patterns: [Int])
  }

  /// What it is about: an address, a name, a file.
  public var subject: String
  public var reason: Reason

  public init(_ subject: String, _ reason: Reason) {
    self.subject = subject
    self.reason = reason
  }

  public var description: String {
    switch reason {
    case .file(let error): return "\(error)"
    case .noFolder:
      return "\(subject): there is no folder for it; set HOME, or GRASS_CONFIG to the folder with your keys"
    case .noSuchHost(let file, let names):
      let known = names.isEmpty ? "it names no host yet" : "it names \(names.prefix(12).joined(separator: ", "))"
      return "\(subject): there is no host of this name in \(file) (\(known)); add two lines to it: "
        + "`host NAME` and `address tcp://HOST:PORT`"
    case .noAddress(let file, let line):
      return "\(subject): \(file):\(line) gives this host no address; add a line `address tcp://HOST:PORT` below it"
    case .badName(let why): return "\(subject): \(why)"
    case .badKey(let why): return "\(subject): \(why)"
    case .refused(let shown, let verdict, let file): return verdict.refusal(of: shown, host: subject, file: file)
    case .notTheOne(let shown, let fingerprint, let file, let line):
      return """
        \(subject): its key is refused: it is not the one that \(file) has for this host (line \(line)).
          shown:  \(shown.fingerprint)
          known:  \(fingerprint)
        Either somebody stands between you and the device, or its key was made anew. Nothing was asked of it. Ask who runs it, by
        another way than this network; if the new key is right, put it into that file.
        """
    case .alreadyKnown(let file, let lines):
      return "\(subject): another key is known for it (\(file), \(Self.lines(lines))); if the new one is right, run "
        + "`grassctl key trust --remove \(subject)` first"
    case .nothingKnown(let file, let patterns):
      return patterns.isEmpty
        ? "\(subject): \(file) has no key for it"
        : "\(subject): no line of \(file) is for this name only; "
          + "the patterns of \(Self.lines(patterns)) cover it: change these by hand"
    }
  }

  private static func lines(_ numbers: [Int]) -> String {
    (numbers.count == 1 ? "line " : "lines ") + numbers.map(String.init).joined(separator: ", ")
  }
}

/// Runs what fails as files of keys do.
func reading<Success>(
  _ subject: String, _ body: () throws(KeyError) -> Success
) throws(HostsError) -> Success {
  do throws(KeyError) {
    return try body()
  } catch {
    throw HostsError(subject, .file(error))
  }
}
