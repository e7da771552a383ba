import Glibc
import Shadow

extension TrappedCall {
  /// Calls that ask what a file is by its path: where a link of the shadow leads to, and where the host has something mounted.
  static let fileCalls: [TrappedCall] = [
    // Not of what is already open (AT_EMPTY_PATH is 0x1000).
    TrappedCall("newfstatat", when: [.masked(3, mask: 0x1000, 0)]) { question, host in
      guard let status = try status(question, host, flags: 3) else { return .own }
      var bytes = StructBytes()
      for value in [encoded(status.device), status.inode, status.links] { bytes.add(value) }
      for value in [status.mode, status.uid, status.gid, 0] { bytes.add(value) }
      for value in [encoded(status.specialDevice), status.size, status.blockSize, status.blocks] { bytes.add(value) }
      for time in status.times {
        bytes.add(time)
        bytes.add(Int64(0))
      }
      for _ in 0..<3 { bytes.add(UInt64(0)) }
      try question.write(bytes.bytes, at: question.arguments[2])
      return .value(0)
    },
    TrappedCall("statx", when: [.masked(2, mask: 0x1000, 0)]) { question, host in
      guard let status = try status(question, host, flags: 2) else { return .own }
      var bytes = StructBytes()
      // STATX_BASIC_STATS.
      bytes.add(UInt32(0x7ff))
      bytes.add(UInt32(clamping: status.blockSize))
      bytes.add(UInt64(0))
      bytes.add(UInt32(clamping: status.links))
      for value in [status.uid, status.gid, status.mode] { bytes.add(value) }
      for value in [status.inode, status.size, status.blocks, 0] { bytes.add(value) }
      // Read, made, changed, written; when it was made is not told.
      for time in [status.times[0], 0, status.times[2], status.times[1]] {
        bytes.add(time)
        bytes.add(Int64(0))
      }
      for device in [status.specialDevice, status.device] {
        bytes.add(UInt32(device >> 20 & 0xfff))
        bytes.add(UInt32(device & 0xfffff))
      }
      bytes.add([], in: 256 - bytes.bytes.count)
      try question.write(bytes.bytes, at: question.arguments[4])
      return .value(0)
    },
  ]

  /// The status of a file of the host that a path leads to; nil where it is none.
  private static func status(_ question: Question, _ host: Host, flags: Int) throws -> FileStatus? {
    var path = try question.text(question.arguments[1])
    if path.first != UInt8(ascii: "/") {
      guard let whole = below(question, path) else { return nil }
      path = whole
    }
    let isBelowProc = path.starts(with: Array("/proc/".utf8))
    // What is there on this machine, too, programs may go through, and would find that it is another than they were told.
    if !isBelowProc, access(String(decoding: path, as: UTF8.self), F_OK) == 0 { return nil }
    // AT_SYMLINK_NOFOLLOW: the link itself, which the shadow has.
    if isBelowProc, question.arguments[flags] & 0x100 != 0 { return nil }
    do {
      return try host.answers.status(at: path)
    } catch ShadowError.missing {
      throw CallError(ENOENT)
    }
  }

  /// A path that begins at a directory of the shadow's /proc, which the program has open or works in; nil for all others.
  private static func below(_ question: Question, _ path: [UInt8]) -> [UInt8]? {
    // AT_FDCWD.
    let place = question.number(0) == -100 ? "cwd" : "fd/\(question.number(0))"
    var base = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/\(question.thread)/\(place)", &base, base.count)
    guard count > 0 else { return nil }
    let directory = base[..<count].map { UInt8(bitPattern: $0) }
    // Steps that lead elsewhere are this machine's to take.
    guard directory.starts(with: Array("/proc/".utf8)),
      path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        .allSatisfy({ !$0.isEmpty && $0.first != UInt8(ascii: ".") })
    else { return nil }
    return directory + [UInt8(ascii: "/")] + path
  }

  /// As user space has numbers of devices.
  private static func encoded(_ device: UInt64) -> UInt64 {
    let (major, minor) = (device >> 20 & 0xfff, device & 0xfffff)
    return minor & 0xff | major << 8 | (minor & ~0xff) << 12
  }
}
