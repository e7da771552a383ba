import CLinux
import Glibc
import Host
import Region

/// Memory that its owner hands out as a dma-buf and by no address, as a GPU's is: made of this machine's own by
/// udmabuf.
///
/// So how a network card takes such memory can be tried where there is no GPU.
final class DMABufferMemory: RegionMemory {
  let address: UInt64
  let count: Int
  let dmaBuffer: Int32?
  private let base: UInt

  struct Failure: Error, CustomStringConvertible {
    let call: String
    let code = errno
    var description: String { "no memory for a dma-buf: \(call) failed: \(SystemCall.describe(code))" }
  }

  init(count: Int) throws {
    let file = grass_memfd_create("grass-dma-buf", GRASS_MEMFD_SEALABLE)
    guard file >= 0 else { throw Failure(call: "memfd_create") }
    defer { close(file) }
    self.count = (count + 4095) / 4096 * 4096
    guard ftruncate(file, self.count) == 0 else { throw Failure(call: "ftruncate") }
    let buffer = grass_udmabuf_create(file, UInt64(self.count))
    guard buffer >= 0 else { throw Failure(call: "UDMABUF_CREATE") }
    // What the card knows it by: nothing that this process could touch is there.
    guard let address = mmap(nil, self.count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), address != MAP_FAILED,
      let base = mmap(nil, self.count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), base != MAP_FAILED
    else { throw Failure(call: "mmap") }
    self.address = UInt64(UInt(bitPattern: address))
    self.base = UInt(bitPattern: base)
    dmaBuffer = buffer
  }

  private func memory(_ offset: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: UnsafeMutableRawPointer(bitPattern: base + UInt(offset)), count: count)
  }

  func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) { memory(offset, bytes.count).copyMemory(from: bytes) }

  func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
    bytes.copyMemory(from: UnsafeRawBufferPointer(memory(offset, bytes.count)))
  }
}
