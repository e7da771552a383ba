import CRegion
import Devices
import Host
import Links
import Memory
import Paging
import Records
import Region
import Remote
import Synchronization
import Testing

/// A monitored side that answers falsely: each answer ends in a named error within the call's time.
@Suite(.serialized) struct HostileMonitorTests {
  /// A region whose slot 0 is answered by `answer`, from a thread.
  private final class FalseMonitor: Sendable {
    let region: SharedRegion
    private let stopped = Atomic<Bool>(false)

    init() throws {
      region = try SharedRegion(path: "/tmp/grass-test-\(UInt64.random(in: 0 ... .max))", layout: RegionLayout())
    }

    /// Answers one request with `record`, made of its sequence number.
    func answer(_ record: @escaping @Sendable (UInt64) -> [UInt8]) throws -> DedicatedThread {
      // Before anything is asked: the thread may start late.
      let old = grass_load(region.base + region.layout.requestOffset(slot: 0))
      return try DedicatedThread(name: "false") { [self] in
        let request = region.base + region.layout.requestOffset(slot: 0)
        while grass_load(request) == old {
          if stopped.load(ordering: .acquiring) { return }
          SystemCall.sleep(nanoseconds: 100_000)
        }
        let bytes = record(grass_load(request))
        bytes.withUnsafeBytes {
          grass_copy_in(region.base + region.layout.responseOffset(slot: 0), $0.baseAddress, UInt64($0.count))
        }
      }
    }

    func stop() { stopped.store(true, ordering: .releasing) }
  }

  private static func sealed(_ sequence: UInt64, _ payload: [UInt8]) -> [UInt8] {
    var record = [UInt8](repeating: 0, count: 32) + payload
    record += [UInt8](repeating: 0, count: Int(grass_record_size(UInt64(payload.count))) - record.count)
    record.withUnsafeMutableBytes { grass_record_seal($0.baseAddress, sequence, UInt64(payload.count)) }
    return record
  }

