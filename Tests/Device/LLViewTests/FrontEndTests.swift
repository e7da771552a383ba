import LLView
import Testing

struct FrontEndTests {
  @Test func namesComeFromFiles() {
    #expect(FrontEnd.name(of: "a/b/ps.c") == "ps")
    #expect(FrontEnd.name(of: "ps.tar.c") == "ps")
  }
}
