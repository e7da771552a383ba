/// Why a monitor cannot be compiled for a kernel.
public struct LLViewError: Error, Hashable, Sendable {
  public enum Reason: Hashable, Sendable {
    /// The front end, clang, could not be run or did not take the source.
    case frontEnd(String)
    /// The bitcode is none, or not made as monitors are.
    case badModule(String)
    /// The kernel lacks a symbol, field, struct or enumerator, in the words of who looked for it.
    case missing(String)
    /// The monitor does what monitors may not.
    case refused(String)
    /// LLVM could not make code of it.
    case backEnd(String)
  }

  public var monitor: String
  /// The kernel's release, where one was involved.
  public var kernel: String?
  public var reason: Reason

  public init(_ monitor: String, kernel: String? = nil, _ reason: Reason) {
    self.monitor = monitor
    self.kernel = kernel
    self.reason = reason
  }
}

extension LLViewError: CustomStringConvertible {
  public var description: String {
    let subject = kernel.map { "monitor '\(monitor)' for kernel \($0)" } ?? "monitor '\(monitor)'"
    return switch reason {
    case .frontEnd(let why): "\(subject) was not compiled: \(why)"
    case .badModule(let why): "\(subject) is not a monitor's bitcode: \(why)"
    case .missing(let why): "\(subject): \(why); guard the access with field_exists, or declare a flavour of the struct"
    case .refused(let why): "\(subject) is refused: \(why)"
    case .backEnd(let why): "\(subject): LLVM made no code of it: \(why)"
    }
  }
}
