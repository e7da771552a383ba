import Glibc
import Host

/// An image on its way through age, which encrypts it to public keys: a format that many programs read, by a tool that is kept well.
///
/// Source: age-encryption.org/v1; age(1).
package final class Encryption {
  /// Why an image could not be encrypted.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// Where the image is to be written; its end is said by ``finish()``.
  package let input: CInt
  private let process: pid_t
  /// The file that it becomes; nil for standard output.
  private let path: String?
  private var isOpen = true

  /// Starts age, which writes to `output`, `-` for standard output.
  ///
  /// The recipients are public keys, `age1…`, or files with one a line.
  ///
  /// - Throws: ``Failure`` where age is not there, or there is such a file already.
  package init(to recipients: [String], _ output: String) throws(Failure) {
    path = output == "-" ? nil : output
    if let path, access(path, F_OK) == 0 {
      throw Failure(description: "\(path) is there already, and is not overwritten; remove it, or give another name")
    }
    var program = Self.program(recipients)
    if let path {
      // What a run left that was killed may still be written.
      unlink(Self.partialPath(of: path))
      program += ["--output", Self.partialPath(of: path)]
    }
    let ends: (reading: CInt, writing: CInt)
    do throws(SystemCallError) { ends = try SystemCall.pipe(for: "the image") } catch {
      throw Failure(description: "\(error)")
    }
    defer { close(ends.reading) }
    // ^C is for who asked for the image: what was written until then is to be encrypted to its end. What is ignored stays so in age.
    let handler = signal(SIGINT, SIG_IGN)
    defer { signal(SIGINT, handler) }
    do throws(SystemCallError) {
      process = try spawn(program, input: ends.reading)
    } catch {
      close(ends.writing)
      throw Self.absent(error)
    }
    input = ends.writing
  }

  private static func program(_ recipients: [String]) -> [String] {
    ["age", "--encrypt"]
      + recipients.flatMap { $0.hasPrefix("age1") ? ["--recipient", $0] : ["--recipients-file", $0] }
  }

  private static func absent(_ error: SystemCallError) -> Failure {
    Failure(description: "\(error); to encrypt needs age: apt-get install age")
  }

  private static func partialPath(of path: String) -> String { path + ".encrypting" }

  /// Has age say whether it takes a recipient.
  ///
  /// - Throws: ``Failure`` with age's own words where it does not, or is not there.
  package static func check(_ recipient: String) throws(Failure) {
    let (said, status): ([UInt8], Int32)
    do throws(SystemCallError) {
      (said, status) = try outcome(of: program([recipient]) + ["--output", "/dev/null"], most: 4096)
    } catch {
      throw absent(error)
    }
    guard status == 0 else {
      let text = String(decoding: said, as: UTF8.self)
      throw Failure(description: String(text.split(whereSeparator: \.isNewline).first ?? "age refuses it"))
    }
  }

  /// Says that there is no more, and waits until all is encrypted; then the file gets its name, or the one given.
  ///
  /// - Throws: ``Failure`` where age did not take it, or there is such a file.
  package func finish(as name: String? = nil) throws(Failure) {
    guard end() == 0 else {
      discard()
      throw Failure(description: "age could not encrypt the image, as it says")
    }
    guard let path else { return }
    let (partial, name) = (Self.partialPath(of: path), name ?? path)
    guard link(partial, name) == 0 || errno != EEXIST && rename(partial, name) == 0 else {
      throw Failure(description: "\(SystemCallError(name, call: "rename", code: errno))")
    }
    unlink(partial)
  }

  /// Leaves nothing of what was written.
  package func abandon() {
    kill(process, SIGTERM)
    _ = end()
    discard()
  }

  private func discard() { if let path { unlink(Self.partialPath(of: path)) } }

  private func end() -> Int32 {
    if isOpen { close(input) }
    isOpen = false
    var status: Int32 = 0
    _ = SystemCall.retrying { Int(waitpid(process, &status, 0)) }
    return status
  }
}
