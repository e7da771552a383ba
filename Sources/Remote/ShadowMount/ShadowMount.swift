import CFuse
import Glibc
import Host
public import Shadow
import Synchronization

/// A shadow tree, mounted as a file system that can only be read.
///
/// Its file system is libfuse's, by the low-level interface; several threads answer requests side by side. It is unmounted when
/// this is gone, when ``end()`` is called, or by `fusermount3 -u`.
public final class ShadowMount: Sendable {
  public let path: String
  private let session: OpaquePointerBox
  private let requests: Requests
  /// The two ends of a pipe that ends the threads: they wait for one end to become readable.
  private let wakeUp, waking: Int32
  private let threads: Mutex<[DedicatedThread]>
  private let hasEnded = Atomic<Bool>(false)

  /// How many requests are answered at once: a slow one, over a link, must not hold up others.
  public static let workers = 8

  private struct OpaquePointerBox: @unchecked Sendable {
    // libfuse's sessions may be used by several threads.
    let pointer: OpaquePointer
  }

  /// Mounts `tree` at the directory `path`, with `source` as the name of the device in lists of mounts.
  ///
  /// Unless it `followsLinks`, symbolic links below it are not followed where this process has the right to say so (Linux 5.10 and
  /// root): they lead to places of the watched host, of which this machine has others by the same names.
  ///
  /// `workers` is how many requests are answered at once.
  ///
  /// - Throws: ``MountError``.
  public init(
    _ tree: ShadowTree, at path: String, source: String, followsLinks: Bool = false, workers: Int = workers
  ) throws(MountError) {
    self.path = path
    let requests = Requests(tree)
    self.requests = requests
    var operations = Requests.operations
    // Commas and backslashes divide options.
    let name = String(source.map { $0 == "," || $0 == "\\" || $0.isNewline ? "_" : $0 })
    let options = "ro,nosuid,nodev,noexec,subtype=grass,fsname=\(name)"
    guard
      let session = grass_fuse_session(
        "grassctl", options, &operations, Unmanaged.passUnretained(requests).toOpaque())
    else { throw MountError(path: path, what: "libfuse refuses", code: 0) }
    guard fuse_session_mount(session, path) == 0 else {
      let code = errno
      fuse_session_destroy(session)
      throw MountError(
        path: path, what: "it is no directory, or mounting is not allowed (is fuse3 installed?)", code: code)
    }
    if !followsLinks { _ = grass_refuse_links(path) }
    let file = fuse_session_fd(session)
    _ = fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK)
    var ends: [Int32] = [-1, -1]
    let hasPipe = pipe(&ends) == 0
    (wakeUp, waking) = (ends[0], ends[1])
    self.session = OpaquePointerBox(pointer: session)
    threads = Mutex([])
    guard hasPipe else {
      end()
      throw MountError(path: path, what: "no more files can be opened", code: EMFILE)
    }
    do throws(SystemCallError) {
      for number in 0..<workers {
        let (box, wakeUp) = (self.session, wakeUp)
        let waiting = grass_fuse_waiting(file, wakeUp)
        guard waiting >= 0 else { throw SystemCallError("the file of requests", call: "epoll_create1", code: errno) }
        let thread = try DedicatedThread(name: "shadow-\(number)") {
          defer { close(waiting) }
          Self.serve(box.pointer, waiting, until: wakeUp)
        }
        threads.withLock { $0.append(thread) }
      }
    } catch {
      end()
      throw MountError(path: path, what: "\(error)", code: 0)
    }
  }

  deinit { end() }

  /// Whether it is still mounted, as far as requests tell.
  public var isServing: Bool { !hasEnded.load(ordering: .acquiring) && fuse_session_exited(session.pointer) == 0 }

  /// Unmounts, also where files are open: those answer errors from then on.
  ///
  /// Waits for requests that are being answered.
  ///
  /// A second call does nothing.
  public func end() {
    guard !hasEnded.exchange(true, ordering: .acquiringAndReleasing) else { return }
    fuse_session_exit(session.pointer)
    close(waking)
    for thread in threads.withLock({ $0 }) { thread.join() }
    fuse_session_unmount(session.pointer)
    fuse_session_destroy(session.pointer)
    close(wakeUp)
  }

  /// Answers requests until the session ends or `wakeUp` can be read.
  ///
  /// Each thread waits by itself, and a request wakes one of them: handing the turn to another would cost each request a switch of
  /// threads more.
  private static func serve(_ session: OpaquePointer, _ waiting: Int32, until wakeUp: Int32) {
    var buffer = fuse_buf()
    defer { grass_fuse_free(&buffer) }
    while fuse_session_exited(session) == 0, grass_fuse_wait(waiting, wakeUp) != 0 {
      let result = fuse_session_receive_buf(session, &buffer)
      if result > 0 {
        fuse_session_process_buf(session, &buffer)
      } else if result != -EAGAIN && result != -EINTR && result != -ENOENT {
        // Neither was it another's, nor taken back: it is unmounted.
        return
      }
    }
  }
}
