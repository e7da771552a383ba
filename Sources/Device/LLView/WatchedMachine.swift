public import CRuntime
import Devices
public import Memory
public import Paging

/// The watched memory and its kernel, as monitors' runtime sees them.
public final class WatchedMachine: @unchecked Sendable {
  // Constant once made; the memory behind the segments changes by itself and is only read.
  public let machine: UnsafePointer<grass_machine>
  private let storage: UnsafeMutablePointer<grass_machine>
  private let segments: UnsafeMutableBufferPointer<grass_mapped_segment>
  private let owner: AnyObject

  /// Describes a machine to monitors.
  ///
  /// - Parameters:
  ///   - memory: its physical memory.
  ///   - space: its kernel's addresses.
  ///   - slide: what the kernel added to its image's addresses when it booted.
  ///   - usesLinearRanges: whether the proven ranges of `space` are translated by an addition; otherwise by walking.
  public init(
    _ memory: FileMemory, space: AddressSpace, slide: UInt64, usesLinearRanges: Bool = true
  ) {
    owner = memory
    let mapped = memory.mappedSegments.map(\.raw)
    segments = .allocate(capacity: mapped.count)
    _ = segments.initialize(from: mapped)
    storage = .allocate(capacity: 1)
    var machine = grass_machine()
    machine.segments = UnsafePointer(segments.baseAddress)
    machine.segment_count = UInt64(segments.count)
    KernelMapping(space, slide: slide).fill(&machine, usesLinearRanges: usesLinearRanges)
    storage.initialize(to: machine)
    self.machine = UnsafePointer(storage)
  }

  deinit {
    storage.deallocate()
    segments.deallocate()
  }
}
