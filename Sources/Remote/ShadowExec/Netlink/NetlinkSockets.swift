import CSandbox
import Glibc
import Host
import Synchronization

/// The netlink sockets of one sandbox's programs, which are ends of conversations with us.
///
/// A program has its end under a number of ``first`` or more, by which the filter knows it.
final class NetlinkSockets: Sendable {
  /// What a program asked for by socket(2).
  enum Family: Int32 { case route = 0, diagnostics = 4, generic = 16 }

  struct Socket: Sendable {
    let here: Int32
    let family: Family
    /// By which the program's own end is known among its files.
    let inode: UInt64
    /// Its port, by which messages to it are addressed.
    var port: UInt32
    /// What is still to be sent.
    var packets: [[UInt8]] = []
  }

  private struct Table {
    var sockets: [Socket] = []
    var next: UInt64
    var isEnding = false
  }

  private let table: Mutex<Table>
  /// The two ends of a pipe by which the sender learns that there is something to send.
  private let waking, woken: Int32
  private let sender: Mutex<DedicatedThread?>

  /// The least number of a program's file that can be one; above what programs have open that count up.
  static let first: Int32 = 900
  /// How many there may be at once, those whose programs have closed them not counted.
  private static let most = 64

  /// - Throws: `SystemCallError`.
  init() throws(SystemCallError) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw SystemCallError("netlink", call: "pipe", code: errno) }
    (woken, waking) = (ends[0], ends[1])
    // Names are one for all on this machine.
    table = Mutex(Table(next: UInt64(UInt32(bitPattern: getpid())) << 16))
    sender = Mutex(nil)
    let thread = try DedicatedThread(name: "netlink") { [self] in send() }
    sender.withLock { $0 = thread }
  }

  /// Ends all of them.
  func end() {
    table.withLock { $0.isEnding = true }
    wake()
    sender.withLock { thread in
      thread?.join()
      thread = nil
    }
    for file in [waking, woken] { close(file) }
    table.withLock { table in
      for socket in table.sockets { close(socket.here) }
      table.sockets = []
    }
  }

  /// Makes one, and hands its other end to the program that asks.
  ///
  /// - Returns: the number that it has there.
  func open(_ family: Family, for question: Question, closesOnExec: Bool) throws(CallError) -> Int32 {
    var (here, there): (Int32, Int32) = (-1, -1)
    let (count, number) = table.withLock { table in
      table.next += 1
      return (table.sockets.count, table.next)
    }
    guard count < Self.most else { throw CallError(ENOBUFS) }
    guard grass_sandbox_netlink(number & 0xff_ffff_ffff, &here, &there) == 0 else { throw CallError(errno) }
    defer { close(there) }
    _ = fcntl(here, F_SETFL, fcntl(here, F_GETFL) | O_NONBLOCK)
    do throws(CallError) {
      let status = try Self.status(of: there)
      let wanted = try Self.freeNumber(question.thread)
      let given = try question.give(there, as: wanted, closesOnExec: closesOnExec)
      table.withLock { table in
        // The kernel gives out a process's own number first.
        let port = UInt32(truncatingIfNeeded: number)
        table.sockets.append(Socket(here: here, family: family, inode: status, port: port))
      }
      return given
    } catch {
      close(here)
      throw error
    }
  }

  /// The one that is file `number` of who asks.
  func socket(_ number: Int32, of question: Question) -> Socket? {
    guard let inode = Self.inode("/proc/\(question.thread)/fd/\(number)") else { return nil }
    return table.withLock { $0.sockets.first { $0.inode == inode } }
  }

  func setPort(_ port: UInt32, of socket: Socket) {
    table.withLock { table in
      if let index = table.sockets.firstIndex(where: { $0.here == socket.here }) { table.sockets[index].port = port }
    }
  }

  /// Sends packets to the program, as fast as it takes them.
  func send(_ packets: [[UInt8]], to socket: Socket) {
    table.withLock { table in
      if let index = table.sockets.firstIndex(where: { $0.here == socket.here }) {
        table.sockets[index].packets += packets
      }
    }
    wake()
  }

  private func wake() {
    var byte: UInt8 = 1
    _ = write(waking, &byte, 1)
  }

  /// The sender's thread: gives each program what it has room for.
  private func send() {
    while true {
      let (sockets, isEnding) = table.withLock { ($0.sockets, $0.isEnding) }
      if isEnding { return }
      var waits = [pollfd(fd: woken, events: Int16(POLLIN), revents: 0)]
      waits += sockets.map { pollfd(fd: $0.here, events: $0.packets.isEmpty ? 0 : Int16(POLLOUT), revents: 0) }
      guard poll(&waits, UInt(waits.count), -1) >= 0 || errno == EINTR else { return }
      if waits[0].revents != 0 {
        var bytes = [UInt8](repeating: 0, count: 64)
        _ = read(woken, &bytes, bytes.count)
      }
      for (socket, wait) in zip(sockets, waits.dropFirst()) where wait.revents != 0 {
        // Its program has closed it.
        if wait.revents & Int16(POLLHUP | POLLERR) != 0 {
          table.withLock { table in table.sockets.removeAll { $0.here == socket.here } }
          close(socket.here)
        } else if let packet = socket.packets.first {
          let sent = Glibc.send(socket.here, packet, packet.count, Int32(MSG_NOSIGNAL))
          guard sent >= 0 || errno != EAGAIN else { continue }
          table.withLock { table in
            if let index = table.sockets.firstIndex(where: { $0.here == socket.here }) {
              table.sockets[index].packets.removeFirst()
            }
          }
        }
      }
    }
  }

  /// The inode number of a socket.
  private static func status(of file: Int32) throws(CallError) -> UInt64 {
    guard let inode = inode("/proc/self/fd/\(file)") else { throw CallError(EBADF) }
    return inode
  }

  private static func inode(_ path: String) -> UInt64? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
    return UInt64(status.st_ino)
  }

  /// A number that the program has nothing open under.
  private static func freeNumber(_ thread: Int32) throws(CallError) -> Int32 {
    for number in first..<first + Int32(most) * 2 where access("/proc/\(thread)/fd/\(number)", F_OK) != 0 {
      return number
    }
    throw CallError(EMFILE)
  }
}
