import KernelViews
import Memory
import Samples
import Synchronization

/// A small Linux whose memory each input changes and leaves as it was, opened once.
///
/// An input is a list of changes: `u8 area, u16 offset, u8 length, bytes`. Area and offset are taken modulo what there
/// is, so that every input means something. What is read of the memory is counted: no input may cost without bounds.
final class LinuxOverlay: PhysicalMemory {
  /// A range of physical memory that inputs may change.
  struct Area: Sendable {
    var start: Int
    var count: Int

    /// Memory at one of the kernel's virtual addresses.
    init(_ address: UInt64, _ count: Int) {
      start = Int(SyntheticLinux.physical(address).rawValue)
      self.count = count
    }

    init(physical: Int, _ count: Int) {
      start = physical
      self.count = count
    }
  }

  private struct State {
    var bytes: [UInt8]
    var batches = 0
    var bytesRead = 0
  }

  private let areas: [Area]
  private let state: Mutex<State>
  let segments: [MemorySegment]

  init(_ linux: SyntheticLinux, areas: [Area]) {
    segments = linux.memory.segments
    self.areas = areas
    let whole = try? linux.memory.read(PhysicalAddress(0), count: SyntheticKernel.size)
    guard let whole else { fatalError("the synthetic memory cannot be read") }
    state = Mutex(State(bytes: whole))
  }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    state.withLock { state in
      state.batches += 1
      state.bytesRead += batch.byteCount
      batch.fill { (address, target) throws(MemoryFault) in
        guard segments[0].contains(address, count: target.count) else {
          throw MemoryFault(.physical(address), .absent)
        }
        let start = Int(address.rawValue)
        target.copyBytes(from: state.bytes[start..<start + target.count])
      }
    }
  }

  /// Runs `body` on the memory that `input` makes of it.
  func with(_ input: [UInt8], batches: Int, bytes: Int, _ body: () -> Void) {
    var changes: [(start: Int, old: [UInt8])] = []
    state.withLock { state in
      (state.batches, state.bytesRead) = (0, 0)
      var rest = FuzzInput(input)
      while !rest.isEmpty {
        let area = areas[Int(rest.next(UInt8.self)) % areas.count]
        let offset = Int(rest.next(UInt16.self)) % area.count
        let wanted = Int(rest.next(UInt8.self)) % 65
        let new = rest.bytes(min(wanted, area.count - offset))
        let range = area.start + offset..<area.start + offset + new.count
        changes.append((range.lowerBound, Array(state.bytes[range])))
        state.bytes.replaceSubrange(range, with: new)
      }
    }
    body()
    state.withLock { state in
      for change in changes.reversed() {
        state.bytes.replaceSubrange(change.start..<change.start + change.old.count, with: change.old)
      }
      require(state.batches <= batches, "\(state.batches) batches were read")
      require(state.bytesRead <= bytes, "\(state.bytesRead) bytes were read")
    }
  }

  /// One change, as an input has it.
  static func change(_ area: UInt8, _ offset: UInt64, _ bytes: [UInt8]) -> [UInt8] {
    [area, UInt8(truncatingIfNeeded: offset), UInt8(truncatingIfNeeded: offset >> 8), UInt8(bytes.count)] + bytes
  }

  /// The kernel in a memory that no input has changed yet.
  func openKernel() -> Kernel {
    do {
      return try Kernel(memory: self)
    } catch {
      fatalError("\(error)")
    }
  }
}
