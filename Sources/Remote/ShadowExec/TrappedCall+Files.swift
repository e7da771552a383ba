import CLinux
import Glibc
import Shadow

extension TrappedCall {
  /// Calls that ask what a file is by its path: where a link of the shadow leads to, and where the host has something mounted.
  static let fileCalls: [TrappedCall] = [
    // To read (O_RDONLY, and neither O_CREAT nor O_PATH): the files of processes that tools read most, of all processes one after the
    // other. They come at once, where by the file system each takes a question for its name, to open, to read, and for its end.
    TrappedCall("openat", when: [.masked(2, mask: 0x21_0043, 0)], [.masked(2, mask: 0x21_0000, 0x1_0000)]) {
      question, host in
      var path = try question.text(question.arguments[1])
      // O_DIRECTORY.
      if question.arguments[2] & 0x1_0000 != 0 {
        try checkProcess(path, host)
        return .own
      }
      if path.first != UInt8(ascii: "/") {
        guard question.number(0) != -100, let whole = below(question, path) else { return .own }
        path = whole
      }
      let found: [UInt8]?
      do throws(ShadowError) {
        found = try host.answers.processFile(at: path)
      } catch .missing {
        throw CallError(ENOENT)
      } catch {
        // Of what cannot be read the file system says why.
        return .own
      }
      guard let bytes = found else { return .own }
      let file = grass_memfd_create("shadow", GRASS_MEMFD_PLAIN)
      guard file >= 0 else { return .own }
      defer { close(file) }
      guard pwrite(file, bytes, bytes.count, 0) == bytes.count else { return .own }
      // O_CLOEXEC.
      return try question.answer(by: file, closesOnExec: question.arguments[2] & 0x8_0000 != 0)
    },
    // Tools that look for hidden processes enter the directory of each number.
    TrappedCall("chdir") { question, host in
      try checkProcess(question.text(question.arguments[0]), host)
      return .own
    },
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
    // Of a process only what lies in it leads to a file of the host; tools ask most for the process itself.
    if isBelowProc, !path.dropFirst(6).contains(UInt8(ascii: "/")) {
      try checkProcess(path, host)
      return nil
    }
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

  /// Fails where `path` is /proc and a number that no process has, so that tools that try them all need not ask the file system.
  private static func checkProcess(_ path: [UInt8], _ host: Host) throws {
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    guard path.starts(with: Array("/proc/".utf8)), case let name = path.dropFirst(6), name.allSatisfy(digits.contains),
      let number = Int32(String(decoding: name, as: UTF8.self)), number > 0
    else { return }
    guard try host.answers.has(number) || host.visitors.has("\(number)") else { throw CallError(ENOENT) }
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
