import Glibc
import Host
import Memory

/// Which parts of an image are in its file, and what they are: lines of text beside it, appended as they are written.
///
/// ```
/// part POSITION COUNT STATE DIGEST     bytes of memory from POSITION on; where in the file the next part goes
/// unread ADDRESS COUNT                 before the part that it belongs to
/// again                                all parts are there, and from here on pages may be copied again
/// end POSITION                         of an encrypted image: here a file of it ends, which has all that is named before; where in the image
/// ```
/// The digest is of what the file has of the part. Parts are believed only as far as the file still has them; once pages are copied
/// again, it is the memory that what the file has is held against.
struct ImageJournal {
  struct Part: Equatable {
    var range: Range<UInt64>
    var state: UInt64
    var digest: MemoryDigest
    var unread: [MemorySegment] = []
  }

  private let path: String
  private let descriptor: CInt

  static func path(of image: String) -> String { ImageOutput.partialPath(of: image) + ".journal" }
  static func planPath(of image: String) -> String { ImageOutput.partialPath(of: image) + ".plan" }

  /// The plan that an image was begun with; nil where none was begun.
  static func plan(of image: String) -> ImagePlan? { ImagePlan(contents(planPath(of: image))) }

  /// Where a file of an encrypted image ends: behind so many parts, and where in the image.
  struct End: Equatable {
    var parts: Int
    var position: UInt64
  }

  /// What an image's journal says.
  struct Contents {
    var parts: [Part] = []
    /// Whether pages may have been copied again since.
    var isRewritten = false
    var ends: [End] = []
  }

  /// What an image's journal says: parts are in order, begin at 0, and each where the one before it ends.
  static func contents(of image: String) -> Contents {
    var parts: [Part] = []
    var ends: [End] = []
    var unread: [MemorySegment] = []
    var end: UInt64 = 0
    var isRewritten = false
    for line in String(decoding: contents(path(of: image)), as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      let numbers = words.dropFirst().prefix(words.first == "part" ? 3 : 2).compactMap { UInt64($0) }
      if words.count == 2, words[0] == "end", numbers.count == 1, unread.isEmpty {
        ends.append(End(parts: parts.count, position: numbers[0]))
      } else if words.count == 3, words[0] == "unread", numbers.count == 2 {
        unread.append(MemorySegment(start: PhysicalAddress(numbers[0]), count: numbers[1]))
      } else if words == ["again"] {
        isRewritten = true
      } else if !isRewritten, words.count == 5, words[0] == "part", numbers.count == 3, numbers[0] == end,
        let digest = MemoryDigest(String(words[4])), numbers[1] > 0, numbers[1] <= .max - end
      {
        parts.append(Part(range: end..<end + numbers[1], state: numbers[2], digest: digest, unread: unread))
        end += numbers[1]
        unread = []
      } else {
        // Cut while it was written.
        break
      }
    }
    return Contents(parts: parts, isRewritten: isRewritten, ends: ends)
  }

  /// A journal to append to, of an image that has what `contents` say.
  ///
  /// - Throws: ``AcquisitionError`` where it or the plan cannot be written.
  init(of image: String, plan: ImagePlan, _ contents: Contents) throws(AcquisitionError) {
    path = Self.path(of: image)
    // The plan first: without it the journal says nothing.
    if contents.parts.isEmpty { try Self.replace(Self.planPath(of: image), plan.bytes) }
    var (text, rest) = ("", contents.ends[...])
    for (index, part) in contents.parts.enumerated() {
      text += Self.lines(part)
      while let end = rest.first, end.parts == index + 1 {
        text += Self.line(end.position)
        rest.removeFirst()
      }
    }
    if contents.isRewritten { text += Self.again }
    try Self.replace(path, Array(text.utf8))
    descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw AcquisitionError(path, .system(call: "open", errno)) }
  }

  /// Notes a part that was written.
  func append(_ part: Part) throws(AcquisitionError) { try append(Self.lines(part)) }

  /// Notes that pages may be copied again from now on.
  func appendAgain() throws(AcquisitionError) { try append(Self.again) }

  /// Notes that a file of an encrypted image ends here, and is kept.
  func appendEnd(_ position: UInt64) throws(AcquisitionError) { try append(Self.line(position)) }

  private static let again = "again\n"
  private static func line(_ end: UInt64) -> String { "end \(end)\n" }

  private func append(_ text: String) throws(AcquisitionError) {
    let bytes = Array(text.utf8)
    guard SystemCall.retrying({ write(descriptor, bytes, bytes.count) }) == bytes.count else {
      throw AcquisitionError(path, .system(call: "write", errno))
    }
  }

  /// Ends it; with the image whole, nothing of it stays.
  func close(isWhole: Bool, of image: String) {
    Glibc.close(descriptor)
    guard isWhole else { return }
    unlink(path)
    unlink(Self.planPath(of: image))
  }

  private static func lines(_ part: Part) -> String {
    part.unread.map { "unread \($0.start.rawValue) \($0.count)\n" }.joined()
      + "part \(part.range.lowerBound) \(part.range.upperBound - part.range.lowerBound) \(part.state) \(part.digest)\n"
  }

  /// Writes a file under another name first: there is the old one or the new one, and never half of one.
  private static func replace(_ path: String, _ bytes: [UInt8]) throws(AcquisitionError) {
    let new = path + ".new"
    unlink(new)
    let descriptor = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw AcquisitionError(new, .system(call: "open", errno)) }
    defer { Glibc.close(descriptor) }
    var done = 0
    while done < bytes.count {
      let count = SystemCall.retrying {
        bytes[done...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      }
      guard count > 0 else { throw AcquisitionError(new, .system(call: "write", errno)) }
      done += count
    }
    guard fdatasync(descriptor) == 0 || errno == EINVAL, rename(new, path) == 0 else {
      throw AcquisitionError(path, .system(call: "rename", errno))
    }
  }

  /// All of a file; nothing where there is none.
  private static func contents(_ path: String) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return [] }
    defer { Glibc.close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = SystemCall.retrying { read(descriptor, &buffer, buffer.count) }
      if count <= 0 { return bytes }
      bytes += buffer[..<count]
    }
  }
}
