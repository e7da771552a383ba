import CLinux
import Glibc
public import Memory

/// A kernel's own file, as a vendor's package has it, as physical memory: what a boot of it starts from.
///
/// In it lie the symbols and types of the build, where they are linked to lie; nothing in it has run.
public enum KernelFile {
  /// Opens a bzImage (`vmlinuz`) or an uncompressed kernel (`vmlinux`) as the memory that a loader would make of it.
  ///
  /// - Throws: ``KernelFileError`` where a bzImage cannot be unpacked, ``MemoryImageError`` where the file is no kernel. Cost: the
  ///   kernel is unpacked into memory, some 60 MB, in about half a second.
  public static func open(_ path: String) throws -> FileMemory {
    guard let payload = try Payload(ofFileAt: path) else {
      guard let memory = try MemoryImage.open(path).first, memory.isKernelFile else {
        throw KernelFileError(path, "it is neither a bzImage nor a vmlinux; give the vendor's vmlinuz of the build")
      }
      return memory
    }
    let kernel = try payload.unpacked(path)
    // A file without a name: it is gone with the last who maps it.
    let descriptor = grass_memfd_create("grass-kernel", GRASS_MEMFD_PLAIN)
    guard descriptor >= 0 else { throw KernelFileError(path, "memfd_create: \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    let isWritten = kernel.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        let count = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return false }
        done += count
      }
      return true
    }
    guard isWritten else {
      throw KernelFileError(path, "there is no room to unpack it: \(String(cString: strerror(errno)))")
    }
    guard let memory = try MemoryImage.open("/proc/self/fd/\(descriptor)").first, memory.isKernelFile else {
      throw KernelFileError(path, "what it unpacks to is no kernel")
    }
    return memory
  }
}

/// Why a kernel's file cannot be used.
public struct KernelFileError: Error, Hashable, CustomStringConvertible {
  public let path: String
  public let reason: String

  init(_ path: String, _ reason: String) { (self.path, self.reason) = (path, reason) }

  public var description: String { "cannot use \(path) as a kernel: \(reason)" }
}
