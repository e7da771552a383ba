import Binding
public import LinuxKernel
public import Memory

/// One cache of the kernel's allocator of small objects.
public struct SlabCache: Sendable {
  /// The address of its `kmem_cache`.
  public var address: VirtualAddress
  /// Its name: any bytes but zero.
  public var name: [UInt8]
  /// Bytes of an object as its user asked for it.
  public var objectSize: Int
  /// Bytes that an object takes in its slab, padding and debugging included.
  public var size: Int
  public var objectsPerSlab: Int
  /// Pages of 4 KiB.
  public var pagesPerSlab: Int
  /// Objects in use. As in /proc/slabinfo, those that a CPU keeps at hand count as in use.
  public var activeObjects: UInt64
  public var objects: UInt64
  public var slabs: UInt64

  /// Bytes of memory that it takes.
  public var bytes: UInt64 { slabs &* UInt64(pagesPerSlab) &* 4096 }
}

/// The slab caches of a host, and what could not be read of them.
public struct SlabTable: Faulted {
  /// In the order of the kernel's list, the newest cache first.
  public var caches: [SlabCache] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The slab caches.
  ///
  /// Cost: a few dozen round trips where the memory is remote, since caches and their slabs lie in lists.
  public func slabs() throws(KernelError) -> SlabTable { try read(SlabReader.self) }
}
