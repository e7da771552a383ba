import Memory
import Samples
import Testing

@testable import HookViews

/// The switch by which recent kernels find system calls, in machine code.
struct SystemCallSwitchTests {
  private static let start = VirtualAddress(0xffff_ffff_8100_0000)

  /// Zero leads to 0x1000 behind the start, five to 0x5000, more to 0xf000; what lies between to no code of a switch.
  private func code(tracer: [UInt8] = [0x0f, 0x1f, 0x44, 0, 0]) -> [UInt8] {
    [0xf3, 0x0f, 0x1e, 0xfa] + tracer
      + [0x83, 0xfe, 5]  // 9: cmp $5, %esi
      + [0x74, 11]  // 12: je 25
      + [0x77, 14]  // 14: ja 30
      + [0x85, 0xf6]  // 16: test %esi, %esi
      + [0x0f, 0x84, 11, 0, 0, 0]  // 18: je 35
      + [0xcc]  // 24: int3
      + [0xe9] + bytes(Int32(0x5000 - 30))
      + [0xe9] + bytes(Int32(0xf000 - 35))
      + [0xe9] + bytes(Int32(0x1000 - 40))
  }

  private func function(of number: UInt32, _ code: [UInt8]) throws -> UInt64 {
    try SystemCallSwitch(start: Self.start, bytes: code).function(of: number).distance(from: Self.start)
  }

  @Test func callsLeadThroughTheComparisons() throws {
    for (number, distance) in [(0, 0x1000), (5, 0x5000), (6, 0xf000), (.max, 0xf000)] as [(UInt32, UInt64)] {
      #expect(try function(of: number, code()) == distance)
      // As traced: the call of the tracer is no way of the switch's.
      #expect(try function(of: number, code(tracer: [0xe8, 1, 2, 3, 0])) == distance)
    }
    // As sealed where nobody calls it indirectly.
    for seal in [[0x66, 0x0f, 0x1f, 0], [0x0f, 0x1f, 0x40, 0xd6]] as [[UInt8]] {
      #expect(try function(of: 5, seal + code().dropFirst(4)) == 0x5000)
    }
    let traced = SystemCallSwitch(start: Self.start, bytes: code(tracer: [0xe8, 0xf7, 0x0f, 0, 0]))
    #expect(try traced.tracer() == Self.start + 0x1000)
    #expect(try SystemCallSwitch(start: Self.start, bytes: code()).tracer() == nil)
  }

  @Test func codeOfNoSwitchIsSaidSo() {
    #expect(throws: MemoryFault.self) { try function(of: 3, code()) }
    var looping = code()
    looping.replaceSubrange(24..<25, with: [0xeb])
    looping[25] = 0xf3  // jmp to itself and a little before, again and again
    #expect(throws: MemoryFault.self) { try function(of: 3, looping) }
    // Before the jump that zero takes.
    for length in 0..<24 {
      #expect(throws: MemoryFault.self) { try function(of: 0, Array(code().prefix(length))) }
    }
  }

  /// A detour at the start catches every call.
  @Test func detoursAreFollowed() throws {
    let detour = [0xe9] + bytes(Int32(0x7000_0000 - 5))
    #expect(try function(of: 5, detour + code().dropFirst(5)) == 0x7000_0000)
  }

  @Test(arguments: 0..<1000) func noiseEnds(seed: UInt64) {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    let noise = (0..<256).map { _ -> UInt8 in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 56)
    }
    // Jumps to anywhere, or a fault: both are answers.
    _ = try? SystemCallSwitch(start: Self.start, bytes: noise).function(of: UInt32(truncatingIfNeeded: seed))
  }
}
