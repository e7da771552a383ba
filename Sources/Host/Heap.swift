import CLinux

/// The C library's memory.
package enum Heap {
  /// Has memory that is freed stay in this process, up to 1 GiB.
  ///
  /// For who takes and frees pieces of some MiB again and again: else each page of each is asked of the kernel anew.
  package static func keepFreed() { grass_keep_freed_memory() }

  /// Has memory that is freed go back to the system as soon as it can: large pieces at once, and few heaps for all threads.
  ///
  /// For a service that runs for months: else each of its threads keeps the most that it ever used.
  package static func returnFreed() { grass_return_freed_memory() }

  /// Gives back pages that are free between others that are in use.
  ///
  /// Cost: a look at all that is free, some milliseconds.
  package static func trim() { grass_trim_memory() }
}
