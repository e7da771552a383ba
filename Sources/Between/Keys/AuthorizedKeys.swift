/// The file `authorized_keys`: whom a device lets in, and to what.
///
/// A line a key, as ``AuthorizedKey`` has it; `#` begins a line that is a comment. A line that cannot be used is told and
/// does not count; the others do. Of a key that is there twice, the first line counts.
public struct AuthorizedKeys: Sendable {
  /// In the order of their lines; no key is there twice.
  public var keys: [AuthorizedKey] = []
  /// Lines that do not count.
  public var problems: [LineProblem] = []

  /// Parses the text of such a file; `file` is its name in what is told.
  public init(parsing text: some Collection<UInt8>, file: String) {
    self = Array(text).withUnsafeBytes { Self(bytes: $0, file: file) }
  }

  /// Reads a file.
  ///
  /// - Throws: ``KeyError`` where it cannot be read, is longer than 4 MiB, or where others than root and this user could
  ///   have changed it or laid another one in its place.
  public init(contentsOf path: String) throws(KeyError) {
    self = try KeyFile.withContents(of: path, .unchanged, limit: LineFile.limit) { text throws(KeyError) in
      Self(bytes: text, file: path)
    }
  }

  private init(bytes: UnsafeRawBufferPointer, file: String) {
    var lines: [PublicKey: Int] = [:]
    for (number, text) in LineFile.lines(of: bytes, file: file, problems: &problems) {
      do throws(KeyError) {
        let key = try AuthorizedKey(parsing: text)
        if let first = lines[key.key] {
          problems.append(
            LineProblem(
              file: file, line: number,
              why: "the key \(key.key.fingerprint) is in line \(first) already, and that one counts; leave one of them")
          )
        } else {
          lines[key.key] = number
          keys.append(key)
        }
      } catch {
        problems.append(LineProblem(file: file, line: number, why: "does not count: \(error)"))
      }
    }
    problems.sort { $0.line < $1.line }
  }
}
