package import Devices
import Glibc
import Host
import Synchronization

/// QEMU, as its machine protocol says whether it runs the guest's CPUs: what tells a paused guest from one that hangs.
///
/// It has them stand still as long as that is wanted, and go on afterwards unless somebody else had stopped them.
///
/// A thread of its own asks, so that a QEMU that does not answer keeps nobody waiting; what it said last holds for a second.
///
/// Source: QEMU's docs/interop/qmp-spec.rst; `query-status` in qapi/run-state.json, `stop` and `cont` in qapi/misc.json.
package final class Hypervisor: @unchecked Sendable {
  // The thread has all but the atomics, from init to stop.
  private let path: String
  private let shared = Shared()
  private var thread: DedicatedThread?

  private final class Shared: Sendable {
    let isStopping = Atomic<Bool>(false)
    /// ``HypervisorState`` by its raw value.
    let state = Atomic<UInt64>(HypervisorState.unknown.rawValue)
    /// Whether the guest is to stand still.
    let isWanted = Atomic<Bool>(false)
    /// Whether it does for that, also where the connection ended since: who was stopped by others is left to them.
    let isStopped = Atomic<Bool>(false)
  }

  /// How often it is asked, and how long an answer may take, in milliseconds.
  private static let interval: Int32 = 100
  private static let patience: Int32 = 1000
  /// Longer lines are none of QEMU's.
  private static let longestLine = 1 << 20

  /// Begins to ask the QEMU that listens at a Unix socket: a path, or behind an @ an abstract name.
  ///
  /// QEMU need not be there yet, and may come again.
  ///
  /// - Throws: ``ServerError`` where the path is too long, or there can be no thread.
  package init(path: String) throws(ServerError) {
    self.path = path
    guard path.utf8.count < MemoryLayout.size(ofValue: sockaddr_un().sun_path) else {
      throw ServerError.hypervisor(path, "the path is too long for a socket")
    }
    do throws(SystemCallError) {
      thread = try DedicatedThread(name: "grass-qmp") { [path, shared] in
        while !shared.isStopping.load(ordering: .acquiring) {
          Self.ask(path, shared)
          shared.state.store(HypervisorState.unknown.rawValue, ordering: .releasing)
          SystemCall.sleep(nanoseconds: UInt64(Self.interval) * 1_000_000)
        }
      }
    } catch {
      throw ServerError.hypervisor(path, error.description)
    }
  }

  /// What it said last; unknown where it does not answer.
  package var state: HypervisorState {
    HypervisorState(rawValue: shared.state.load(ordering: .acquiring)) ?? .unknown
  }

  /// Has the guest stand still, or go on; it follows within moments.
  package func setPaused(_ isWanted: Bool) { shared.isWanted.store(isWanted, ordering: .releasing) }

  /// Has the guest go on if it stands still for this, and ends the thread.
  package func stop() {
    guard let thread else { return }
    setPaused(false)
    self.thread = nil
    shared.isStopping.store(true, ordering: .releasing)
    thread.join()
  }

  deinit { stop() }

  // MARK: The protocol

  /// Asks again and again over one connection, until it ends.
  private static func ask(_ path: String, _ shared: Shared) {
    let socket = connected(to: path)
    guard socket >= 0 else { return }
    defer { close(socket) }
    var lines = Lines(socket)
    guard lines.next()?.contains("\"QMP\"") == true, send(socket, "qmp_capabilities"), lines.answer() != nil else {
      return
    }
    while true {
      // Looked at before: what is to be done at the end is done once more.
      let isStopping = shared.isStopping.load(ordering: .acquiring)
      guard send(socket, "query-status"), let answer = lines.answer() else { return }
      let now = state(in: answer)
      shared.state.store(now.rawValue, ordering: .releasing)
      let isWanted = shared.isWanted.load(ordering: .acquiring)
      let isStopped = shared.isStopped.load(ordering: .relaxed)
      // Whoever let it go on meanwhile has the say.
      if isStopped, now == .runs { shared.isStopped.store(false, ordering: .relaxed) }
      if isWanted, now == .runs, !isStopped {
        guard send(socket, "stop"), lines.answer() != nil else { return }
        shared.isStopped.store(true, ordering: .relaxed)
        continue
      }
      if !isWanted, isStopped, now != .runs {
        guard send(socket, "cont"), lines.answer() != nil else { return }
        continue
      }
      if isStopping { return }
      SystemCall.sleep(nanoseconds: UInt64(interval) * 1_000_000)
    }
  }

  /// What an answer to `query-status` says.
  static func state(in answer: String) -> HypervisorState {
    let text = answer.filter { $0 != " " }
    guard let start = text.firstRange(of: "\"status\":\"")?.upperBound, let end = text[start...].firstIndex(of: "\"")
    else {
      return .unknown
    }
    switch text[start..<end] {
    case "running": return .runs
    // Somebody wants it so. What QEMU stops by itself, for an error or a panic, is no pause.
    case "paused", "debug", "inmigrate", "postmigrate", "finish-migrate", "restore-vm", "save-vm", "suspended",
      "prelaunch",
      "colo":
      return .paused
    default: return .unknown
    }
  }

  private static func connected(to path: String) -> Int32 {
    let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else { return -1 }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let isAbstract = path.hasPrefix("@")
    let bytes = isAbstract ? [0] + Array(path.utf8.dropFirst()) : Array(path.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    // An abstract name ends where the address does, a path with a zero.
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count + (isAbstract ? 0 : 1))
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, length) }
    }
    if result == 0 { return socket }
    close(socket)
    return -1
  }

  private static func send(_ socket: Int32, _ command: String) -> Bool {
    let bytes = Array("{\"execute\":\"\(command)\"}\n".utf8)
    return Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
  }

  /// What QEMU says, a JSON object a line.
  private struct Lines {
    private let socket: Int32
    private var bytes: [UInt8] = []

    init(_ socket: Int32) { self.socket = socket }

    /// The next answer to a command; events come between.
    ///
    /// Nil where there is none in time, or the connection ends.
    mutating func answer() -> String? {
      while let line = next() {
        if line.contains("\"error\"") { return nil }
        if line.contains("\"return\"") { return line }
      }
      return nil
    }

    mutating func next() -> String? {
      while true {
        if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
          defer { bytes.removeFirst(end + 1) }
          return String(decoding: bytes[..<end], as: UTF8.self)
        }
        var waiting = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard bytes.count < Hypervisor.longestLine, poll(&waiting, 1, Hypervisor.patience) == 1 else { return nil }
        var part = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket, &part, part.count, 0)
        guard count > 0 else { return nil }
        bytes += part[..<count]
      }
    }
  }
}
