import CMailbox
import CRegion
import CUDA
import Glibc

/// A page of host memory for the host's word to a GPU, for what is handed to its detectors, and the GPU's answer to its test.
final class PinnedPages: @unchecked Sendable {
  // Words in it are read and written atomically.
  let base: UnsafeMutableRawPointer
  let deviceAddress: UInt64
  /// Where the canary's answer lies.
  let answer = 1024
  /// Where what is handed over lies, to the page's end at most.
  let inbox = 2048
  private var view: RegisteredMemory?

  static let size = 4096

  /// `count` bytes at least; those of the places above are one page.
  init(_ context: GPUContext, count: Int = size) throws(CUDAError) {
    let count = (count + Self.size - 1) / Self.size * Self.size
    let base = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: Self.size)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    do throws(CUDAError) {
      let view = try RegisteredMemory(
        context, UnsafeRawBufferPointer(start: base, count: count), isReadOnly: false)
      deviceAddress = view.parts[0].device
      self.view = consume view
    } catch {
      base.deallocate()
      throw error
    }
    self.base = base
  }

  deinit {
    view = nil
    base.deallocate()
  }
}

/// A word in shared memory that changes through one mapping while a GPU watches another: what a guest's RAM is.
final class Canary {
  private let writable: UnsafeMutableRawPointer
  private let readable: UnsafeMutableRawPointer
  /// Where the GPU sees the word.
  let watched: UInt64
  private var view: RegisteredMemory?

  init(_ context: GPUContext, isReadOnly: Bool) throws(CUDAError) {
    let size = PinnedPages.size
    var template = Array("/dev/shm/grass-XXXXXX".utf8CString)
    let file = mkstemp(&template)
    unlink(&template)
    defer { if file >= 0 { close(file) } }
    guard file >= 0, ftruncate(file, size) == 0,
      let writable = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), writable != MAP_FAILED,
      let readable = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), readable != MAP_FAILED
    else { throw CUDAError(.program("no shared page for its test: \(String(cString: strerror(errno)))")) }
    self.writable = writable
    self.readable = readable
    let view = try RegisteredMemory(
      context, UnsafeRawBufferPointer(start: readable, count: size), isReadOnly: isReadOnly)
    watched = view.parts[0].device
    self.view = consume view
  }

  deinit {
    view = nil
    munmap(writable, PinnedPages.size)
    munmap(readable, PinnedPages.size)
  }

  func change(to value: UInt64) { grass_store(writable, value) }

  /// Where the word lies in this machine's memory, its page being pinned; nil where Linux does not say, as it does only
  /// to root.
  var physicalAddress: UInt64? {
    let file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let page = UInt64(UInt(bitPattern: readable)) / UInt64(PinnedPages.size)
    _ = grass_load(readable)
    var entry: UInt64 = 0
    guard pread(file, &entry, 8, Int(page) * 8) == 8, entry >> 63 == 1 else { return nil }
    // Documentation/admin-guide/mm/pagemap.rst: bits 0 to 54 are the page's number, zero for all but root.
    let number = entry & ((1 << 55) - 1)
    return number == 0 ? nil : number * UInt64(PinnedPages.size)
  }
}
