import Memory

/// How a kernel without a table finds the function of a system call: `x64_sys_call`, a switch of which compilers make a tree of
/// comparisons.
///
/// Only what compilers make of it is followed. Source: arch/x86/entry/syscall_64.c since 6.9 (1e3ad78334a6), which later
/// releases of older kernels have, too.
struct SystemCallSwitch: Sendable {
  let start: VirtualAddress
  let bytes: [UInt8]

  /// More instructions than lie on the way to any function: the tree is about ten comparisons deep.
  private static let mostSteps = 200

  /// endbr64, and what kernels with indirect branch tracking put over it where nobody calls indirectly: the two forms of
  /// `gen_endbr_poison` (arch/x86/include/asm/ibt.h).
  private static let landings: Set<UInt32> = [0xfa1e_0ff3, 0x001f_0f66, 0xd640_1f0f]

  /// Where the call of a tracer at its start leads to; nil where nothing is traced.
  func tracer() throws(MemoryFault) -> VirtualAddress? {
    let code = ByteReader(bytes.span.bytes)
    let place = Self.landings.contains(try code.u32(0)) ? 4 : 0
    return try code.u8(place) == 0xe8 ? start + place + 5 + Int(try code.load(place + 1, as: Int32.self)) : nil
  }

  /// The function of system call `number`.
  ///
  /// - Throws: ``MemoryFault`` at the instruction that no such switch has.
  func function(of number: UInt32) throws(MemoryFault) -> VirtualAddress {
    let code = ByteReader(bytes.span.bytes)
    var place = Self.landings.contains(try code.u32(0)) ? 4 : 0
    // What the number was last compared with.
    var other: UInt32 = 0
    for step in 0..<Self.mostSteps {
      var target: Int?
      switch try (code.u8(place), code.u8(place + 1)) {
      // The place for a tracer's call, and such a call.
      case (0x0f, 0x1f) where try code.u8(place + 2) == 0x44: place += 5
      case (0xe8, _) where step == 0: place += 5
      // cmp $imm, %esi; test %esi, %esi.
      case (0x81, 0xfe):
        other = try code.u32(place + 2)
        place += 6
      case (0x83, 0xfe):
        other = UInt32(bitPattern: Int32(try code.load(place + 2, as: Int8.self)))
        place += 3
      case (0x85, 0xf6):
        other = 0
        place += 2
      // Jumps, those with a condition first.
      case (0x70...0x7f, _):
        let distance = Int(try code.load(place + 1, as: Int8.self))
        if try holds(code.u8(place), number, other, at: place) { target = place + 2 + distance }
        place += 2
      case (0x0f, 0x80...0x8f):
        let distance = Int(try code.load(place + 2, as: Int32.self))
        if try holds(code.u8(place + 1), number, other, at: place) { target = place + 6 + distance }
        place += 6
      case (0xeb, _): target = place + 2 + Int(try code.load(place + 1, as: Int8.self))
      case (0xe9, _), (0xe8, _): target = place + 5 + Int(try code.load(place + 1, as: Int32.self))
      default: throw unknown(place)
      }
      // What leads out of the code is the function.
      if let target {
        guard bytes.indices.contains(target) else { return start + target }
        place = target
      }
    }
    throw unknown(place)
  }

  /// Whether the condition in the low half of a jump's code holds after a comparison.
  private func holds(_ code: UInt8, _ value: UInt32, _ other: UInt32, at place: Int) throws(MemoryFault) -> Bool {
    let (signed, otherSigned) = (Int32(bitPattern: value), Int32(bitPattern: other))
    switch code & 15 {
    case 2: return value < other
    case 3: return value >= other
    case 4: return value == other
    case 5: return value != other
    case 6: return value <= other
    case 7: return value > other
    case 12: return signed < otherSigned
    case 13: return signed >= otherSigned
    case 14: return signed <= otherSigned
    case 15: return signed > otherSigned
    default: throw unknown(place)
    }
  }

  private func unknown(_ place: Int) -> MemoryFault {
    MemoryFault(.virtual(start + place), .inconsistent("an instruction that no switch of system calls has"))
  }
}
