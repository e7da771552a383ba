import Glibc
import Host
import LinuxKernel
import Shadow
import Synchronization

/// Hosts that are mounted side by side, each below its name.
///
/// Each is opened by a thread of its own, again and again until it can be: one that is dead, or hangs, holds up no other. Until then what
/// is below its name is an error, and standard error says why.
final class MountedHosts: Sendable {
  private let hosts: [MountedHost]

  /// What is mounted, with a name for each of `sources`.
  init(_ sources: [(name: String, open: @Sendable () throws -> ShadowNode)]) {
    hosts = Self.named(sources.map(\.name)).enumerated().map { MountedHost(name: $1, open: sources[$0].open) }
  }

  /// Names that can be those of files, and are no two the same.
  static func named(_ names: [String]) -> [String] {
    var known: Set<String> = []
    return names.map { name in
      let plain = String(
        name.prefix(200).map { $0 == "/" || $0.isNewline || $0.asciiValue.map { $0 < 0x20 } ?? false ? "_" : $0 })
      let first = plain.isEmpty || plain == "." || plain == ".." ? "host" : plain
      var (name, number) = (first, 2)
      while !known.insert(name).inserted {
        name = "\(first)-\(number)"
        number += 1
      }
      return name
    }
  }

  var root: ShadowNode { .directory(named: hosts.map { ($0.name, $0.node) }) }

  /// Begins to open all, and waits at most `patience` for those that can be opened at once.
  func start(patience: Duration) {
    for host in hosts { host.start() }
    let end = ContinuousClock.now + patience
    while ContinuousClock.now < end, !hosts.allSatisfy(\.wasTried) { usleep(50_000) }
  }

  /// Says why something of a host cannot be read: once, and then now and then.
  func report(_ name: String, _ why: String) { hosts.first { $0.name == name }?.report(why) }
}

/// One of them.
private final class MountedHost: Sendable {
  let name: String
  private let open: @Sendable () throws -> ShadowNode
  private let state = Mutex(State())

  private struct State {
    var root: ShadowNode?
    var failure = "it has not answered yet"
    var wasTried = false
    var lastReport: ContinuousClock.Instant?
  }

  /// How long to wait before a host is tried again, and before something is said of it again.
  private static let pause: UInt32 = 5
  private static let silence = Duration.seconds(30)

  init(name: String, open: @escaping @Sendable () throws -> ShadowNode) {
    self.name = name
    self.open = open
  }

  var wasTried: Bool { state.withLock { $0.wasTried } }

  /// What it shows, as far as it has been opened.
  var node: ShadowNode {
    .forwarding { [self] in
      try state.withLock { state in
        guard let root = state.root else { throw ShadowError.unreadable("\(name): \(state.failure)") }
        return root
      }
    }
  }

  func start() {
    // It goes on until the process ends: a host that hangs cannot be waited for.
    let thread = try? DedicatedThread(name: "host") { [self] in
      while true {
        do {
          let root = try open()
          state.withLock { state in (state.root, state.wasTried) = (root, true) }
          return
        } catch {
          state.withLock { state in (state.failure, state.wasTried) = ("\(error)", true) }
          report("\(error)")
        }
        sleep(Self.pause)
      }
    }
    thread?.detach()
    if thread == nil { state.withLock { $0.failure = "no thread can be made for it" } }
  }

  func report(_ why: String) {
    let isDue = state.withLock { state in
      if let last = state.lastReport, ContinuousClock.now - last < Self.silence { return false }
      state.lastReport = .now
      return true
    }
    if isDue { writeNote("\(name): \(why)") }
  }
}
