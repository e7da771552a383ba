import CSandbox
import Glibc

/// A system call that waits for its answer.
struct Question {
  let listener: Int32
  let id: UInt64
  /// The thread that asks, by this machine's numbers.
  let thread: Int32
  let arguments: [UInt64]

  /// An argument as the C library's `int` has it.
  func number(_ index: Int) -> Int32 { Int32(truncatingIfNeeded: arguments[index]) }

  /// Whether it still waits: its thread may have been ended, and its number be somebody else's.
  var isOpen: Bool { seccomp_notify_id_valid(listener, id) == 0 }

  /// Bytes of the memory of who asks.
  ///
  /// - Throws: EFAULT.
  func read(_ address: UInt64, count: Int) throws(CallError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard grass_sandbox_peek(thread, address, &bytes, UInt64(count)) == count, isOpen else { throw CallError(EFAULT) }
    return bytes
  }

  /// Text up to its zero, at most a path's length.
  ///
  /// - Throws: EFAULT, ENAMETOOLONG.
  func text(_ address: UInt64) throws(CallError) -> [UInt8] {
    var text: [UInt8] = []
    while text.count < 4096 {
      // To the page's end: what follows may not be mapped.
      let count = min(256, 4096 - Int((address &+ UInt64(text.count)) & 4095))
      let piece = try read(address &+ UInt64(text.count), count: count)
      if let end = piece.firstIndex(of: 0) { return text + piece[..<end] }
      text += piece
    }
    throw CallError(ENAMETOOLONG)
  }

  /// Writes to the memory of who asks.
  ///
  /// - Throws: EFAULT.
  func write(_ bytes: [UInt8], at address: UInt64) throws(CallError) {
    guard isOpen, grass_sandbox_poke(thread, address, bytes, UInt64(bytes.count)) == bytes.count else {
      throw CallError(EFAULT)
    }
  }

  /// Hands over an open file, which the other side gets under a number of its own.
  func give(_ file: Int32, as wanted: Int32 = -1, closesOnExec: Bool) throws(CallError) -> Int32 {
    let number = grass_sandbox_give(listener, id, file, wanted, closesOnExec ? 1 : 0)
    guard number >= 0 else { throw CallError(errno) }
    return number
  }
}

extension Question {
  /// Answers by an open file, whose number on the other side is what the call returns.
  func answer(by file: Int32, closesOnExec: Bool) throws(CallError) -> Reply {
    if grass_sandbox_answer(listener, id, file, closesOnExec ? 1 : 0) >= 0 { return .given }
    guard errno == EINVAL else { throw CallError(errno) }
    return .value(Int64(try give(file, closesOnExec: closesOnExec)))
  }
}

/// What a call fails with: an errno.
struct CallError: Error {
  let code: Int32
  init(_ code: Int32) { self.code = code }
}

/// The answer to a call.
enum Reply {
  /// What it returns.
  case value(Int64)
  /// It was answered already.
  case given
  /// This machine's kernel answers: the call is about the program itself.
  case own
  /// It fails, and standard error says that it was a question or a wish that has no answer here.
  case refused(Int32, String)
}

/// Bytes of a C struct that is written from its first field on.
struct StructBytes {
  private(set) var bytes: [UInt8] = []

  mutating func add<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  /// Text in a field of fixed size, with a zero at its end.
  mutating func add(_ text: [UInt8], in size: Int) {
    let kept = text.prefix(size - 1)
    bytes += kept + [UInt8](repeating: 0, count: size - kept.count)
  }
}
