import Foundation
import Synchronization

/// Who sits on a cable between two guests: passes each frame on, or does with it what it likes.
///
/// The guest that holds the cable boots first; the other's cable is ``cable``. Costs a thread, which ends with this object.
public final class WireTap: Sendable {
  /// Which way a frame goes: to the guest that holds the cable, or away from it.
  public enum Direction: Sendable {
    case toHolder, fromHolder

    public var opposite: Direction { self == .toHolder ? .fromHolder : .toHolder }
  }

  /// What is put on the wire for a frame that came: any number of frames, each with where it goes.
  public typealias Pass =
    @Sendable (_ frame: [UInt8], _ direction: Direction) -> [(frame: [UInt8], direction: Direction)]

  /// The cable of the guest that does not hold the other one.
  public let cable = "grass-tap-\(UUID().uuidString)"
  private let shared: Shared
  /// Closed to wake the thread at the end.
  private let waker: Int32

  private final class Shared: Sendable {
    let pass = Mutex<Pass?>(nil)
    let isStopped = Atomic<Bool>(false)
  }

  /// Takes the free end of a cable that a guest holds.
  ///
  /// - Parameter held: that cable's name. Its guest runs already.
  /// - Throws: ``LabError`` where nobody holds it.
  public init(holding held: String) throws {
    let holder = try Self.socket(held) { connect($0, $1, $2) }
    let listener = try Self.socket(cable) { bind($0, $1, $2) == 0 ? listen($0, 1) : -1 }
    let shared = Shared()
    self.shared = shared
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      for descriptor in [holder, listener] { close(descriptor) }
      throw LabError("cannot make a socket: \(String(cString: strerror(errno)))")
    }
    waker = ends[1]
    let waking = ends[0]
    let thread = Thread { Self.run(holder: holder, listener: listener, waker: waking, shared) }
    thread.name = "wire tap"
    thread.start()
  }

  deinit {
    shared.isStopped.store(true, ordering: .releasing)
    close(waker)
  }

  /// From now on has `pass` say what becomes of each frame, or passes all on where it is nil.
  ///
  /// Called on the tap's own thread, one frame at a time.
  public func set(_ pass: Pass?) { shared.pass.withLock { $0 = pass } }

  /// A stream socket on which `call` was made with an abstract name.
  private static func socket(
    _ name: String, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(LabError) -> Int32 {
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(name.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { path in
      // An abstract name starts with a zero byte.
      for (index, byte) in bytes.prefix(path.count - 1).enumerated() { path[index + 1] = byte }
    }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + 1 + bytes.count)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, length) }
    }
    guard descriptor >= 0, result == 0 else {
      let code = errno
      close(descriptor)
      throw LabError("the cable \(name) cannot be tapped: \(String(cString: strerror(code)))")
    }
    return descriptor
  }

  /// One end: what came and is no whole frame yet.
  ///
  /// QEMU puts each frame's length before it, 4 bytes, highest first.
  private struct End {
    let descriptor: Int32
    var bytes: [UInt8] = []

    /// Reads what is there; false where the other side is gone.
    mutating func fill() -> Bool {
      var chunk = [UInt8](repeating: 0, count: 1 << 16)
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count < 0, errno == EINTR { return true }
      guard count > 0 else { return false }
      bytes += chunk[..<count]
      return true
    }

    mutating func takeFrame() -> [UInt8]? {
      guard bytes.count >= 4 else { return nil }
      let count = bytes[..<4].reduce(0) { $0 << 8 | Int($1) }
      guard bytes.count >= 4 + count else { return nil }
      let frame = Array(bytes[4..<4 + count])
      bytes.removeFirst(4 + count)
      return frame
    }

    func send(_ frame: [UInt8]) {
      let whole = (0..<4).map { UInt8(truncatingIfNeeded: frame.count >> (24 - $0 * 8)) } + frame
      var sent = 0
      while sent < whole.count {
        let count = whole[sent...].withUnsafeBytes {
          Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        sent += count
      }
    }
  }

  private static func run(holder: Int32, listener: Int32, waker: Int32, _ shared: Shared) {
    var ends: [Direction: End] = [.toHolder: End(descriptor: holder)]
    defer {
      for descriptor in ends.values.map(\.descriptor) + [listener, waker] { close(descriptor) }
    }
    while !shared.isStopped.load(ordering: .acquiring) {
      let other = ends[.fromHolder]?.descriptor ?? -1
      var entries = [waker, listener, holder, other].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      guard poll(&entries, nfds_t(entries.count), -1) > 0 else { continue }
      if entries[1].revents != 0, other < 0 {
        let descriptor = accept(listener, nil, nil)
        if descriptor >= 0 { ends[.fromHolder] = End(descriptor: descriptor) }
      }
      for (entry, place) in [(entries[2], Direction.toHolder), (entries[3], .fromHolder)] where entry.revents != 0 {
        guard ends[place]?.fill() == true else {
          if place == .toHolder { return }
          if let end = ends.removeValue(forKey: place) { close(end.descriptor) }
          continue
        }
        while let frame = ends[place]?.takeFrame() {
          // What comes from one end goes to the other.
          let pass = shared.pass.withLock { $0 }
          for one in pass?(frame, place.opposite) ?? [(frame, place.opposite)] { ends[one.direction]?.send(one.frame) }
        }
      }
    }
  }
}
