import CRegion
import Memory
import Paging

/// Cuts a batch into gather requests and puts the answers together.
struct Gather {
  let session: Session
  /// Of the page tables; nil where all is physical.
  let format: PageTableFormat?

  /// A range of one request: part of an entry.
  private struct Piece {
    var entry: Int
    /// From the entry's start, in bytes.
    var offset: Int
    var count: Int
  }

  private static let rangeSize = MemoryLayout<grass_range>.size
  private static let statusSize = MemoryLayout<grass_range_status>.size
  private static let responseSize = MemoryLayout<grass_response>.size

  func read(_ batch: inout ReadBatch<MemoryLocation>, within timeout: Duration?) throws(SessionError) {
    try read(&batch, within: timeout) { $0 }
  }

  func read<Address>(
    _ batch: inout ReadBatch<Address>, within timeout: Duration?, locate: (Address) -> MemoryLocation
  ) throws(SessionError) {
    let entries = batch.entries
    let jobs = try cut(entries.map(\.count))
    var failure: SessionError?
    batch.fillAll { buffer in
      var faults: [Int: (offset: Int, fault: MemoryFault)] = [:]
      do throws(SessionError) {
        try session.perform(jobs.count, within: timeout) { job, payload in
          let pieces = jobs[job]
          payload.storeBytes(
            of: grass_request(
              operation: GRASS_GATHER.rawValue, count: UInt32(pieces.count),
              format: format?.number ?? GRASS_PAGES_NONE.rawValue, reserved: 0),
            as: grass_request.self)
          var answer = Self.responseSize
          for (index, piece) in pieces.enumerated() {
            payload.storeBytes(
              of: range(locate(entries[piece.entry].address), piece),
              toByteOffset: MemoryLayout<grass_request>.size + index * Self.rangeSize, as: grass_range.self)
            answer += Self.statusSize + piece.count
          }
          return (MemoryLayout<grass_request>.size + pieces.count * Self.rangeSize, answer)
        } accept: { job, payload throws(SessionError) in
          let pieces = jobs[job]
          let response = try session.response(payload, to: GRASS_GATHER)
          let bytes = pieces.reduce(0) { $0 + $1.count }
          guard response.count == pieces.count,
            payload.count == Self.responseSize + pieces.count * Self.statusSize + bytes
          else { throw session.badAnswer("\(payload.count) bytes for a gather of \(bytes)") }
          var at = Self.responseSize + pieces.count * Self.statusSize
          for (index, piece) in pieces.enumerated() {
            let status = payload.loadUnaligned(
              fromByteOffset: Self.responseSize + index * Self.statusSize, as: grass_range_status.self)
            if status.fault == GRASS_FAULT_NONE.rawValue {
              let start = entries[piece.entry].offset + piece.offset
              UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + piece.count])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: payload[at..<at + piece.count]))
            } else if faults[piece.entry].map({ piece.offset < $0.offset }) ?? true {
              faults[piece.entry] = (piece.offset, try fault(status))
            }
            at += piece.count
          }
        }
      } catch {
        failure = error
      }
      return faults.mapValues(\.fault)
    }
    if let failure { throw failure }
  }

  /// Cuts entries into pieces and spreads them over requests, so that those of one wave are about equally long.
  private func cut(_ counts: [Int]) throws(SessionError) -> [[Piece]] {
    let total = counts.reduce(0, +) + (counts.count + session.slotCount) * Self.statusSize
    let share = total / session.slotCount + Self.responseSize + Self.statusSize + 1
    let answerLimit = min(session.pieceSize(share: share), session.responseCapacity)
    let rangeLimit = (session.requestCapacity - MemoryLayout<grass_request>.size) / Self.rangeSize
    let overhead = Self.responseSize + Self.statusSize
    guard rangeLimit > 0, answerLimit > overhead else { throw SessionError(session.host, .tooLarge) }
    var jobs: [[Piece]] = []
    var job: [Piece] = []
    var answer = Self.responseSize
    for (entry, count) in counts.enumerated() {
      var done = 0
      while done < count {
        if job.count == rangeLimit || answer + Self.statusSize >= answerLimit {
          jobs.append(job)
          job = []
          answer = Self.responseSize
        }
        let length = min(count - done, answerLimit - answer - Self.statusSize)
        job.append(Piece(entry: entry, offset: done, count: length))
        answer += Self.statusSize + length
        done += length
      }
    }
    if !job.isEmpty { jobs.append(job) }
    return jobs
  }

  private func range(_ location: MemoryLocation, _ piece: Piece) -> grass_range {
    switch location {
    case .physical(let address):
      grass_range(address: (address + piece.offset).rawValue, root: 0, length: UInt32(piece.count), flags: 0)
    case .virtual(let address, let root):
      grass_range(
        address: (address + piece.offset).rawValue, root: root.rawValue, length: UInt32(piece.count),
        flags: GRASS_RANGE_VIRTUAL)
    }
  }

  private func fault(_ status: grass_range_status) throws(SessionError) -> MemoryFault {
    guard let reason = MemoryFault.Reason(code: status.fault, level: Int(status.level), entry: status.entry) else {
      throw session.badAnswer("a range failed with code \(status.fault)")
    }
    switch reason {
    case .absent, .sourceFailed: return MemoryFault(.physical(PhysicalAddress(status.address)), reason)
    default: return MemoryFault(.virtual(VirtualAddress(status.address)), reason)
    }
  }
}
