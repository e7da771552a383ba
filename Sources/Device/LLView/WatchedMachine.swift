public import CRuntime
import Devices
public import Memory
public import Paging

/// The watched memory and its kernel, as monitors' runtime sees them.
public final class WatchedMachine: @unchecked Sendable {
  // Constant once made; the memory behind the extents changes by itself and is only read.
  public let machine: UnsafePointer<grass_machine>
  private let storage: UnsafeMutablePointer<grass_machine>
  private let extents: UnsafeMutablePointer<grass_extent>
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
    let segments = memory.withSegments { $0 }
    extents = .allocate(capacity: max(1, segments.count))
    for (index, segment) in segments.enumerated() {
      (extents + index).initialize(
        to: grass_extent(
          pointer: segment.pointer.assumingMemoryBound(to: UInt8.self), start: segment.segment.start.rawValue,
          count: segment.segment.count))
    }
    storage = .allocate(capacity: 1)
    var machine = grass_machine()
    machine.extents = UnsafePointer(extents)
    machine.extent_count = UInt64(segments.count)
    KernelMapping(space, slide: slide).fill(&machine, usesLinearRanges: usesLinearRanges)
    storage.initialize(to: machine)
    self.machine = UnsafePointer(storage)
  }

  deinit {
    storage.deallocate()
    extents.deallocate()
  }
}
