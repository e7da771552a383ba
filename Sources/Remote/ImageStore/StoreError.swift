import Host
import Keys
public import Memory

/// Why a store cannot be used, or something in it.
public struct StoreError: Error, Sendable {
  public enum Reason: Sendable {
    /// A call to the system failed with this `errno`.
    case system(call: String, Int32)
    /// There is no store here.
    case missing
    /// What is here is no store, or one of another version.
    case notAStore(String)
    /// Another process writes to it.
    case busy
    /// There is no such image, or more than one.
    case noImage(String)
    /// What is there is not what was written: of what.
    case damaged(String)
    /// A key cannot be used.
    case key(String)
    /// The memory to write cannot be reached any more.
    case memory(MemoryFault)
    /// Whoever asked for an image ended it before it was whole.
    case cancelled
  }

  /// The store, or the file in it.
  public let subject: String
  public let reason: Reason

  init(_ subject: String, _ reason: Reason) {
    self.subject = subject
    self.reason = reason
  }

  init(_ error: KeyError) { self.init("key", .key("\(error)")) }

  /// The last system call's failure.
  static func system(_ subject: String, _ call: String, _ code: Int32) -> StoreError {
    StoreError(subject, .system(call: call, code))
  }

  /// Whether the same image can be gone on with.
  public var isInterruption: Bool {
    switch reason {
    case .memory, .cancelled: true
    default: false
    }
  }
}

extension StoreError: CustomStringConvertible {
  public var description: String {
    switch reason {
    case .system(let call, let code): "\(subject): \(call): \(SystemCall.describe(code))"
    case .missing: "\(subject): there is no store; `grassctl dump --into` makes one"
    case .notAStore(let why): "\(subject) is no store of images: \(why); give the folder of one, or a new name"
    case .busy: "\(subject) is being written by another process; try again when that has ended"
    case .noImage(let why): "\(subject): \(why); `grassctl store list` shows the images"
    case .damaged(let what): "\(subject) is damaged: \(what)"
    case .key(let why): why
    case .memory(let fault): "the memory cannot be reached any more: \(fault)"
    case .cancelled: "the image in \(subject) is not whole: it was cancelled"
    }
  }
}
