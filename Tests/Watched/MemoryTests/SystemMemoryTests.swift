import Testing

@testable import Memory

@Suite struct SystemMemoryTests {
  @Test func ramIsWhatTheMapCallsSystemRAM() {
    let map = """
      00000000-00000fff : Reserved
      00001000-0009fbff : System RAM
      0009fc00-0009ffff : Reserved
      00100000-7ffd9fff : System RAM
        01000000-01c02026 : Kernel code
        02000000-02ffffff : System RAM
      fed1c000-fed1ffff : Reserved
      100000000-17fffffff : System RAM
      """
    #expect(
      SystemMemory.ranges(in: map) == [0x1000..<0x9f000, 0x10_0000..<0x7ffd_a000, 0x1_0000_0000..<0x1_8000_0000])
  }

  /// What all but root see, and what is no such map.
  @Test(arguments: [
    "", "00000000-00000000 : System RAM\n", "x : System RAM", "-1 : System RAM", "5-3 : System RAM",
    "0-ffffffffffffffffffff : System RAM", "1000-7fffffffffffffff : System RAM", "00000001-00000ffe : System RAM",
  ])
  func hasNoRangesOtherwise(_ map: String) { #expect(SystemMemory.ranges(in: map).isEmpty) }

  @Test func devicesThatAreNoMemoryAreRefused() throws {
    let error = try #require(throws: MemoryImageError.self) { _ = try MemoryImage.open("/dev/null") }
    guard case .unsupported = error.reason else {
      Issue.record("\(error)")
      return
    }
    #expect(SystemMemory.daxSize(of: 0) == nil)
  }
}
