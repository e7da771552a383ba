import Glibc
import Host

/// A child process that frames are said to and read from without waiting for it.
final class LookProcess {
  let id: pid_t
  private let input: Int32
  private let output: Int32
  private var buffer: [UInt8] = []
  private var piece = [UInt8](repeating: 0, count: 65536)
  private var outgoing: [UInt8] = []
  private var isOver = false
  private var isNonsense = false

  /// How it ended.
  enum End: Equatable {
    /// By itself, with this status.
    case exited(Int32)
    /// By a signal: it was killed, or a detector trapped.
    case signal(Int32)
  }

  /// Starts a program, its path first, with its standard input and output for frames.
  ///
  /// - Throws: ``SystemCallError`` where it cannot be started.
  init(_ program: [String]) throws(SystemCallError) {
    let name = program.first ?? ""
    func pair() throws(SystemCallError) -> (read: Int32, write: Int32) {
      var ends: [Int32] = [-1, -1]
      guard pipe(&ends) == 0 else { throw SystemCallError(name, call: "pipe", code: errno) }
      for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
      return (ends[0], ends[1])
    }
    let (childInput, input) = try pair()
    let (output, childOutput): (Int32, Int32)
    do throws(SystemCallError) {
      (output, childOutput) = try pair()
    } catch {
      close(childInput)
      close(input)
      throw error
    }
    defer {
      close(childInput)
      close(childOutput)
    }
    do throws(SystemCallError) {
      id = try spawn(program, input: childInput, output: childOutput)
    } catch {
      close(input)
      close(output)
      throw error
    }
    for end in [input, output] { _ = fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK) }
    self.input = input
    self.output = output
  }

  /// Says something, as soon as it takes it.
  func say(_ frame: LookFrame) {
    outgoing += frame.encoded
    flush()
  }

  private func flush() {
    while !outgoing.isEmpty {
      let count = SystemCall.retrying { write(input, outgoing, outgoing.count) }
      guard count > 0 else { return }
      outgoing.removeFirst(count)
    }
  }

  /// What it has said by now.
  ///
  /// - Throws: ``LookFrameError`` where that is no frame, after all that came before it.
  func frames() throws(LookFrameError) -> [LookFrame] {
    if isNonsense { throw LookFrameError() }
    flush()
    // A process that talks without end is read again the next time.
    for _ in 0..<64 {
      let count = SystemCall.retrying { read(output, &piece, piece.count) }
      guard count > 0 else { break }
      buffer += piece[..<count]
    }
    var frames: [LookFrame] = []
    do throws(LookFrameError) {
      while let frame = try LookFrame.next(in: &buffer) { frames.append(frame) }
    } catch {
      isNonsense = true
      if frames.isEmpty { throw error }
    }
    return frames
  }

  /// How it ended; nil as long as it has not.
  func end() -> End? {
    guard !isOver else { return .exited(0) }
    var status: Int32 = 0
    guard waitpid(id, &status, WNOHANG) == id else { return nil }
    isOver = true
    return Self.end(of: status)
  }

  private static func end(of status: Int32) -> End {
    let signal = status & 0x7f
    return signal == 0 ? .exited(status >> 8 & 0xff) : .signal(signal)
  }

  /// Ends it at once, and waits until it is gone.
  func kill() {
    guard !isOver else { return }
    isOver = true
    Glibc.kill(id, SIGKILL)
    var status: Int32 = 0
    while waitpid(id, &status, 0) < 0, errno == EINTR {}
  }

  deinit {
    kill()
    close(input)
    close(output)
  }
}
