import Glibc
import Host

/// An image on its way through age, which encrypts it to public keys: a format that many programs read, by a tool that is kept well.
///
/// Source: age-encryption.org/v1; age(1).
final class Encryption {
  /// Why an image could not be encrypted.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Where the image is to be written; its end is said by ``finish()``.
  let input: CInt
  private let process: pid_t
  /// The file that it becomes once it is whole; nil for standard output.
  private let path: String?
  private var isOpen = true

  /// Starts age, which writes to `output`, `-` for standard output.
  ///
  /// The recipients are public keys, `age1…`, or files with one a line.
  ///
  /// - Throws: ``Failure`` where age is not there, or there is such a file already.
  init(to recipients: [String], _ output: String) throws {
    path = output == "-" ? nil : output
    if let path, access(path, F_OK) == 0 {
      throw Failure(description: "\(path) is there already, and is not overwritten; remove it, or give another name")
    }
    var program = ["age", "--encrypt"]
    for recipient in recipients {
      program += recipient.hasPrefix("age1") ? ["--recipient", recipient] : ["--recipients-file", recipient]
    }
    if let path { program += ["--output", Self.partialPath(of: path)] }
    var ends: [CInt] = [-1, -1]
    guard pipe(&ends) == 0 else { throw SystemCallError("the image", call: "pipe", code: errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    do throws(SystemCallError) {
      process = try spawn(program, input: ends[0])
    } catch {
      close(ends[1])
      throw Failure(description: "\(error); --encrypt-to needs age: apt-get install age")
    }
    input = ends[1]
  }

  private static func partialPath(of path: String) -> String { path + ".encrypting" }

  /// Says that the image is whole, and waits until it is encrypted; then the file gets its name.
  ///
  /// - Throws: ``Failure`` where age did not take it.
  func finish() throws {
    guard end() == 0 else {
      discard()
      throw Failure(description: "age could not encrypt the image, as it says")
    }
    guard let path else { return }
    guard link(Self.partialPath(of: path), path) == 0 || rename(Self.partialPath(of: path), path) == 0 else {
      throw SystemCallError(path, call: "rename", code: errno)
    }
    unlink(Self.partialPath(of: path))
  }

  /// Leaves nothing of an image that is not whole: it cannot be gone on with.
  func abandon() {
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
