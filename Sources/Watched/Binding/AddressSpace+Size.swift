import Memory
package import Paging

extension AddressSpace {
  /// The bytes of all memory there is: what bounds how many structs of some size there can be.
  package var memorySize: UInt64 { memory.segments.reduce(0 as UInt64) { $0 &+ $1.count } }

  /// How many structs of `size` bytes the memory holds at most.
  package func mostObjects(ofSize size: Int) -> Int { Int(clamping: memorySize / UInt64(max(size, 1))) }
}
