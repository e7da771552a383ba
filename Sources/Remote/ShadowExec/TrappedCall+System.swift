import Glibc
import Shadow
import StorageViews

extension TrappedCall {
  /// Calls about the host as a whole.
  static let systemCalls: [TrappedCall] = [
    TrappedCall("uname") { question, host in
      let names = try host.answers.names()
      var bytes = StructBytes()
      for name in [names.system, names.node, names.release, names.version, names.machine, names.domain] {
        bytes.add(name, in: 65)
      }
      try question.write(bytes.bytes, at: question.arguments[0])
      return .value(0)
    },
    TrappedCall("sysinfo") { question, host in
      let system = try host.answers.system()
      var bytes = StructBytes()
      bytes.add(system.uptime)
      for load in system.loads { bytes.add(load) }
      let sizes = [
        system.memory, system.freeMemory, system.sharedMemory, system.buffers, system.swap, system.freeSwap,
      ]
      for size in sizes { bytes.add(size) }
      // With those of the program, which lists have, too.
      bytes.add(UInt16(clamping: Int(system.threads) + host.visitors.threadCount()))
      bytes.add(UInt16(0))
      // To the next word's start, then high memory, of which x86-64 has none, and the unit of sizes.
      bytes.add(UInt32(0))
      for _ in 0..<2 { bytes.add(UInt64(0)) }
      bytes.add(UInt32(1))
      bytes.add(UInt32(0))
      try question.write(bytes.bytes, at: question.arguments[0])
      return .value(0)
    },
    TrappedCall("syslog") { question, host in
      switch question.number(0) {
      // To open and to close it.
      case 0, 1: return .value(0)
      // All of it; 4 would clear it, too.
      case 3:
        let count = Int(question.number(2))
        guard count >= 0, question.arguments[1] != 0 else { throw CallError(EINVAL) }
        let log = try host.answers.log()
        // Whole lines, the newest.
        var rest = log.suffix(count)
        if rest.count < log.count, log[rest.startIndex - 1] != 10 {
          rest = rest.drop { $0 != 10 }.dropFirst()
        }
        try question.write(Array(rest), at: question.arguments[1])
        return .value(Int64(rest.count))
      case 9: return .value(0)
      case 10: return .value(Int64(try host.answers.log().count))
      default: return .refused(EPERM, "change the host's log")
      }
    },
    TrappedCall("adjtimex") { question, host in try Self.clock(at: question.arguments[0], question, host) },
    TrappedCall("clock_adjtime") { question, host in
      // CLOCK_REALTIME; other clocks are those of devices.
      guard question.number(0) == 0 else { return .refused(ENODEV, "know how a device's clock is kept") }
      return try Self.clock(at: question.arguments[1], question, host)
    },
    // Where a file system is full, and of what kind it is.
    TrappedCall("statfs") { question, host in
      try Self.fileSystem(at: question.text(question.arguments[0]), question, host)
    },
    TrappedCall("fstatfs") { question, host in
      let name = "/proc/\(question.thread)/fd/\(question.number(0))"
      var path = [CChar](repeating: 0, count: 4096)
      let count = readlink(name, &path, path.count)
      guard count > 0 else { throw CallError(EBADF) }
      return try Self.fileSystem(at: path[..<count].map { UInt8(bitPattern: $0) }, question, host)
    },
  ]

  /// Source: include/uapi/linux/timex.h, `struct __kernel_timex`.
  private static func clock(at address: UInt64, _ question: Question, _ host: Host) throws -> Reply {
    let modes = try question.read(address, count: 4)
    guard modes.allSatisfy({ $0 == 0 }) else { return .refused(EPERM, "set the host's clock") }
    let clock = try host.answers.clock()
    let isNano = clock.status & 0x2000 != 0
    var bytes = StructBytes()
    bytes.add(UInt64(0))
    for word in [clock.offset, clock.frequency, clock.greatestError, clock.estimatedError] { bytes.add(word) }
    bytes.add(UInt64(UInt32(bitPattern: clock.status)))
    // The precision of the clock in microseconds, and the greatest frequency: MAXFREQ of 500 parts of a million, scaled.
    for word in [clock.constant, 1, 500 << 16] { bytes.add(word) }
    for word in [clock.seconds, isNano ? clock.nanoseconds : clock.nanoseconds / 1000, clock.tick] { bytes.add(word) }
    // Of a pulse per second nothing is known, as where the kernel is built without (CONFIG_NTP_PPS).
    for _ in 0..<8 { bytes.add(UInt64(0)) }
    bytes.add(clock.atomicOffset)
    bytes.add([], in: 44)
    try question.write(bytes.bytes, at: address)
    return .value(Int64(clock.state))
  }

  private static func fileSystem(at path: [UInt8], _ question: Question, _ host: Host) throws -> Reply {
    let found: (room: FileSystemRoom, flags: UInt64)
    do {
      found = try host.answers.fileSystem(at: path)
    } catch ShadowError.unreadable(let why) {
      // What this machine has not is no question about the host.
      guard access(String(decoding: path, as: UTF8.self), F_OK) == 0 else { throw CallError(ENOENT) }
      return .refused(ENOSYS, "know \(why)")
    } catch ShadowError.missing {
      throw CallError(ENOENT)
    }
    let room = found.room
    var bytes = StructBytes()
    for value in [
      room.magic, room.blockSize, room.blocks, room.freeBlocks, room.availableBlocks, room.files, room.freeFiles, 0,
      room.longestName, room.blockSize, found.flags, 0, 0, 0, 0,
    ] { bytes.add(value) }
    try question.write(bytes.bytes, at: question.arguments[1])
    return .value(0)
  }
}
