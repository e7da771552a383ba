/// What a page of physical memory is used for, and so who put there what lies in it.
public enum PageOwner: Hashable, Sendable {
  /// The kernel's own code, with the symbol that the place belongs to.
  case kernelText(symbol: String?)
  /// The rest of the kernel's image.
  case kernelData(symbol: String?)
  /// Small objects of the kernel, of the cache of this name.
  case slab(cache: [UInt8])
  /// A page of a file: its file system's name, its inode number, and its own name, empty where no entry is cached.
  case file(device: [UInt8], inode: UInt64, name: [UInt8])
  /// Memory of processes that belongs to no file.
  case anonymous
  case free
  /// Memory that the kernel keeps from its allocators.
  case reserved
  /// Whatever else: page tables, stacks, buffers of drivers.
  case kernel
  /// The page's description could not be read.
  case unknown
}
