public import KernelInfo
public import Memory

/// Why a kernel could not be opened, or a view of it could not be had.
public struct KernelError: Error, Sendable {
  public enum Cause: Sendable {
    /// No kernel was found, or what was found did not hold together.
    case notFound(KernelSearchReport)
    /// A symbol or a type that the view needs is not in this kernel.
    case info(KernelInfoError)
    /// This kernel lists no symbol of this name.
    case missingSymbol(String)
    /// Memory that the view needs as a whole could not be read.
    case memory(MemoryFault)
    /// What was read contradicts itself.
    case inconsistent(String)
  }

  /// What was being read, for example `the task table`.
  public let subject: String
  public let cause: Cause

  public init(_ subject: String, _ cause: Cause) {
    self.subject = subject
    self.cause = cause
  }
}

extension KernelError: CustomStringConvertible {
  public var description: String {
    switch cause {
    case .notFound(let report): "no Linux kernel was found in \(subject): \(report)"
    case .info(let error): "\(subject) cannot be read: \(error)"
    case .missingSymbol(let name):
      "\(subject) cannot be read: this kernel lists no symbol \(name); was it built without CONFIG_KALLSYMS_ALL?"
    case .memory(let fault): "\(subject) cannot be read: \(fault)"
    case .inconsistent(let what): "\(subject) cannot be read: \(what)"
    }
  }
}

extension KernelError {
  /// Runs `body`, naming `subject` in whatever error ends it.
  package static func reading<T>(_ subject: String, _ body: () throws -> T) throws(KernelError) -> T {
    do {
      return try body()
    } catch let error as KernelError {
      throw error
    } catch let error as MemoryFault {
      throw KernelError(subject, .memory(error))
    } catch let error as KernelInfoError {
      throw KernelError(subject, .info(error))
    } catch {
      throw KernelError(subject, .inconsistent("\(error)"))
    }
  }
}
