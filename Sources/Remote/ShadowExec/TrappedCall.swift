import Shadow

/// A system call that asks of the host: when it is stopped, and how it is answered.
///
/// A call is one of these in ``all``; the filter is made of the same list.
struct TrappedCall: Sendable {
  /// What an argument has to be for the call to be stopped; others go to this machine's kernel.
  enum Condition: Sendable {
    case notEqual(Int, UInt64)
    case atLeast(Int, UInt64)
    /// The bits of `mask`.
    case masked(Int, mask: UInt64, UInt64)
  }

  let name: String
  /// Any of these, each of which is true where all of its conditions are; none for always.
  let cases: [[Condition]]
  let answer: @Sendable (Question, Host) throws -> Reply

  init(
    _ name: String, when cases: [Condition]..., answer: @escaping @Sendable (Question, Host) throws -> Reply
  ) {
    self.init(name, cases: cases, answer: answer)
  }

  init(
    _ name: String, cases: [[Condition]], answer: @escaping @Sendable (Question, Host) throws -> Reply
  ) {
    (self.name, self.cases, self.answer) = (name, cases, answer)
  }

  static let all: [TrappedCall] =
    systemCalls + systemVCalls + fileCalls + processCalls + actions + networkCalls + netlinkCalls

  /// Who is asked.
  struct Host: Sendable {
    let answers: HostAnswers
    let visitors: Visitors
    let netlink: NetlinkSockets

    /// Whom a process's number means.
    enum Subject {
      case host
      /// One of the program's own processes, or nobody: this machine's kernel knows, and sees no others in the program's namespace.
      case own
    }

    /// The watched host's processes come first: a program is to see these.
    func subject(_ number: Int32) throws -> Subject {
      try number != 0 && answers.has(number) ? .host : .own
    }
  }
}
