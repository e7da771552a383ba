import CSandbox
import Glibc
import Host
public import LinuxKernel
public import Memory
import Shadow
import ShadowMount

/// A program of this machine that sees the watched host in the place of its own.
///
/// It runs in namespaces of its own (user, mount, PID, UTS, IPC, network, time), with the shadow mounted over /proc and what else of the
/// system tells of a host; calls that ask past files are stopped by a seccomp filter, and answered here. Its own processes have
/// numbers that the watched host does not use, and find themselves as `self`.
public struct ShadowProgram: Sendable {
  /// The program's path or name, and what it is told.
  public var command: [String]
  /// Finds the structs of modules that the host's list of modules has no longer.
  public var hiddenModules: @Sendable () -> [VirtualAddress]
  /// Says, a line at a time, what was refused.
  public var note: @Sendable (String) -> Void

  public init(
    command: [String], hiddenModules: @escaping @Sendable () -> [VirtualAddress],
    note: @escaping @Sendable (String) -> Void
  ) {
    (self.command, self.hiddenModules, self.note) = (command, hiddenModules, note)
  }

  /// Runs it, and waits for its end.
  ///
  /// It ends with the thread that calls, which must not have to serve anything else. The calling thread is in a mount namespace of
  /// its own afterwards, where the system allows it, so that nothing stays mounted whatever happens.
  ///
  /// - Returns: how it ended, as wait(2) says it.
  /// - Throws: ``SandboxError``, `MountError`, `KernelError`.
  public func run(on kernel: Kernel, source: String) throws -> Int32 {
    let folder = try Self.temporaryFolder()
    defer { rmdir(folder) }
    if let warning = OutsideAnswers.warning(of: command) { note(warning) }
    // Not for users without that right: their mount is the machine's, and is unmounted at the end.
    _ = grass_sandbox_leave_mounts()

    let visitors = Visitors(folder: folder + "/own")
    let answers = try HostAnswers(of: kernel)
    let tree = ShadowTree(
      root: ShadowRoom.tree(of: kernel, besides: answers, hiddenModules: hiddenModules, visitors: visitors),
      own: visitors)
    let shadow = try ShadowMount(tree, at: folder, source: source, followsLinks: true)
    defer { shadow.end() }
    let names = try answers.names()
    let sandbox = Sandbox(
      command: command, mounts: ShadowRoom.mounts(from: folder), ownProcesses: visitors.folder,
      node: String(decoding: names.node, as: UTF8.self), domain: String(decoding: names.domain, as: UTF8.self),
      filter: try CallFilter.bytes(TrappedCall.all), process: try Self.freeNumber(answers),
      clocks: try answers.runningClocks())
    let netlink = try NetlinkSockets()
    defer { netlink.end() }
    // Ended before what it answers with.
    var answering: CallAnswering?
    defer { answering?.end() }
    let host = TrappedCall.Host(answers: answers, visitors: visitors, netlink: netlink)
    return try sandbox.run { first, listener in
      visitors.begin(first)
      do {
        answering = try CallAnswering(listener: listener, host: host, calls: TrappedCall.all, note: note)
      } catch {
        close(listener)
        throw error
      }
    }
  }

  private static func temporaryFolder() throws(SandboxError) -> String {
    let chosen = getenv("TMPDIR").map { String(cString: $0) } ?? ""
    // Not what programs find replaced.
    let isUsable = chosen.hasPrefix("/") && !["/run", "/proc", "/sys"].contains { (chosen + "/").hasPrefix($0 + "/") }
    let parent = isUsable ? chosen : "/tmp"
    var path = Array("\(parent)/grass-exec-XXXXXX".utf8CString)
    guard mkdtemp(&path) != nil else { throw SandboxError("making a folder in \(parent)", code: errno) }
    return String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// The start of the longest run of numbers that the host's processes leave free, and this machine can give.
  static func freeNumber(_ answers: HostAnswers) throws -> Int32 {
    let most = Self.mostProcesses()
    var (best, room, last) = (Int32(300), Int32(0), Int32(300))
    for tid in try answers.threads().filter({ $0 > 300 && $0 < most }) + [most] {
      if tid - last > room { (best, room) = (last, tid - last) }
      last = tid
    }
    // Behind those in use: the host's next ones come close to them.
    return best + max(1, room / 2)
  }

  /// The number that is above those of all processes of this machine.
  private static func mostProcesses() -> Int32 {
    let text = Visitors.text("/proc/sys/kernel/pid_max")
    return text.flatMap { Int32($0.prefix { $0 != "\n" }) } ?? 32768
  }
}
