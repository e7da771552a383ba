public import Glibc
public import Links
import Memory
public import Remote

/// Very many heartbeats and requests over one link, to see that none is lost and that memory does not grow.
public struct Soak: Sendable {
  public var heartbeats: Int
  /// Half of them carry up to 16 KiB, half ask for as much.
  public var requests: Int
  /// The processes whose memory is watched: this one, and the monitor's where it runs on this machine.
  public var processes: [pid_t]

  public init(heartbeats: Int, requests: Int, processes: [pid_t] = [getpid()]) {
    self.heartbeats = heartbeats
    self.requests = requests
    self.processes = processes
  }

  public struct Outcome: Sendable {
    /// What this side was answered, and what the monitor says that it served meanwhile.
    public var answered: Int
    public var served: Int
    public var seconds: Double
    /// Resident memory of each process in KiB once a tenth was done, and at the end; nil where it cannot be read.
    public var residentBefore: [Int?]
    public var residentAfter: [Int?]
  }

  private static let longest = 16 * 1024

  /// Runs to the end.
  ///
  /// Others that ask the same monitor meanwhile are counted in ``Outcome/served``, too.
  ///
  /// - Throws: whatever went wrong first: nothing is tried twice.
  public func run(
    _ address: LinkAddress, timeout: Duration = .seconds(10), progress: (String) -> Void = { _ in }
  ) throws(SessionError) -> Outcome {
    try run(Session(to: address, timeout: timeout), progress: progress)
  }

  /// The same over a session, which is closed at the end.
  public func run(_ session: Session, progress: (String) -> Void = { _ in }) throws(SessionError) -> Outcome {
    defer { session.close() }
    let before = try session.info()
    guard let source = before.segments.max(by: { $0.count < $1.count }), source.count >= Self.longest else {
      throw SessionError(session.host, .badAnswer("it sees too little memory"))
    }
    let limits = (request: session.requestCapacity, response: session.responseCapacity)
    // Prepared before, so that nothing here grows by itself.
    let errands = [Figure.What.request, .result].flatMap { what in
      [8, 1000, 4096, Self.longest].map {
        Errand(what, byteCount: $0, source: source, limits: limits, slots: 4, pieceSize: session.pieceSize(share:))
      }
    }
    let total = heartbeats + requests
    let every = max(1, total / 10)
    let start = ContinuousClock.now
    var resident = processes.map(Self.resident)
    var answered = 0
    var asked = 0
    for turn in 0..<total {
      // Spread evenly.
      if (turn + 1) * requests / total > asked {
        let errand = errands[asked % errands.count]
        asked += 1
        try session.perform(errand.pieces.count, within: nil) { piece, payload in
          errand.prepare(piece, payload)
        } accept: { piece, payload throws(SessionError) in
          guard errand.isAnswered(piece, by: payload) else {
            throw SessionError(session.host, .badAnswer("it is not what was asked for"))
          }
        }
      } else {
        try session.heartbeat()
      }
      answered += 1
      if answered == every { resident = processes.map(Self.resident) }
      if answered % every == 0 { progress("\(answered) of \(total) answered") }
    }
    let elapsed = (ContinuousClock.now - start).microseconds / 1e6
    let after = try session.info()
    return Outcome(
      // The second question for information is counted in its own answer's successor.
      answered: answered, served: Int(after.served - before.served) - 1, seconds: elapsed, residentBefore: resident,
      residentAfter: processes.map(Self.resident))
  }

  /// Resident memory of a process in KiB.
  static func resident(_ process: pid_t) -> Int? {
    guard let file = fopen("/proc/\(process)/statm", "r") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 128)
    let count = fread(&bytes, 1, bytes.count, file)
    // Pages: all of it, then what is resident.
    let words = String(decoding: bytes[..<count], as: UTF8.self).split(separator: " ")
    guard words.count > 1, let pages = Int(words[1]) else { return nil }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE))) / 1024
  }
}
