import KernelInfo
import Testing

@testable import Detection

/// Texts that come in pieces, and what is kept of them.
struct TextLookTests {
  private static let start: UInt64 = 0xffff_ffff_8100_0000

  /// A text of instructions that lead anywhere, breakpoints and nonsense, in functions of any length, with its functions and places.
  private func text(_ seed: UInt64) -> (bytes: [UInt8], functions: [UInt32], places: [UInt32]) {
    var state = seed | 1
    func random(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % count
    }
    let pieces: [[UInt8]] = [
      [0xf3, 0x0f, 0x1e, 0xfa], [0x0f, 0x1f, 0x44, 0x00, 0x00], [0xe8, 0, 0, 0, 0x40], [0xe9, 1, 2, 3, 0x41], [0xcc],
      [0x55], [0xc3], [0x31, 0xc0], [0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], [0x0f, 0x84, 0, 0, 0, 0x60], [0x90],
    ]
    var (bytes, functions, places): ([UInt8], [UInt32], [UInt32]) = ([], [], [])
    if random(2) == 0 { bytes = [0x90, 0x90, 0x90] }
    while bytes.count < 6000 {
      functions.append(UInt32(bytes.count))
      if random(3) > 0 { places.append(UInt32(bytes.count + random(6))) }
      for _ in 0..<1 + random(random(8) == 0 ? 200 : 20) { bytes += pieces[random(pieces.count)] }
    }
    return (bytes, functions, places.sorted())
  }

  /// Whatever the pieces, the same is said as of the whole.
  @Test(arguments: 1...20 as ClosedRange<UInt64>) func piecesAreLookedThroughAsTheWholeIs(_ seed: UInt64) {
    let (bytes, functions, places) = text(seed)
    let range = Self.start..<Self.start + UInt64(bytes.count)
    func look(_ size: Int) -> KernelText {
      var look = TextLook(at: range, image: range, functions, places, most: 1 << 17)
      for from in stride(from: 0, to: bytes.count, by: size) {
        look.add(Array(bytes[from..<min(from + size, bytes.count)]))
      }
      return look.answer
    }
    let whole = look(bytes.count)
    #expect(whole.remarks.count > 100 && whole.faults.isEmpty && whole.functions == functions.count)
    for size in [1, 7, 64, 1000, 4096] {
      let answer = look(size)
      #expect(answer.remarks == whole.remarks && answer.undecoded == whole.undecoded, "in pieces of \(size)")
    }
  }

  /// More than is kept is said, and kept as far as it may be; also where the pieces are small.
  @Test func tooMuchIsSaid() {
    let (bytes, functions, places) = text(3)
    let range = Self.start..<Self.start + UInt64(bytes.count)
    for size in [500, bytes.count] {
      var look = TextLook(at: range, image: range, functions, places, most: 50)
      for from in stride(from: 0, to: bytes.count, by: size) {
        look.add(Array(bytes[from..<min(from + size, bytes.count)]))
      }
      #expect(look.answer.remarks.count == 50 && look.answer.faults.count == 1)
    }
  }

  @Test func whatIsPackedIsTheSameUnpacked() {
    let (bytes, functions, places) = text(5)
    let range = Self.start..<Self.start + UInt64(bytes.count)
    var look = TextLook(at: range, image: range, functions, places, most: 1 << 17)
    look.add(bytes)
    let packed = PackedText(look.answer, at: Self.start)
    let unpacked = packed.unpacked(at: Self.start)
    #expect(packed.count == look.answer.remarks.count && unpacked.remarks == look.answer.remarks)
    #expect(unpacked.functions == look.answer.functions && unpacked.undecoded == look.answer.undecoded)
  }
}
