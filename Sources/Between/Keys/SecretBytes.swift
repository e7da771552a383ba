public import FoundationEssentials
import Glibc

/// Bytes that nobody else is to see: in a page of their own, which is left out of core dumps, kept from being swapped out
/// where the process may lock memory, and wiped when the last who holds them lets go.
///
/// Copies share the bytes, which do not change. Compared in constant time, printed never. Cost: a page and three system
/// calls.
public struct SecretBytes: Sendable, ContiguousBytes, CustomStringConvertible, CustomReflectable {
  private let page: Page

  /// How many bytes.
  public let count: Int

  /// Bytes that `fill` writes.
  package init<Failure>(
    count: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    page = Page(atLeast: count)
    self.count = count
    try fill(UnsafeMutableRawBufferPointer(rebasing: page.bytes[..<count]))
  }

  /// A copy of bytes, which the caller wipes.
  package init(copying bytes: UnsafeRawBufferPointer) {
    self.init(count: bytes.count) { $0.copyMemory(from: bytes) }
  }

  /// So many random bytes of the system's.
  package static func random(count: Int) -> SecretBytes {
    SecretBytes(count: count) { bytes in
      var system = SystemRandomNumberGenerator()
      for start in stride(from: 0, to: bytes.count, by: 8) {
        var word = system.next()
        withUnsafeMutableBytes(of: &word) { word in
          for index in start..<min(start + 8, bytes.count) { bytes[index] = word[index - start] }
          wipe(word)
        }
      }
    }
  }

  /// Lends the bytes; they are not to be kept.
  public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try withExtendedLifetime(page) { try body(UnsafeRawBufferPointer(rebasing: page.bytes[..<count])) }
  }

  /// Whether both are the same bytes, in a time that depends on their number only.
  package func isEqual(to other: SecretBytes) -> Bool {
    guard count == other.count else { return false }
    return withUnsafeBytes { own in
      other.withUnsafeBytes { others in
        own.indices.reduce(UInt8(0)) { $0 | own[$1] ^ others[$1] } == 0
      }
    }
  }

  public var description: String { "\(count) secret bytes" }
  public var customMirror: Mirror { Mirror(self, children: []) }

  /// Pages that are this process's own, and wiped at the end.
  private final class Page: @unchecked Sendable {
    // Written before anybody else has it, and not afterwards.
    let bytes: UnsafeMutableRawBufferPointer

    /// Linux's MADV_DONTDUMP and MADV_DODUMP.
    private static let (leaveOut, takeIn): (Int32, Int32) = (16, 17)

    init(atLeast count: Int) {
      let size = max(sysconf(Int32(_SC_PAGESIZE)), 4096)
      let whole = (max(count, 1) + size - 1) / size * size
      bytes = .allocate(byteCount: whole, alignment: size)
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      // Neither is a promise: a process that may not lock memory still has its keys.
      madvise(bytes.baseAddress, bytes.count, Self.leaveOut)
      mlock(bytes.baseAddress, bytes.count)
    }

    deinit {
      wipe(bytes)
      munlock(bytes.baseAddress, bytes.count)
      madvise(bytes.baseAddress, bytes.count, Self.takeIn)
      bytes.deallocate()
    }
  }
}

/// Writes zeros that no optimizer leaves out.
///
/// The corresponding C function is `explicit_bzero`.
package func wipe(_ bytes: UnsafeMutableRawBufferPointer) {
  guard let start = bytes.baseAddress else { return }
  explicit_bzero(start, bytes.count)
}
