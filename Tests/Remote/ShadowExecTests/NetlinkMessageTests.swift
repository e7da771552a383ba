import Testing

@testable import ShadowExec

/// Requests come from programs that may send anything.
@Suite struct NetlinkMessageTests {
  /// A header of netlink(7) with this length and type, and what follows it.
  private func message(length: UInt32? = nil, type: UInt16, body: [UInt8] = []) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(length ?? UInt32(16 + body.count))
    bytes.add(type)
    bytes.add(NetlinkMessage.Flag.request | NetlinkMessage.Flag.dump)
    bytes.add(UInt32(7))
    bytes.add(UInt32(9))
    return bytes.bytes + body
  }

  @Test func aPacketIsTakenApart() throws {
    // Five bytes of body, and three up to the next message.
    let packet = message(type: 18, body: [1, 2, 3, 4, 5]) + [0, 0, 0] + message(type: 22)
    let found = NetlinkMessage.messages(in: packet)
    #expect(found.map(\.type) == [18, 22] && found[0].body == [1, 2, 3, 4, 5] && found[1].body.isEmpty)
    #expect(found[0].sequence == 7 && found[0].port == 9 && found[0].flags == 0x301)
    #expect(found[0].bytes == Array(packet[..<24]))
  }

  @Test(arguments: [0, 4, 15, 17, UInt32.max] as [UInt32]) func aLengthThatLiesEndsThePacket(_ length: UInt32) {
    #expect(NetlinkMessage.messages(in: message(type: 22) + message(length: length, type: 18)).map(\.type) == [22])
    #expect(NetlinkMessage.messages(in: Array(message(type: 18)[..<15])).isEmpty)
  }

  @Test func attributesAreReadAsFarAsTheyHoldTogether() {
    var body = StructBytes()
    body.add(UInt32(0))
    body.add(3, text: Array("lo".utf8))
    // A bit that says that it holds others, and a length that goes past the end.
    body.add(0x8000 | 5, UInt32(1))
    body.add(UInt16(64))
    body.add(UInt16(9))
    let message = NetlinkMessage(type: 18, flags: 1, sequence: 0, port: 0, body: body.bytes)
    let found = message.attributes(from: 4)
    #expect(found[3] == Array("lo\0".utf8) && found[5] == [1, 0, 0, 0] && found.count == 2)
    #expect(message.number(1000, as: UInt32.self) == 0)
  }

  /// A request failed: the errno is negative, and the header of what it is about comes back.
  @Test func errorsNameWhatTheyAreAbout() throws {
    let request = try #require(NetlinkMessage.messages(in: message(type: 26)).first)
    let answer = request.error(95, port: 9)
    #expect(answer.type == NetlinkMessage.Kind.error && answer.sequence == 7 && answer.number(0, as: Int32.self) == -95)
    #expect(Array(answer.body[4...]) == message(type: 26))
  }
}
