import CUDA
import Glibc
import Testing

/// What a driver that is loaded into this process hears of the machine's memory.
struct HostMemoryTests {
  /// `struct sysinfo` of 64-bit Linux, which Swift's importer does not see: where its members lie.
  private static let (totalRAM, totalSwap, unit, size) = (32, 64, 104, 112)

  @Test("sysinfo, as a loaded library finds it, adds what was allowed and nothing else")
  func sysinfoAddsWhatWasAllowed() throws {
    typealias Call = @convention(c) (UnsafeMutableRawPointer) -> Int32
    let found = try #require(dlsym(nil, "sysinfo"))
    let sysinfo = unsafeBitCast(found, to: Call.self)
    let (before, after) = (
      UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: 8),
      UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: 8)
    )
    defer {
      before.deallocate()
      after.deallocate()
    }
    #expect(sysinfo(before) == 0)
    GPU.allowHostMemory(beyondReported: 1 << 40)
    defer { GPU.allowHostMemory(beyondReported: 0) }
    #expect(sysinfo(after) == 0)
    func number(_ memory: UnsafeMutableRawPointer, _ offset: Int) -> UInt64 {
      memory.load(fromByteOffset: offset, as: UInt64.self)
    }
    let unit = UInt64(after.load(fromByteOffset: Self.unit, as: UInt32.self))
    #expect(number(before, Self.totalRAM) > 0)
    #expect(number(after, Self.totalRAM) - number(before, Self.totalRAM) == (1 << 40) / unit)
    #expect(number(after, Self.totalSwap) == number(before, Self.totalSwap))
  }
}
