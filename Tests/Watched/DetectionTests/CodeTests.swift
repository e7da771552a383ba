import CCode
import Testing

/// Code of x86-64 as clang assembles it.
struct CodeTests {
  struct Instruction: Sendable, CustomTestStringConvertible {
    let bytes: [UInt8]
    let text: String
    var flow = GRASS_FLOW_NEXT
    var distance: Int64 = 0
    var testDescription: String { text }
  }

  /// Assembled by clang 19; beside each what it is.
  static let instructions: [Instruction] = [
    Instruction(bytes: [0xf3, 0x0f, 0x1e, 0xfa], text: "endbr64"),
    Instruction(bytes: [0x0f, 0x1f, 0x04, 0x00], text: "nopl (%rax,%rax,1)"),
    Instruction(bytes: [0x55], text: "push %rbp"),
    Instruction(bytes: [0x48, 0x83, 0xec, 0x28], text: "sub $0x28,%rsp"),
    Instruction(bytes: [0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], text: "mov %gs:0x28,%rax"),
    Instruction(
      bytes: [0x48, 0xba, 0, 0, 0, 0, 0x80, 0x88, 0xff, 0xff], text: "movabs $0xffff888000000000,%rdx"),
    Instruction(bytes: [0xc7, 0x47, 0x10, 7, 0, 0, 0], text: "movl $0x7,0x10(%rdi)"),
    Instruction(bytes: [0x66, 0xc7, 0x47, 0x10, 7, 0], text: "movw $0x7,0x10(%rdi)"),
    Instruction(bytes: [0x66, 0x3d, 0x34, 0x12], text: "cmp $0x1234,%ax"),
    Instruction(bytes: [0xf7, 0x47, 0x2c, 0x40, 0, 0, 0], text: "testl $0x40,0x2c(%rdi)"),
    Instruction(bytes: [0xf7, 0xd0], text: "not %eax"),
    Instruction(bytes: [0xf6, 0x07, 0x01], text: "testb $0x1,(%rdi)"),
    Instruction(bytes: [0x48, 0x8d, 0x35, 0, 0, 0, 0], text: "lea 0x0(%rip),%rsi"),
    Instruction(bytes: [0x48, 0x8b, 0x0c, 0xc5, 0x78, 0x56, 0x34, 0x12], text: "mov 0x12345678(,%rax,8),%rcx"),
    Instruction(bytes: [0x48, 0x8b, 0x14, 0x8c], text: "mov (%rsp,%rcx,4),%rdx"),
    Instruction(bytes: [0x48, 0x0f, 0xac, 0xd0, 0x07], text: "shrd $0x7,%rdx,%rax"),
    Instruction(bytes: [0xf0, 0x48, 0x0f, 0xb1, 0x17], text: "lock cmpxchg %rdx,(%rdi)"),
    Instruction(bytes: [0xf3, 0x48, 0xa5], text: "rep movsq"),
    Instruction(bytes: [0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc2], text: "crc32 %rdx,%rax"),
    Instruction(bytes: [0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x08], text: "palignr $0x8,%xmm1,%xmm0"),
    Instruction(bytes: [0xc5, 0xed, 0xef, 0xd9], text: "vpxor %ymm1,%ymm2,%ymm3"),
    Instruction(bytes: [0xc5, 0xfd, 0x70, 0xd1, 0x1b], text: "vpshufd $0x1b,%ymm1,%ymm2"),
    Instruction(bytes: [0xc4, 0xe3, 0x6d, 0x46, 0xd9, 0x01], text: "vperm2i128 $0x1,%ymm1,%ymm2,%ymm3"),
    Instruction(bytes: [0x62, 0xf1, 0xf5, 0x48, 0xd4, 0x57, 0x01], text: "vpaddq 0x40(%rdi),%zmm1,%zmm2"),
    Instruction(bytes: [0x62, 0xf3, 0x6d, 0x48, 0x25, 0xd9, 0x96], text: "vpternlogd $0x96,%zmm1,%zmm2,%zmm3"),
    Instruction(bytes: [0xc5, 0xf8, 0x77], text: "vzeroupper"),
    Instruction(bytes: [0x0f, 0x20, 0xd8], text: "mov %cr3,%rax"),
    Instruction(bytes: [0x0f, 0x01, 0xf8], text: "swapgs"),
    Instruction(bytes: [0xff, 0xd0], text: "call *%rax"),
    Instruction(bytes: [0xff, 0xe0], text: "jmp *%rax", flow: GRASS_FLOW_END),
    Instruction(bytes: [0xff, 0x67, 0x20], text: "jmp *0x20(%rdi)", flow: GRASS_FLOW_END),
    Instruction(bytes: [0x0f, 0x0b], text: "ud2", flow: GRASS_FLOW_END),
    Instruction(bytes: [0xcc], text: "int3", flow: GRASS_FLOW_BREAKPOINT),
    Instruction(bytes: [0x48, 0xcf], text: "iretq", flow: GRASS_FLOW_RETURN),
    Instruction(bytes: [0x48, 0x0f, 0x07], text: "sysretq", flow: GRASS_FLOW_END),
    Instruction(bytes: [0xc3], text: "ret", flow: GRASS_FLOW_RETURN),
    Instruction(bytes: [0xeb, 0xfe], text: "jmp .", flow: GRASS_FLOW_JUMP, distance: -2),
    Instruction(bytes: [0x75, 0xfc], text: "jne .-2", flow: GRASS_FLOW_BRANCH, distance: -4),
    Instruction(bytes: [0x0f, 0x85, 0xfa, 0x0f, 0, 0], text: "jne .+0x1000", flow: GRASS_FLOW_BRANCH, distance: 0xffa),
    Instruction(bytes: [0xe9, 0xfb, 0x0f, 0, 0], text: "jmp .+0x1000", flow: GRASS_FLOW_JUMP, distance: 0xffb),
    Instruction(
      bytes: [0xe8, 0xfb, 0xef, 0xff, 0xff], text: "call .-0x1000", flow: GRASS_FLOW_CALL, distance: -0x1005),
  ]

