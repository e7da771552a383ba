import Memory
import Shadow
import Testing

@Suite struct ShadowTreeTests {
  private static func tree() -> ShadowTree {
    ShadowTree(
      root: .directory([
        "one": .file { Array("1\n".utf8) }, "bad": .file { throw ShadowError.unreadable("torn") },
        "below": .directory(["two": .file { Array("22\n".utf8) }]),
      ]))
  }

  @Test func findsWhatThereIs() throws {
    let tree = Self.tree()
    #expect(try tree.contents(of: "one") == Array("1\n".utf8))
    #expect(try tree.contents(of: "below/two") == Array("22\n".utf8))
    #expect(try tree.entries(of: ShadowTree.root).map(\.name) == ["one", "bad", "below"])
    #expect(throws: ShadowError.missing) { try tree.contents(of: "below/three") }
    #expect(throws: ShadowError.notDirectory) { try tree.contents(of: "one/two") }
    #expect(throws: ShadowError.isDirectory) { try tree.contents(of: "below") }
  }

  @Test func whatCannotBeReadIsNoEmptyFile() {
    #expect(throws: ShadowError.unreadable("torn")) { try Self.tree().contents(of: "bad") }
  }
}
