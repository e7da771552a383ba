import Testing

@testable import ShadowExec

/// The filter is made of the list of calls.
@Suite struct CallFilterTests {
  @Test func everyCallIsKnownAndFiltered() throws {
    let calls = TrappedCall.all
    // A call that libseccomp does not know would not be stopped, and answered by this machine.
    #expect(CallFilter.byNumber(calls).compactMap { $0?.name }.count == calls.count)
    let filter = try CallFilter.bytes(calls)
    // `sock_filter`: eight bytes an instruction, and no more of them than the kernel takes (BPF_MAXINSNS).
    #expect(filter.count % 8 == 0 && filter.count / 8 > calls.count && filter.count / 8 < 4096)
  }

  @Test func whatProgramsSayOfThisMachineIsSaid() {
    #expect(OutsideAnswers.warning(of: ["/usr/bin/rkhunter", "--check"])?.hasPrefix("rkhunter: files on disk") == true)
    #expect(OutsideAnswers.warning(of: ["unhide", "brute"])?.contains("making processes") == true)
    #expect(
      OutsideAnswers.warning(of: ["unhide", "quick"]) == nil && OutsideAnswers.warning(of: ["ps", "brute"]) == nil)
  }

  @Test func textIsCutToItsField() {
    var bytes = StructBytes()
    bytes.add(Array("a name that is too long".utf8), in: 8)
    bytes.add(UInt16(0x0102))
    #expect(bytes.bytes == Array("a name ".utf8) + [0, 2, 1])
  }
}
