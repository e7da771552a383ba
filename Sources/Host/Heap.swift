import CLinux

/// The C library's memory.
package enum Heap {
  /// Has memory that is freed stay in this process, up to 1 GiB.
  ///
  /// For who takes and frees pieces of some MiB again and again: else each page of each is asked of the kernel anew.
  package static func keepFreed() { grass_keep_freed_memory() }
}
