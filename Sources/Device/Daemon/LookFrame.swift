import Glibc
import Host

/// What the daemon and the process that looks at the host for it say to each other: `u32 kind, u32 length`, then so many bytes.
package struct LookFrame: Equatable {
  package enum Kind: UInt32 {
    /// From the daemon: look now. `u32` suspended detectors, 32 bytes each, `u32` records of the device's open findings, each as the
    /// log has it.
    case look = 1
    /// To the daemon: the name of the detector that is asked next.
    case asks = 2
    /// A `grass_finding_content`, then the sentence.
    case finding = 3
    /// A detector that cannot look on this kernel, with what it lacks: `name: reason`.
    case lacks = 4
    /// A detector that could not look, or saw a part only: `name: reason`.
    case failed = 5
    case partial = 6
    /// The look is over.
    case end = 7
    /// Something that its users ought to know.
    case note = 8
  }

  package var kind: Kind
  package var bytes: [UInt8]

  package init(_ kind: Kind, _ bytes: [UInt8] = []) {
    self.kind = kind
    self.bytes = bytes
  }

  package init(_ kind: Kind, _ text: String) { self.init(kind, Array(text.utf8)) }

  package var text: String { String(decoding: bytes, as: UTF8.self) }

  /// More than any frame has, the longest being 256 records.
  static let longest = 1 << 20

  package var encoded: [UInt8] {
    var head: [UInt8] = []
    for word in [kind.rawValue, UInt32(clamping: bytes.count)] {
      head += (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) }
    }
    return head + bytes
  }

  /// Takes the first frame out of what was read; nil where it is not whole yet.
  ///
  /// - Throws: ``LookFrameError`` where the bytes are no frame.
  package static func next(in buffer: inout [UInt8]) throws(LookFrameError) -> LookFrame? {
    guard buffer.count >= 8 else { return nil }
    func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(buffer[at + $1]) << UInt32($1 * 8) } }
    guard let kind = Kind(rawValue: word(0)), word(4) <= UInt32(longest) else { throw LookFrameError() }
    let end = 8 + Int(word(4))
    guard buffer.count >= end else { return nil }
    defer { buffer.removeFirst(end) }
    return LookFrame(kind, Array(buffer[8..<end]))
  }

  /// Writes it whole.
  ///
  /// Returns false where nobody reads any more.
  func write(to descriptor: Int32) -> Bool {
    let bytes = encoded
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { raw in
        SystemCall.retrying { Glibc.write(descriptor, raw.baseAddress.map { $0 + done }, raw.count - done) }
      }
      guard count > 0 else { return false }
      done += count
    }
    return true
  }
}

/// Bytes that are no frame.
package struct LookFrameError: Error {}
