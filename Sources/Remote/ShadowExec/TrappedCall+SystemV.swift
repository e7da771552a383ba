import Glibc
import Shadow

extension TrappedCall {
  /// Calls of System V that tell of all objects there are: limits and sums are the host's; objects one by one are in /proc/sysvipc.
  ///
  /// Source: ipc/shm.c, `shmctl_ipc_info`; ipc/msg.c, `msgctl_info`; ipc/sem.c, `semctl_info`.
  static let systemVCalls: [TrappedCall] = [
    // IPC_INFO is 3, and *_INFO what follows it; the last of them look at one object each.
    TrappedCall("shmctl", cases: commands(1, [3, 13, 14, 15])) { question, host in
      let command = question.number(1) & 0xff
      guard command == 3 || command == 14 else { return .refused(EPERM, "look at one of the host's segments") }
      let system = try host.answers.systemV()
      var bytes = StructBytes()
      if command == 3 {
        // shmmax, shmmin, shmmni, shmseg, shmall.
        let words = [system.largestSegment, 1, system.mostSegments, system.mostSegments, system.mostSegmentPages]
        for word in words { bytes.add(word) }
        bytes.add([], in: 32)
      } else {
        bytes.add(UInt32(clamping: system.segments.count))
        bytes.add(UInt32(0))
        for word in [system.segmentPages, system.segments.resident, system.segments.swapped] { bytes.add(word) }
        // Attempts and successes of swapping are counted no more.
        for _ in 0..<2 { bytes.add(UInt64(0)) }
      }
      try question.write(bytes.bytes, at: question.arguments[2])
      return .value(Int64(max(0, system.segments.highest)))
    },
    TrappedCall("msgctl", cases: commands(1, [3, 11, 12, 13])) { question, host in
      let command = question.number(1) & 0xff
      guard command == 3 || command == 12 else { return .refused(EPERM, "look at one of the host's queues") }
      let system = try host.answers.systemV()
      // msgpool, msgmap, msgmax, msgmnb, msgmni, msgssz, msgtql, msgseg; the first, second and last but one are sums or old limits.
      let sums: [UInt64] =
        command == 12
        ? [system.queues.count, system.messages, system.messageBytes] : [32000 * 16384 / 1024, 16384, 16384]
      let words = [
        sums[0], sums[1], system.largestMessage, system.largestQueue, system.mostQueues, 16, sums[2],
      ]
      var bytes = StructBytes()
      for word in words { bytes.add(UInt32(clamping: word)) }
      bytes.add(UInt16.max)
      bytes.add(UInt16(0))
      try question.write(bytes.bytes, at: question.arguments[2])
      return .value(Int64(max(0, system.queues.highest)))
    },
    TrappedCall("semctl", cases: commands(2, [3, 18, 19, 20])) { question, host in
      let command = question.number(2) & 0xff
      guard command == 3 || command == 19 else { return .refused(EPERM, "look at the host's semaphores") }
      let system = try host.answers.systemV()
      // semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx, semaem.
      let sums: [UInt64] = command == 19 ? [system.semaphoreSets.count, system.semaphores] : [20, 32767]
      let limits = system.semaphoreLimits
      let words = [
        1_024_000_000, limits[3], limits[1], 1_024_000_000, limits[0], limits[2], 500, sums[0], 32767, sums[1],
      ]
      var bytes = StructBytes()
      for word in words { bytes.add(UInt32(clamping: word)) }
      try question.write(bytes.bytes, at: question.arguments[3])
      return .value(Int64(max(0, system.semaphoreSets.highest)))
    },
  ]

  /// The commands of a call, in both of their forms (IPC_64 is bit 8).
  private static func commands(_ argument: Int, _ commands: [UInt64]) -> [[Condition]] {
    commands.map { [.masked(argument, mask: 0xffff_feff, $0)] }
  }
}
