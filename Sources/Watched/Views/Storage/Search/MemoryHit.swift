import KernelInfo
public import LinuxKernel
public import Memory

/// A place in physical memory that a search found, and what lies there.
public struct MemoryHit: Sendable {
  public var address: PhysicalAddress
  public var owner: PageOwner
}

/// What a search found.
public struct MemoryHits: Sendable {
  public var hits: [MemoryHit] = []
  /// Whether there are more than were asked for.
  public var isCut = false
  /// The bytes that were looked at.
  public var searched: UInt64 = 0
  /// Parts of the memory that could not be read.
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// Every place where `pattern` lies in physical memory, at most `limit` of them.
  ///
  /// Cost: all of the memory is read once; the owners are some round trips more.
  public func search(_ pattern: [UInt8], limit: Int = 10_000) throws(KernelError) -> MemoryHits {
    let owners = try reader(PageOwnerReader.self)
    var found = MemoryHits()
    var places: [PhysicalAddress] = []
    let literal = LiteralSearch(pattern)
    MemoryScan(memory: memory, overlap: max(0, pattern.count - 1)).forEachPiece { start, bytes, count in
      var offset = 0
      while let place = literal.first(in: bytes, from: offset, before: count) {
        guard places.count < limit else {
          found.isCut = true
          return false
        }
        places.append(start + place)
        offset = place + 1
      }
      found.searched &+= UInt64(count)
      return true
    } failed: {
      found.faults.append($0)
    }
    found.hits = zip(places, owners.owners(of: places, in: addressSpace)).map { MemoryHit(address: $0, owner: $1) }
    return found
  }
}