  private func decode(_ bytes: [UInt8]) -> grass_instruction {
    var one = grass_instruction()
    let length = grass_decode(bytes, bytes.count, &one)
    #expect(length == one.length)
    return one
  }

  @Test(arguments: instructions) func knowsHowLongAnInstructionIs(_ instruction: Instruction) {
    // What follows it does not matter.
    for rest in [[], [0xcc, 0xcc], [0x00, 0x66, 0xff, 0x48]] as [[UInt8]] {
      let one = decode(instruction.bytes + rest)
      #expect(one.length == instruction.bytes.count)
      #expect(one.flow == instruction.flow.rawValue && one.distance == instruction.distance)
    }
    for count in 0..<instruction.bytes.count {
      #expect(decode(Array(instruction.bytes.prefix(count))).length == 0, "\(count) bytes of it are none")
    }
  }

  @Test(
    arguments: [
      [0x06], [0x82, 0xc0, 0x01], [0x9a, 0, 0, 0, 0, 0, 0], [0x0f, 0x04], [0xd6], [0xea],
      [UInt8](repeating: 0x66, count: 15),
    ] as [[UInt8]]) func refusesWhatIsNone(_ bytes: [UInt8])
  {
    #expect(decode(bytes).length == 0)
  }

  @Test func anyBytesAreBounded() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0...18, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      #expect(decode(bytes).length <= min(15, bytes.count))
    }
  }

  // MARK: Looking through a text

  private let start: UInt64 = 0xffff_ffff_8100_0000
  private static let nop: [UInt8] = [0x0f, 0x1f, 0x44, 0x00, 0x00]
  private static let landing: [UInt8] = [0xf3, 0x0f, 0x1e, 0xfa]

  /// What there is to be said of functions, each padded to sixteen bytes, whose places are behind a landing.
  private func remarks(_ functions: [[UInt8]]) -> [(kind: UInt32, offset: Int, target: UInt64)] {
    var bytes: [UInt8] = []
    var starts: [UInt32] = []
    for function in functions {
      starts.append(UInt32(bytes.count))
      bytes += function
      while bytes.count % 16 != 0 { bytes.append(0xcc) }
    }
    let places = starts.map { $0 + 4 }
    var list = [grass_remark](repeating: grass_remark(), count: 8)
    var undecoded = 0
    let count = bytes.withUnsafeBufferPointer { bytes in
      starts.withUnsafeBufferPointer { starts in
        places.withUnsafeBufferPointer { places in
          var text = grass_text(
            bytes: bytes.baseAddress, count: bytes.count, end: bytes.count, address: start, image_start: start,
            image_end: start + 0x100_0000, functions: starts.baseAddress, function_count: starts.count,
            places: places.baseAddress, place_count: places.count)
          return grass_look_through(&text, &list, list.count, &undecoded)
        }
      }
    }
    return list.prefix(count).map { ($0.kind, Int($0.offset), $0.target) }
  }

  @Test func aTextAsCompilersLeaveItNeedsNoRemark() {
    // One that returns, and one that ends with a call that does not come back.
    let functions = [
      Self.landing + Self.nop + [0x31, 0xc0, 0xc3], Self.landing + Self.nop + [0xe8, 0x10, 0, 0, 0],
      // What kernels put over a landing.
      [0x66, 0x0f, 0x1f, 0x00] + Self.nop + [0xc3],
      // A trap for speculation: the call leaps over it.
      Self.landing + Self.nop + [0xe8, 0x01, 0, 0, 0, 0xcc, 0x48, 0x83, 0xc4, 0x08, 0xc3],
    ]
    #expect(remarks(functions).isEmpty)
  }

  @Test func whatWasChangedIsRemarked() {
    let well = Self.landing + Self.nop + [0xc3]
    func first(_ function: [UInt8]) -> (kind: grass_remark_kind, offset: Int, target: UInt64)? {
      remarks([well, function, well]).first.map { (grass_remark_kind($0.kind), $0.offset - 16, $0.target) }
    }
    // ret, and a jump, where the function begins.
    #expect(first([0xc3, 0x0f, 0x1e, 0xfa] + Self.nop + [0xc3])?.kind == GRASS_REMARK_LANDING)
    let jump = remarks([[0xe9, 0, 0, 0, 0x40, 0x1f, 0x44, 0x00, 0x00, 0xc3]])
    #expect(jump.map(\.kind) == [GRASS_REMARK_PLACE, GRASS_REMARK_LANDING, GRASS_REMARK_BRANCH].map(\.rawValue))
    #expect(jump.last?.target == start + 5 + 0x4000_0000)
    // A call where tracers may call.
    let call = first(Self.landing + [0xe8, 0, 0, 0, 0x40, 0xc3])
    #expect(call?.kind == GRASS_REMARK_PLACE && call?.target == start + 16 + 9 + 0x4000_0000)
    // A breakpoint over the first byte of an instruction.
    let breakpoint = first(Self.landing + Self.nop + [0x55, 0xcc, 0x89, 0xe5, 0x5d, 0xc3])
    #expect(breakpoint?.kind == GRASS_REMARK_BREAKPOINT && breakpoint?.offset == 10)
  }

  @Test func wordsAreFoundInRanges() {
    let words: [UInt64] = [0, 0x1000, 0x1fff, 0x2000, 0x3000, .max]
    var bytes: [UInt8] = []
    for word in words { bytes += withUnsafeBytes(of: word.littleEndian) { Array($0) } }
    // Less than a word at the end.
    bytes += [0, 0x10]
    let ranges: [UInt64] = [0x1000, 0x2000, 0x3000, 0x3001]
    var offsets = [UInt32](repeating: 0, count: 2)
    // Three are found, and two told.
    #expect(grass_find_words(bytes, bytes.count, ranges, 2, &offsets, 2) == 3)
    #expect(offsets == [8, 16])
  }
}
