import Glibc
import Host

/// Files with keys: read only where nobody else can have changed them, or seen what is secret, and written whole or not at
/// all.
package enum KeyFile {
  /// What others must not be able to do with a file.
  package enum Rule: Sendable {
    /// Neither read nor change it: a private key.
    case secret
    /// Not read it; the group may, as the mask of an access list looks like one: what systemd lays down for a service.
    case credential
    /// Not change it, nor lay another one in its place: a list that decides who is let in.
    case unchanged
    /// Anything: what somebody gives away, and whoever uses it judges.
    case given

    fileprivate var modes: (forbidden: UInt32, wanted: UInt32)? {
      switch self {
      case .secret: (0o077, 0o600)
      case .credential: (0o007, 0o600)
      case .unchanged: (0o022, 0o644)
      case .given: nil
      }
    }
  }

  /// Lends the bytes of a file, and wipes them afterwards.
  ///
  /// A symbolic link is not followed in the last place of the path, a pipe or device not waited for.
  ///
  /// - Throws: ``KeyError`` where the file cannot be read or others can do what `rule` forbids; what `body` throws.
  package static func withContents<Result>(
    of path: String, _ rule: Rule, limit: Int, _ body: (UnsafeRawBufferPointer) throws(KeyError) -> Result
  ) throws(KeyError) -> Result {
    let file = SystemCall.retrying { Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY) }
    guard file >= 0 else {
      switch errno {
      case ELOOP: throw KeyError(path, .symbolicLink)
      case ENOENT: throw KeyError(path, .missing("see whether its path is right"))
      default: throw KeyError(path, .system(call: "open", code: errno))
      }
    }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw KeyError(path, .system(call: "fstat", code: errno)) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw KeyError(path, .notAFile) }
    if let modes = rule.modes { try check(status, path, forbidden: modes.forbidden, wanted: modes.wanted) }
    if case .unchanged = rule { try checkFolder(of: path) }
    guard status.st_size <= limit else { throw KeyError(path, .tooLong(limit: limit)) }

    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: limit + 1, alignment: 16)
    var count = 0
    defer {
      wipe(UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]))
      bytes.deallocate()
    }
    while count < bytes.count {
      let done = SystemCall.retrying {
        Glibc.read(file, bytes.baseAddress.map { $0 + count }, bytes.count - count)
      }
      guard done >= 0 else { throw KeyError(path, .system(call: "read", code: errno)) }
      if done == 0 { break }
      count += done
    }
    guard count <= limit else { throw KeyError(path, .tooLong(limit: limit)) }
    return try body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
  }

  private static func check(_ status: stat, _ path: String, forbidden: UInt32, wanted: UInt32) throws(KeyError) {
    guard status.st_uid == geteuid() || status.st_uid == 0 else {
      throw KeyError(path, .foreign(owner: status.st_uid))
    }
    guard UInt32(status.st_mode) & forbidden == 0 else {
      throw KeyError(path, .openToOthers(mode: UInt32(status.st_mode) & 0o7777, wanted: wanted))
    }
  }

  /// Who may write a folder can lay another file there, unless it lets only owners take files away (`/tmp`).
  private static func checkFolder(of path: String) throws(KeyError) {
    let folder = folder(of: path)
    var status = stat()
    guard stat(folder, &status) == 0 else { throw KeyError(folder, .system(call: "stat", code: errno)) }
    try check(status, folder, forbidden: status.st_mode & S_ISVTX == 0 ? 0o022 : 0, wanted: 0o755)
  }

  /// Where a path leads that may be a link: one that only this user or root can have laid there.
  ///
  /// - Throws: ``KeyError`` where others can lay links into its folder, or the link leads nowhere.
  package static func target(of path: String) throws(KeyError) -> String {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFLNK else { return path }
    try check(status, path, forbidden: 0, wanted: 0)
    try checkFolder(of: path)
    guard let target = realpath(path, nil) else { throw KeyError(path, .system(call: "realpath", code: errno)) }
    defer { free(target) }
    return String(cString: target)
  }

  /// Runs `body` while no other process does so in this folder, which must be there.
  ///
  /// - Throws: ``KeyError`` where that fails; what `body` throws.
  package static func locking<Result>(
    _ folder: String, _ body: () throws(KeyError) -> Result
  ) throws(KeyError) -> Result {
    let file = SystemCall.retrying { Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard file >= 0 else { throw KeyError(folder, .system(call: "open", code: errno)) }
    // Closing it ends the lock.
    defer { close(file) }
    guard SystemCall.retrying({ flock(file, LOCK_EX) }) == 0 else {
      throw KeyError(folder, .system(call: "flock", code: errno))
    }
    return try body()
  }

  /// Whether there is anything of that name.
  package static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// The folder that a path lies in.
  package static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Writes a file whole or not at all, and to the disk: who reads meanwhile sees what was there before.
  ///
  /// - Parameters:
  ///   - bytes: what it is to hold.
  ///   - path: the file's; its folder must be there.
  ///   - mode: what owner, group and others may do, whatever the process's mask.
  ///   - replacing: whether one that is there may go; a symbolic link is then replaced, not followed.
  /// - Throws: ``KeyError``: ``KeyError/Reason/exists``, or the system call that failed. Nothing is left behind then.
  package static func write(
    _ bytes: UnsafeRawBufferPointer, to path: String, mode: UInt32, replacing: Bool
  ) throws(KeyError) {
    let part = "\(folder(of: path))/.grass-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
    let file = SystemCall.retrying {
      Glibc.open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode_t(mode & 0o600))
    }
    guard file >= 0 else { throw KeyError(path, .system(call: "open", code: errno)) }
    var failure: KeyError?
    do throws(KeyError) {
      var rest = bytes[...]
      while !rest.isEmpty {
        let done = SystemCall.retrying {
          Glibc.write(file, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        }
        guard done > 0 else { throw KeyError(path, .system(call: "write", code: done == 0 ? ENOSPC : errno)) }
        rest = rest.dropFirst(done)
      }
      guard fchmod(file, mode_t(mode)) == 0 else { throw KeyError(path, .system(call: "fchmod", code: errno)) }
      guard fsync(file) == 0 else { throw KeyError(path, .system(call: "fsync", code: errno)) }
      if replacing {
        guard rename(part, path) == 0 else { throw KeyError(path, .system(call: "rename", code: errno)) }
      } else {
        // Which takes no place that is taken, not even by a link that leads nowhere.
        guard link(part, path) == 0 else {
          throw KeyError(path, errno == EEXIST ? .exists : .system(call: "link", code: errno))
        }
      }
    } catch {
      failure = error
    }
    close(file)
    if failure != nil || !replacing { unlink(part) }
    if let failure { throw failure }
    // A name is on the disk once its folder is. Where that cannot be had, the file is there all the same.
    let above = SystemCall.retrying { Glibc.open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard above >= 0 else { return }
    fsync(above)
    close(above)
  }

  /// The same, of bytes that are no secret.
  package static func write(
    _ bytes: some Sequence<UInt8>, to path: String, mode: UInt32, replacing: Bool
  ) throws(KeyError) {
    let result: Result<Void, KeyError> = Array(bytes).withUnsafeBytes { bytes in
      do throws(KeyError) {
        return .success(try write(bytes, to: path, mode: mode, replacing: replacing))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  /// What owner, group and others may do with a file.
  ///
  /// - Throws: ``KeyError`` where it is not there.
  package static func mode(of path: String) throws(KeyError) -> UInt32 {
    var status = stat()
    guard stat(path, &status) == 0 else { throw KeyError(path, .system(call: "stat", code: errno)) }
    return UInt32(status.st_mode) & 0o777
  }

  /// Makes a folder and those above it that are missing, for their owner only.
  ///
  /// - Throws: ``KeyError`` where that fails.
  package static func makeFolder(_ path: String) throws(KeyError) {
    var status = stat()
    if path.isEmpty || stat(path, &status) == 0 { return }
    let above = folder(of: path)
    if above != path { try makeFolder(above) }
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw KeyError(path, .system(call: "mkdir", code: errno)) }
  }
}
