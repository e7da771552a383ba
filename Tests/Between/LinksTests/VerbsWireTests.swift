import Testing

@testable import Links

@Suite struct VerbsWireTests {
  private let grant = LinkGrant(
    slots: 4..<8,
    requests: RemotePart(token: .init(high: 0x7f00_0000_0000, low: 0x1234), range: 256..<512, access: .write),
    responses: RemotePart(token: .init(high: 0x7f00_0000_0000, low: 0x5678), range: 0..<256, access: .read),
    scratch: RemotePart(token: .init(high: 0, low: 0), range: 512..<512, access: [.read, .write]))

  @Test func descriptionsComeBack() throws {
    let name = RegionToken.random()
    let bytes = VerbsWire.description(grant, session: name)
    #expect(bytes.count == VerbsWire.descriptionSize)
    let parsed = try #require(VerbsWire.parseDescription(bytes))
    #expect(parsed.grant == grant)
    #expect(parsed.session == name)
    for count in 0..<bytes.count { #expect(VerbsWire.parseDescription(Array(bytes[..<count])) == nil) }
  }

  @Test func hellosComeBackPaddedOrNot() throws {
    let hello = VerbsWire.Hello(slots: 3, session: RegionToken(high: 1, low: 2))
    let bytes = VerbsWire.hello(hello)
    #expect(bytes.count == VerbsWire.helloSize)
    for padding in [0, 16] {
      let parsed = try #require(VerbsWire.parseHello(bytes + [UInt8](repeating: 0, count: padding)))
      #expect(parsed.slots == 3)
      #expect(parsed.session == hello.session)
    }
    for count in 0..<bytes.count { #expect(VerbsWire.parseHello(Array(bytes[..<count])) == nil) }
    // Another magic, another version.
    for index in [0, 8] {
      var other = bytes
      other[index] ^= 1
      #expect(VerbsWire.parseHello(other) == nil)
    }
    // As many slots as a word can say.
    var many = bytes
    for index in 16..<24 { many[index] = 0xff }
    #expect(try #require(VerbsWire.parseHello(many)).slots == .max)
  }
}
