import Host
public import Memory

/// Why an image could not be written.
public struct AcquisitionError: Error, Sendable {
  public enum Reason: Sendable {
    /// A call to the system failed with this `errno`.
    case system(call: String, Int32)
    /// There is a file of this name already.
    case exists
    /// Another process is writing it.
    case busy
    /// What lies beside it is a part of another image: of what, and what was to be written.
    case otherImage(found: String, wanted: String)
    /// The memory to write has more runs than the format takes.
    case tooManyRuns(Int)
    /// It could not be encrypted: why.
    case encryption(String)
    /// The memory itself cannot be reached any more.
    case memory(MemoryFault)
    /// Whoever asked for it ended it before it was whole.
    case cancelled
  }

  /// The file, or what else it is about.
  public let subject: String
  public let reason: Reason

  package init(_ subject: String, _ reason: Reason) {
    self.subject = subject
    self.reason = reason
  }
}

extension AcquisitionError: CustomStringConvertible {
  public var description: String {
    switch reason {
    case .system(let call, let code): "cannot write \(subject): \(call): \(SystemCall.describe(code))"
    case .exists: "\(subject) is there already, and is not overwritten; remove it, or give another name"
    case .busy: "\(subject) is being written by another process"
    case .otherImage(let found, let wanted):
      "\(subject) is a part of another image (\(found)) than the one asked for (\(wanted)); "
        + "remove it with its .plan and .journal, or give another name"
    case .tooManyRuns(let most): "the memory has more than \(most) runs, and \(subject) takes no more"
    case .encryption(let why): why
    case .memory(let fault): "the memory cannot be reached any more: \(fault)"
    case .cancelled: "\(subject) is not whole: it was cancelled"
    }
  }

  /// Whether what was written so far can be gone on with.
  public var isInterruption: Bool {
    switch reason {
    case .memory, .cancelled: true
    default: false
    }
  }
}
