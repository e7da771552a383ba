import Memory
import Testing

@testable import Shadow

@Suite struct CoreFileTests {
  /// Two runs of a page each: two gigabytes apart in the memory, side by side in the file.
  @Test func laysOutRunsBehindTheNotes() throws {
    let (head, pieces) = try CoreFile.layout(
      [(0, 4096), (0x8000_0000, 4096)], information: Array("OSRELEASE=6\n".utf8), directMap: 0xffff_8880_0000_0000)
    #expect(head.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]))
    // Three program headers of 56 bytes each; the first is for notes (4), the others for memory (1).
    #expect(head[56] == 3 && head[64] == 4 && head[64 + 56] == 1 && head[64 + 112] == 1)
    #expect(pieces.map(\.offset) == [4096, 8192])
    #expect(pieces.map(\.start) == [0, 0x8000_0000])
    #expect(Array(head[232 + 12..<232 + 22]) == Array("VMCOREINFO".utf8))
  }

  @Test func readsAcrossHeadAndPieces() throws {
    var memory = SyntheticMemory([UInt8](repeating: 1, count: 4096), at: PhysicalAddress(0x1000))
    memory.add([UInt8](repeating: 2, count: 4096), at: PhysicalAddress(0x9000))
    let contents = ShadowContents.core(
      [7, 8, 9],
      [.init(offset: 4096, start: 0x1000, count: 4096), .init(offset: 8192, start: 0x9000, count: 4096)], memory)
    // What lies between the head and the first run is zeros.
    #expect(try contents.read(from: 0, count: 5) == [7, 8, 9, 0, 0])
    #expect(try contents.read(from: 4094, count: 4) == [0, 0, 1, 1])
    #expect(try contents.read(from: 8191, count: 3) == [1, 2, 2])
    #expect(try contents.read(from: 12287, count: 10) == [2])
    #expect(try contents.read(from: 12288, count: 10).isEmpty)
  }
}
