package import Memory
import Synchronization

/// What a view works out of a kernel's symbols and types once, and keeps: layouts and addresses.
package protocol KernelReader: Sendable {
  /// What is read with it, for error messages: `the slab caches`.
  static var subject: String { get }

  init(kernel: Kernel) throws
}

extension Kernel {
  /// The reader of this kind, made on first use.
  ///
  /// - Throws: ``KernelError`` naming the reader's subject where this kernel lacks what it needs.
  package func reader<Reader: KernelReader>(_ type: Reader.Type = Reader.self) throws(KernelError) -> Reader {
    let key = ObjectIdentifier(Reader.self)
    if let known = readers.withLock({ $0[key] }) as? Reader { return known }
    let subject = subject(of: Reader.self)
    // Two threads may both make it; the values are equal.
    let made = try KernelError.reading(subject) { try Reader(kernel: self) }
    readers.withLock { $0[key] = made }
    return made
  }

  /// What a reader reads, with the release of this kernel.
  package func subject<Reader: KernelReader>(of type: Reader.Type) -> String { "\(Reader.subject) of Linux \(release)" }

  /// The address of a symbol that a reader cannot do without.
  package func symbol<Reader: KernelReader>(_ name: String, for type: Reader.Type) throws(KernelError) -> VirtualAddress
  {
    try symbol(name, for: subject(of: type))
  }
}
