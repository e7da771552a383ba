import Lab
import Testing

extension GuestTests {
  /// The way commands take into a guest: each gets its own answer, whatever became of those before.
  @Suite(.serialized) struct CommandTests {
    private func guest() throws -> Guest {
      try SharedGuests.shared.guest(standardGuests[0])
    }

    @Test func outputIsBytesAndStatusIsTheCommands() throws {
      let output = try guest().run("printf 'a\\000\\377\\n'; printf b >&2; exit 7")
      #expect(output.status == 7)
      #expect(output.bytes == [0x61, 0x00, 0xff, 0x0a, 0x62])
    }

    @Test func sentCommandsDoNotAnswerForTheNext() throws {
      let guest = try guest()
      // At once behind one another: the agent is still busy with the first when the last arrives.
      for _ in 0..<5 { try guest.send("echo stale") }
      #expect(try guest.run("echo fresh").text == "fresh\n")
      #expect(try guest.run("echo next").text == "next\n")
    }

    @Test func lateAnswersDoNotPassForTheNext() throws {
      let guest = try guest()
      #expect(throws: LabError.self) { try guest.run("sleep 2; echo late", timeout: .milliseconds(200)) }
      // Ends within the answer's bytes: the serial port takes seconds for them.
      #expect(throws: LabError.self) { try guest.run("head -c 1000000 /dev/zero", timeout: .milliseconds(1500)) }
      #expect(try guest.run("echo fresh").text == "fresh\n")
    }
  }
}
