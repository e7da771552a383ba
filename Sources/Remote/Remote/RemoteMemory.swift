public import Memory
public import Paging
import Records

/// The memory that a device sees, read through a session with it.
///
/// The device walks page tables by itself, so a batch of any kind costs one round trip, or one for each time that the
/// session's slots are filled. An error of the session is a fault of every entry of the batch.
public final class RemoteMemory: TranslatingMemory, FrameDescribingMemory {
  public let session: Session
  public let segments: [MemorySegment]
  /// Where the device found the kernel's VMCOREINFO note: a hint, to be checked.
  ///
  /// Nil where it found none.
  public let kernelHint: PhysicalAddress?
  let features: DeviceInfo.Features
  private let digests: Digests
  /// Whether the device can have the host's CPUs stand still (``HostPause``).
  public var canPause: Bool { features.contains(.pause) }

  /// Asks the device what it sees.
  ///
  /// - Throws: ``SessionError`` where it does not answer.
  public init(session: Session) throws(SessionError) {
    let info = try session.info()
    self.session = session
    segments = info.segments
    kernelHint = info.kernelHint
    features = info.features
    digests = Digests(session: session, largest: info.mostDigested)
  }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    do throws(SessionError) {
      try Gather(session: session, format: nil).read(&batch, within: nil) { .physical($0) }
    } catch {
      batch.fail(MemoryFault(.physical(batch.entries.first?.address ?? PhysicalAddress(0)), Self.reason(error)))
    }
  }

  public func read(_ batch: inout ReadBatch<MemoryLocation>, format: PageTableFormat) {
    do throws(SessionError) {
      try session.gather(&batch, format: format)
    } catch {
      let place: MemoryFault.Place =
        switch batch.entries.first?.address {
        case .physical(let address): .physical(address)
        case .virtual(let address, _): .virtual(address)
        case nil: .physical(PhysicalAddress(0))
        }
      batch.fail(MemoryFault(place, Self.reason(error)))
    }
  }

  /// What the kernel's descriptions of page frames say, by the monitor `frames`.
  ///
  /// Nil where the device has no such monitor, the session has no right to run it, or it does not answer. Cost: a run of a monitor.
  public func frames(from first: UInt64, count: Int, arguments: [UInt64]) -> [FrameRun]? {
    guard let run = try? session.run(FrameDescriptions.monitor, arguments: [first, UInt64(count)] + arguments) else {
      return nil
    }
    return FrameDescriptions(run.result)?.runs
  }

  /// The digests of `ranges`.
  ///
  /// - Throws: ``MemoryFault`` where they cannot be read. Cost: the device computes them, if it can; then a round trip for some
  ///   MiB.
  public func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    guard features.contains(.digests) else { return try readDigests(of: ranges) }
    do {
      return try digests.ask(ranges)
    } catch let error as MemoryFault {
      throw error
    } catch {
      throw MemoryFault(.physical(ranges.first?.start ?? PhysicalAddress(0)), .sourceFailed("\(error)"))
    }
  }

  /// The digests of the pages of `ranges`, by the device where it can.
  public func digests(
    ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [[MemoryDigest?]] {
    guard features.contains(.digests) else {
      var digests: [[MemoryDigest?]] = []
      for range in ranges { digests.append(try readDigests(ofPagesIn: range, seed)) }
      return digests
    }
    do throws(SessionError) {
      return try digests.pages(of: ranges, seed)
    } catch {
      throw MemoryFault(.physical(ranges.first?.start ?? PhysicalAddress(0)), Self.reason(error))
    }
  }

  private static func reason(_ error: SessionError) -> MemoryFault.Reason { .sourceFailed(error.description) }
}
