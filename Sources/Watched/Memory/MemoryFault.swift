import CLayouts

/// Why bytes of the watched memory could not be had.
public struct MemoryFault: Error, Hashable, Sendable {
  /// What was asked for.
  public enum Place: Hashable, Sendable {
    case physical(PhysicalAddress)
    case virtual(VirtualAddress)
    /// An offset into bytes that were read before.
    case offset(Int)
  }

  public enum Reason: Hashable, Sendable {
    /// No segment of the source holds the address.
    case absent
    /// The address has its upper bits neither all clear nor all set as the paging depth demands.
    case notCanonical
    /// A page-table entry on the way has its present bit clear. Level 1 is the page table, 4 or 5 the root.
    case notPresent(level: Int, entry: UInt64)
    /// A page-table entry has bits set that its level does not allow, or lies outside the memory.
    case badEntry(level: Int, entry: UInt64)
    /// A parser asked for `size` bytes of a buffer that ends at `count`.
    case outOfBounds(size: Int, count: Int)
    /// More bytes were asked for than a batch had room for; empty, it holds ``ReadBatch/byteLimit``.
    case tooLarge(size: Int, room: Int)
    /// What was read there contradicts what led there, or itself: a node that is its own child, a record of another id.
    case inconsistent(String)
    /// The source itself failed: a file that shrank, a link that ended.
    case sourceFailed(String)
  }

  public var place: Place
  public var reason: Reason

  public init(_ place: Place, _ reason: Reason) {
    self.place = place
    self.reason = reason
  }
}

extension MemoryFault {
  /// Whether the memory itself is gone, and not only what lies at an address.
  package var isOfSource: Bool { if case .sourceFailed = reason { true } else { false } }
}

extension MemoryFault.Reason {
  /// What a device says: one of `enum grass_fault` that concerns memory, else nil.
  package init?(code: UInt32, level: Int, entry: UInt64) {
    switch code {
    case GRASS_FAULT_ABSENT.rawValue: self = .absent
    case GRASS_FAULT_NOT_CANONICAL.rawValue: self = .notCanonical
    case GRASS_FAULT_NOT_PRESENT.rawValue: self = .notPresent(level: level, entry: entry)
    case GRASS_FAULT_BAD_ENTRY.rawValue: self = .badEntry(level: level, entry: entry)
    case GRASS_FAULT_LOST.rawValue: self = .sourceFailed("the monitored side lost the memory's file")
    default: return nil
    }
  }
}

extension MemoryFault: CustomStringConvertible {
  public var description: String {
    let place =
      switch place {
      case .physical(let address): "physical address \(address)"
      case .virtual(let address): "virtual address \(address)"
      case .offset(let offset): "offset \(offset)"
      }
    return "\(place) \(reason)"
  }
}

extension MemoryFault.Reason: CustomStringConvertible {
  /// What follows the name of the place.
  public var description: String {
    switch self {
    case .absent: "is not in the memory that was given"
    case .notCanonical: "is not canonical"
    case .notPresent(let level, let entry):
      "is not mapped: the level \(level) page-table entry is 0x\(String(entry, radix: 16))"
    case .badEntry(let level, let entry):
      "has an impossible level \(level) page-table entry, 0x\(String(entry, radix: 16))"
    case .outOfBounds(let size, let count): "with \(size) bytes lies outside the \(count) bytes that were read"
    case .tooLarge(let size, let room):
      "with \(size) bytes is too much to read at once: the batch has room for \(room) of at most "
        + "\(ReadBatch<PhysicalAddress>.byteLimit) bytes"
    case .inconsistent(let what): "does not hold what leads there: \(what)"
    case .sourceFailed(let why): "could not be read: \(why)"
    }
  }
}
