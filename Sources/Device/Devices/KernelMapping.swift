public import CRuntime
import Memory
public import Paging

/// How a watched kernel maps its memory: what monitors need to follow its addresses.
public struct KernelMapping: Hashable, Sendable {
  private let root: UInt64
  private let format: UInt32
  private let slide: UInt64
  private let ranges: [AddressSpace.LinearRange]

  /// The mapping that `space` has, with the `slide` that the kernel added to its image's addresses when it booted.
  public init(_ space: AddressSpace, slide: UInt64) {
    root = space.upperRoot.rawValue
    format = space.format.number
    ranges = space.linearRanges
    self.slide = slide
  }

  /// Fills in all but where the memory lies.
  ///
  /// - Parameters:
  ///   - machine: what a device tells its monitors of the watched machine.
  ///   - usesLinearRanges: whether the ranges that the kernel maps linearly are translated by an addition; otherwise by
  ///     walking.
  public func fill(_ machine: inout grass_machine, usesLinearRanges: Bool = true) {
    machine.root = root
    machine.format = UInt64(format)
    machine.slide = slide
    for range in usesLinearRanges ? ranges : [] {
      if range.physical.rawValue == 0 {
        machine.direct_start = range.start.rawValue
        machine.direct_count = range.count
      } else {
        machine.image_start = range.start.rawValue
        machine.image_count = range.count
        machine.image_physical = range.physical.rawValue
      }
    }
  }
}
