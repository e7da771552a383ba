public import Memory

/// A reader whose answer says what of it could not be read, so that it can be asked again.
package protocol SettledReader: KernelReader {
  associatedtype Answer: Faulted

  /// Reads once.
  ///
  /// - Throws: whatever makes the whole answer impossible; what does not is among the answer's faults.
  func read(_ kernel: Kernel) throws -> Answer
}

/// An answer that says what of it could not be read.
public protocol Faulted: Sendable {
  var faults: [MemoryFault] { get }
}

extension Kernel {
  /// What a reader reads, read again where it was torn.
  ///
  /// - Throws: ``KernelError`` naming the reader's subject.
  package func read<Reader: SettledReader>(_ type: Reader.Type) throws(KernelError) -> Reader.Answer {
    try read(with: type) { reader in try reader.read(self) }
  }

  /// What `body` reads with a reader, read again where it was torn.
  ///
  /// - Throws: ``KernelError`` naming `subject`, or the reader's own subject where that is nil.
  package func read<Reader: KernelReader, Answer: Faulted>(
    with type: Reader.Type, about subject: String? = nil, _ body: (Reader) throws -> Answer
  ) throws(KernelError) -> Answer {
    let reader = try reader(type)
    return try settled(\.faults) { () throws(KernelError) in
      try KernelError.reading(subject ?? self.subject(of: type)) { try body(reader) }
    }
  }
}
