public import LinuxKernel
public import Memory

/// What a process's mount namespace holds, as far as the process can reach it.
public struct MountTable: Faulted {
  /// In the order of the kernel's own list.
  public internal(set) var mounts: [MountPoint] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
