import Testing

@testable import Shadow

@Suite struct ProcTextTests {
  @Test(arguments: [
    ([0x3] as [UInt64], 2, "3", "0-1"), ([0xf0], 8, "f0", "4-7"), ([0x1_0000_0001], 40, "01,00000001", "0,32"),
    ([0], 4, "0", ""), ([.max, 1], 72, "01,ffffffff,ffffffff", "0-64"),
  ])
  func writesSetsAsTheKernelDoes(_ words: [UInt64], _ count: Int, _ bits: String, _ list: String) {
    #expect(ProcText.bitmap(words, count: count) == bits)
    #expect(ProcText.list(words, count: count) == list)
  }

  @Test func escapesWhatDividesFields() {
    #expect(ProcText.escaped(Array("a b\\c\n".utf8), " \t\n\\") == Array("a\\040b\\134c\\012".utf8))
  }

  /// The first eight bytes of the vectors that SipHash's authors published: the key is 00 01 … 0f.
  @Test func hashesAsPublished() {
    let hash = HashedPointer.sipHash(0x0706_0504_0302_0100, 0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    // 62 24 93 9a 79 f5 f5 93
    #expect(hash == 0x93f5_f579_9a93_2462)
  }

  @Test(arguments: ["", ".", "..", "a/b", "a\u{0}b", "a\nb", String(repeating: "x", count: 256)])
  func refusesNamesThatLeadElsewhere(_ name: String) { #expect(!ShadowTree.isName(name)) }
}
