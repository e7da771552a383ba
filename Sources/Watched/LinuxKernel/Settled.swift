import KernelInfo
package import Memory
import Paging
import Synchronization

/// How often views in this process read again because something was torn.
///
/// For tests that say how often that is.
package enum TornReads {
  private static let count = Atomic<Int>(0)

  package static var retries: Int { count.load(ordering: .relaxed) }
  package static func add(_ more: Int = 1) { _ = count.add(more, ordering: .relaxed) }
}

/// Reads again where something was torn: on a live host it is whole the next time, in an image it is damage or deceit.
///
/// What has very many faults is broken rather than torn, and each attempt at it may take seconds: it is read once.
///
/// - Returns: the attempt with the fewest faults of three at most; the first where it has none.
package func settled<Result>(
  _ faults: (Result) -> [MemoryFault], _ attempt: () throws(KernelError) -> Result
) throws(KernelError) -> Result {
  var best = try attempt()
  for _ in 0..<2 where (1..<10_000).contains(faults(best).count) {
    TornReads.add()
    let next = try attempt()
    if faults(next).count <= faults(best).count { best = next }
  }
  return best
}
