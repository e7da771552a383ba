import CSandbox
import Glibc
import Shadow

extension TrappedCall {
  /// Calls that ask something of a process by its number.
  static let processCalls: [TrappedCall] = [
    signal("kill", process: 0, signal: 1), signal("tkill", process: 0, signal: 1),
    signal("tgkill", process: 1, signal: 2), signal("rt_sigqueueinfo", process: 0, signal: 1),
    signal("rt_tgsigqueueinfo", process: 1, signal: 2),
    TrappedCall("getpriority") { question, host in
      let number = question.number(1)
      // From 40 to 1, so that no answer looks like an error.
      func answer(_ processes: [HostAnswers.Process]) throws(CallError) -> Reply {
        guard let least = processes.map(\.nice).min() else { throw CallError(ESRCH) }
        return .value(Int64(20 - least))
      }
      switch question.number(0) {
      case 0: return try about(number, host) { process in try answer([process]) }
      case 1:
        let group = number == 0 ? [] : try host.answers.processes(inGroup: number)
        // A group that the host has not may be one of the program's own.
        return group.isEmpty ? .own : try answer(group)
      case 2: return number == 0 ? .own : try answer(try host.answers.processes(ofUser: UInt32(bitPattern: number)))
      default: throw CallError(EINVAL)
      }
    },
    asking("getpgid") { process, _ in .value(Int64(process.group)) },
    asking("getsid") { process, _ in .value(Int64(process.session)) },
    asking("sched_getscheduler") { process, _ in .value(Int64(process.policy)) },
    asking("sched_getparam") { process, question in
      var bytes = StructBytes()
      bytes.add(UInt32(truncatingIfNeeded: process.realTimePriority))
      try question.write(bytes.bytes, at: question.arguments[1])
      return .value(0)
    },
    asking("sched_getattr") { process, question in
      let room = Int(question.arguments[2] & 0xffff_ffff)
      // SCHED_ATTR_SIZE_VER0.
      guard room >= 48, room <= 4096 else { throw CallError(EINVAL) }
      var bytes = StructBytes()
      bytes.add(UInt32(48))
      bytes.add(UInt32(truncatingIfNeeded: process.policy))
      bytes.add(UInt64(0))
      bytes.add(Int32(process.nice))
      bytes.add(UInt32(truncatingIfNeeded: process.realTimePriority))
      for _ in 0..<3 { bytes.add(UInt64(0)) }
      try question.write(bytes.bytes, at: question.arguments[1])
      return .value(0)
    },
    // Nothing says how long a turn is: it is made of what else waits. Of one that is alone it has no end, which is zero.
    asking("sched_rr_get_interval") { _, question in
      try question.write([UInt8](repeating: 0, count: 16), at: question.arguments[1])
      return .value(0)
    },
    // Also of the program itself, which so learns how many CPUs the host has.
    TrappedCall("sched_getaffinity") { question, host in
      let number = question.number(0)
      let process = number == 0 ? nil : try host.answers.process(number)
      // Those of the program's own have all of them.
      if number != 0, process == nil, !host.visitors.has("\(number)") { throw CallError(ESRCH) }
      let online = try host.answers.onlineCPUs()
      var bits = online.bits
      if let process {
        bits = zip(bits, process.cpus + [UInt64](repeating: 0, count: bits.count)).map { $0 & $1 }
      }
      let room = question.arguments[1] & 0xffff_ffff
      guard room % 8 == 0, room * 8 >= online.room else { throw CallError(EINVAL) }
      var bytes = StructBytes()
      for word in bits { bytes.add(word) }
      try question.write(bytes.bytes, at: question.arguments[2])
      return .value(Int64(bytes.bytes.count))
    },
    TrappedCall("prlimit64", when: [.notEqual(0, 0)]) { question, host in
      try about(question.number(0), host) { process in
        guard question.arguments[2] == 0 else {
          return .refused(EPERM, "set a limit of the host's process \(process.tid)")
        }
        let index = Int(question.arguments[1] & 0xffff_ffff) * 2
        guard index + 1 < process.limits.count else { throw CallError(EINVAL) }
        guard question.arguments[3] != 0 else { return .value(0) }
        var bytes = StructBytes()
        for limit in process.limits[index...index + 1] { bytes.add(limit) }
        try question.write(bytes.bytes, at: question.arguments[3])
        return .value(0)
      }
    },
    // Of one process; of groups and users nobody asks.
    TrappedCall("ioprio_get", when: [.notEqual(1, 0)]) { question, host in
      guard question.number(0) == 1 else { return .refused(EINVAL, "know the I/O priority of a group or user") }
      let number = question.number(1)
      if try host.subject(number) == .own { return .own }
      guard let priority = try host.answers.ioPriority(of: number) else { throw CallError(ESRCH) }
      return .value(Int64(priority))
    },
    // A file that never says that the process has ended: from here nobody is told.
    TrappedCall("pidfd_open") { question, host in
      try about(question.number(0), host) { _ in
        let file = grass_sandbox_silence()
        guard file >= 0 else { throw CallError(errno) }
        defer { close(file) }
        return try question.answer(by: file, closesOnExec: true)
      }
    },
  ]

  /// A call whose first argument is a process, and which asks of it what `answer` says.
  private static func asking(
    _ name: String, answer: @escaping @Sendable (HostAnswers.Process, Question) throws -> Reply
  ) -> TrappedCall {
    TrappedCall(name, when: [.notEqual(0, 0)]) { question, host in
      try about(question.number(0), host) { process in try answer(process, question) }
    }
  }

  /// The answer about a process of the host, where `number` is one.
  private static func about(
    _ number: Int32, _ host: Host, _ answer: (HostAnswers.Process) throws -> Reply
  ) throws -> Reply {
    switch try host.subject(number) {
    case .own: return .own
    case .host:
      guard let process = try host.answers.process(number) else { throw CallError(ESRCH) }
      return try answer(process)
    }
  }

  /// A call that sends a signal, of which zero only asks whether there is such a process.
  private static func signal(_ name: String, process: Int, signal: Int) -> TrappedCall {
    TrappedCall(name) { question, host in
      let (number, signal) = (question.number(process), question.number(signal))
      func toHost(_ whom: String) -> Reply {
        signal == 0 ? .value(0) : .refused(EPERM, "send signal \(signal) to \(whom)")
      }
      switch number {
      case 0: return .own
      case -1: return toHost("every process of the host")
      case ..<(-1):
        let isHosts = try number != .min && !host.answers.processes(inGroup: -number).isEmpty
        return isHosts ? toHost("the host's group of processes \(-number)") : .own
      default:
        switch try host.subject(number) {
        case .own: return .own
        case .host: return toHost("the host's process \(number)")
        }
      }
    }
  }
}
