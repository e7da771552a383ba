import CSandbox
import Glibc

/// A program in namespaces of its own.
struct Sandbox {
  struct Mount {
    /// Nil for an empty file system in memory.
    var source: String?
    var target: String
  }

  var command: [String]
  var mounts: [Mount]
  var ownProcesses: String
  var node, domain: String
  var filter: [UInt8]
  var process: Int32
  /// Nanoseconds of the clocks that begin at the boot, as the program is to find them when it starts.
  var clocks: (monotonic: Int64, boot: Int64)

  /// Runs it, and waits for its end.
  ///
  /// `started` is told of the first process in the namespaces, by this machine's number, and
  /// where the program's questions arrive, which it owns from then on.
  ///
  /// - Returns: how it ended, as wait(2) says it.
  /// - Throws: ``SandboxError``, and what `started` throws, after which nothing runs any more.
  func run(started: (Int32, Int32) throws -> Void) throws -> Int32 {
    var channel: Int32 = -1
    let first = try start(&channel)
    defer {
      close(channel)
      // It has nothing left to do, and takes all others with it.
      kill(first, SIGKILL)
      waitpid(first, nil, 0)
    }
    while true {
      var message = grass_sandbox_message()
      var file: Int32 = -1
      let result = grass_sandbox_receive(channel, &message, &file)
      guard result > 0 else { throw SandboxError("its first process ended", code: result < 0 ? errno : ECHILD) }
      switch grass_sandbox_event(rawValue: UInt32(bitPattern: message.event)) {
      case GRASS_SANDBOX_STARTED: try started(first, file)
      case GRASS_SANDBOX_ENDED: return message.value
      default:
        let stage = withUnsafePointer(to: &message.stage) {
          $0.withMemoryRebound(to: CChar.self, capacity: 48) { String(cString: $0) }
        }
        throw SandboxError(stage, code: message.value)
      }
    }
  }

  private func start(_ channel: inout Int32) throws(SandboxError) -> pid_t {
    var texts: [UnsafeMutablePointer<CChar>?] = []
    func copy(_ text: String) -> UnsafeMutablePointer<CChar>? {
      let copy = strdup(text)
      texts.append(copy)
      return copy
    }
    defer { for text in texts { free(text) } }
    let words = command.map { copy($0) } + [nil]
    let places = mounts.map { mount in
      grass_sandbox_mount(source: mount.source.flatMap { UnsafePointer(copy($0)) }, target: copy(mount.target))
    }
    var sandbox = grass_sandbox()
    sandbox.own_processes = UnsafePointer(copy(ownProcesses))
    let working = getcwd(nil, 0)
    defer { free(working) }
    sandbox.working_folder = UnsafePointer(working ?? copy("/"))
    sandbox.node_name = UnsafePointer(copy(node))
    sandbox.domain_name = UnsafePointer(copy(domain))
    sandbox.process_id = process
    (sandbox.monotonic_time, sandbox.boot_time) = (clocks.monotonic, clocks.boot)
    let first = words.withUnsafeBufferPointer { words in
      places.withUnsafeBufferPointer { places in
        filter.withUnsafeBytes { filter in
          sandbox.command = words.baseAddress
          (sandbox.mounts, sandbox.mount_count) = (places.baseAddress, UInt32(places.count))
          (sandbox.filter, sandbox.filter_bytes) = (filter.baseAddress, UInt32(filter.count))
          return grass_sandbox_start(&sandbox, &channel)
        }
      }
    }
    guard first >= 0 else { throw SandboxError("starting its namespaces", code: errno) }
    return first
  }
}
