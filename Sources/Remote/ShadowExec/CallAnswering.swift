import CSandbox
import Glibc
import Host
import Shadow
import Synchronization

/// Answers the calls that the filter stops, one after another, until nobody is left who could ask.
final class CallAnswering: @unchecked Sendable {
  // Written by `init` and the one thread only.
  private let listener: Int32
  private let host: TrappedCall.Host
  /// By their numbers.
  private let calls: [TrappedCall?]
  private let note: @Sendable (String) -> Void
  private var said: Set<String> = []
  private let isEnding = Atomic<Bool>(false)
  private var thread: DedicatedThread?

  /// How many different things are said of what was refused.
  private static let mostNotes = 32

  /// Begins to answer `calls` on `listener`, where questions arrive.
  ///
  /// That is closed at the end. `note` says what was refused, each thing once.
  ///
  /// - Throws: `SystemCallError` where no thread can be started.
  init(
    listener: Int32, host: TrappedCall.Host, calls: [TrappedCall], note: @escaping @Sendable (String) -> Void
  ) throws(SystemCallError) {
    (self.listener, self.host, self.note) = (listener, host, note)
    self.calls = CallFilter.byNumber(calls)
    grass_sandbox_take_turns(listener)
    thread = try DedicatedThread(name: "calls") { [self] in serve() }
  }

  /// Waits until its thread has ended.
  func end() {
    isEnding.store(true, ordering: .releasing)
    thread?.join()
    thread = nil
    close(listener)
  }

  private func serve() {
    var request: UnsafeMutablePointer<seccomp_notif>?
    var response: UnsafeMutablePointer<seccomp_notif_resp>?
    guard seccomp_notify_alloc(&request, &response) == 0, let request, let response else { return }
    defer { seccomp_notify_free(request, response) }
    while !isEnding.load(ordering: .acquiring) {
      var waits = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
      guard poll(&waits, 1, 200) >= 0 || errno == EINTR else { return }
      // All who could ask are gone.
      if waits.revents & Int16(POLLIN) == 0, waits.revents & Int16(POLLHUP) != 0 { return }
      guard waits.revents & Int16(POLLIN) != 0 else { continue }
      // The kernel takes no request that is not zero.
      request.initialize(to: seccomp_notif())
      // ENOENT: who asked was ended meanwhile.
      guard seccomp_notify_receive(listener, request) == 0 else { continue }
      guard let answer = answer(request.pointee) else { continue }
      response.initialize(to: answer)
      _ = seccomp_notify_respond(listener, response)
    }
  }

  /// Nil where the answer was given on the way.
  private func answer(_ request: seccomp_notif) -> seccomp_notif_resp? {
    var response = seccomp_notif_resp()
    response.id = request.id
    let data = request.data
    let question = Question(
      listener: listener, id: request.id, thread: Int32(bitPattern: request.pid),
      arguments: [data.args.0, data.args.1, data.args.2, data.args.3, data.args.4, data.args.5])
    guard calls.indices.contains(Int(data.nr)), let call = calls[Int(data.nr)] else {
      response.flags = grass_seccomp_continue()
      return response
    }
    do {
      switch try call.answer(question, host) {
      case .value(let value): response.val = value
      case .given: return nil
      case .own: response.flags = grass_seccomp_continue()
      case .refused(let code, let what):
        say("\(call.name) was refused: it would \(what)")
        response.error = -code
      }
    } catch let error as CallError {
      response.error = -error.code
    } catch {
      say("\(call.name) has no answer: \(error)")
      response.error = -EIO
    }
    return response
  }

  private func say(_ text: String) {
    guard said.count < Self.mostNotes, said.insert(text).inserted else { return }
    note(text)
  }
}