  private static func words(_ words: UInt32...) -> [UInt8] {
    words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) } }
  }

  /// Asks a device that answers with `record`.
  ///
  /// Answers that never become whole take all of `timeout`; the false device's thread may start late.
  private func ask(
    _ record: @escaping @Sendable (UInt64) -> [UInt8], within timeout: Duration = .seconds(3),
    _ call: (Session) throws(SessionError) -> Void
  ) throws -> SessionError.Reason? {
    let monitor = try FalseMonitor()
    let session = try Session(
      to: .sharedMemory(path: try #require(monitor.region.path)), timeout: timeout)
    let thread = try monitor.answer(record)
    defer {
      monitor.stop()
      thread.join()
    }
    let start = ContinuousClock.now
    do throws(SessionError) {
      try call(session)
      return nil
    } catch {
      #expect(ContinuousClock.now - start < .seconds(5))
      return error.reason
    }
  }

  @Test func refusesFalseHeartbeats() throws {
    let heartbeat = Self.words(1, 0, 0, 0, 1, 0, 2, 0)
    func beat(_ session: Session) throws(SessionError) { try session.heartbeat() }
    #expect(try ask({ Self.sealed($0, heartbeat) }, beat) == nil)
    #expect(try ask({ _ in [] }, within: .milliseconds(200), beat) == .noAnswer)
    #expect(try ask({ Self.sealed($0 + 1, heartbeat) }, within: .milliseconds(200), beat) == .noAnswer)
    #expect(try ask({ Self.sealed($0, []) }, beat) == .badAnswer("it is too short"))
    #expect(try ask({ Self.sealed($0, Array(heartbeat.dropLast())) }, beat) == .badAnswer("it is too short"))
    #expect(try ask({ Self.sealed($0, heartbeat + [0]) }, beat) == .badAnswer("it is too long"))
    #expect(try ask({ Self.sealed($0, Self.words(2, 0, 0, 0)) }, beat) == .badAnswer("it belongs to operation 2"))
    #expect(
      try ask({ Self.sealed($0, Self.words(1, 0, 0, 1, 1, 0, 2, 0)) }, beat)
        == .badAnswer("a field is not zero that has to be"))
    #expect(try ask({ Self.sealed($0, Self.words(1, 77, 0, 0)) }, beat) == .refused(RequestStatus(rawValue: 77)))
    for offset in [8, 15, 16, 31, 32, 63, 64, 71] {
      // Length, check, payload and trailing sequence, one byte of each changed.
      let reason = try ask(
        { sequence in
          var record = Self.sealed(sequence, heartbeat)
          record[offset] ^= 0x40
          return record
        }, within: .milliseconds(500), beat)
      #expect(reason == .tornAnswer, "byte \(offset)")
    }
  }

  @Test func refusesFalseInfoAndGathers() throws {
    func info(_ session: Session) throws(SessionError) { _ = try session.info() }
    let numbers = [UInt8](repeating: 1, count: 56) + Self.words(0x1000, 0)
    #expect(
      try ask({ Self.sealed($0, Self.words(2, 0, .max, 0) + numbers) }, info)
        == .badAnswer("it announces 4294967295 segments in 64 bytes"))
    let less = [UInt8](repeating: 1, count: 56) + Self.words(0xfff, 0)
    #expect(
      try ask({ Self.sealed($0, Self.words(2, 0, 0, 0) + less) }, info)
        == .badAnswer("digests of less than a page at a time"))
    // Two segments, the second one within the first.
    let overlapping = Self.words(0, 0, 0x2000, 0) + Self.words(0x1000, 0, 0x1000, 0)
    #expect(
      try ask({ Self.sealed($0, Self.words(2, 0, 2, 0) + numbers + overlapping) }, info)
        == .badAnswer("its segments overlap"))
    // One that goes round the end of all addresses.
    let wrapping = Self.words(.max, .max, 2, 0)
    #expect(
      try ask({ Self.sealed($0, Self.words(2, 0, 1, 0) + numbers + wrapping) }, info)
        == .badAnswer("its segments overlap"))
    func gather(_ session: Session) throws(SessionError) {
      var batch = ReadBatch<MemoryLocation>()
      batch.add(.physical(PhysicalAddress(0)), count: 8)
      try session.gather(&batch, format: .x86_64FourLevel)
    }
    let status = [UInt8](repeating: 0, count: 24)
    let bytes = [UInt8](repeating: 7, count: 8)
    #expect(try ask({ Self.sealed($0, Self.words(3, 0, 1, 0) + status + bytes) }, gather) == nil)
    #expect(
      try ask({ Self.sealed($0, Self.words(3, 0, 2, 0) + status + bytes) }, gather)
        == .badAnswer("48 bytes for a gather of 8"))
    #expect(
      try ask({ Self.sealed($0, Self.words(3, 0, 1, 0) + status) }, gather) == .badAnswer("40 bytes for a gather of 8"))
    #expect(
      try ask({ Self.sealed($0, Self.words(3, 0, 1, 0) + [9] + status.dropLast() + bytes) }, gather)
        == .badAnswer("a range failed with code 9"))
  }

  @Test func refusesFalseModulesAndRuns() throws {
    func monitors(_ session: Session) throws(SessionError) { #expect(try session.monitors() == ["ps"]) }
    let name = Array("ps".utf8) + [UInt8](repeating: 0, count: 30)
    #expect(try ask({ Self.sealed($0, Self.words(5, 0, 1, 0) + name) }, monitors) == nil)
    for payload in [
      Self.words(5, 0, 2, 0) + name, Self.words(5, 0, .max, 0) + name, Self.words(5, 0, 1, 0) + name.dropLast(),
      Self.words(5, 0, 0, 0) + name,
    ] {
      #expect(try ask({ Self.sealed($0, payload) }, monitors) == .badAnswer("it has a false length"))
    }

    func run(_ session: Session) throws(SessionError) { #expect(try session.run("ps").result.records.count == 1) }
    @Sendable func answer(faults: UInt32, size: UInt32, faulted: UInt32, _ rest: [UInt8]) -> [UInt8] {
      Self.words(4, 0, faults, 0) + Self.words(9, 0, size, 0, 1, faulted) + rest
    }
    let record = Self.words(1, 8, 7, 7)
    let fault = [UInt8](repeating: 1, count: 32)
    #expect(try ask({ Self.sealed($0, answer(faults: 0, size: 16, faulted: 0, record)) }, run) == nil)
    #expect(try ask({ Self.sealed($0, answer(faults: 1, size: 16, faulted: 3, record + fault)) }, run) == nil)
    #expect(try ask({ Self.sealed($0, Self.words(4, 8, 0, 0)) }, run) == .refused(.badRun))
    #expect(try ask({ Self.sealed($0, Self.words(4, 0, 0, 0)) }, run) == .badAnswer("it is too short"))
    for (payload, faults) in [
      // Records longer and shorter than what follows, faults that are not there, and more than there can be.
      (answer(faults: 0, size: 24, faulted: 0, record), 0), (answer(faults: 0, size: 8, faulted: 0, record), 0),
      (answer(faults: 0, size: .max, faulted: 0, record), 0), (answer(faults: 1, size: 16, faulted: 1, record), 1),
      (answer(faults: 1, size: 16, faulted: 0, record + fault), 1),
      (answer(faults: .max, size: 16, faulted: .max, record + fault), Int(UInt32.max)),
    ] {
      #expect(
        try ask({ Self.sealed($0, payload) }, run)
          == .badAnswer("\(payload.count) bytes for a run with \(faults) faults"))
    }
  }
}
