import Detection
import Foundation
import Testing

struct DetectorTests {
  /// The page is made of the declarations; who changes one makes it anew.
  @Test func theDocumentationIsThatOfTheDeclarations() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let page = try String(contentsOf: root.appendingPathComponent("docs/detectors.md"), encoding: .utf8)
    #expect(page == DetectorPages.text, "make it anew: grassctl detectors --markdown > docs/detectors.md")
  }

  @Test func everyDetectorSaysWhatItDoes() {
    let all = Detectors.all
    #expect(Set(all.map { $0.name }).count == all.count)
    for detector in all {
      #expect(
        detector.name.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "-") }, "\(detector.name)")
      #expect(detector.summary.hasSuffix("."), "\(detector.name)")
      #expect(!detector.rule.isEmpty && !detector.looksLike.isEmpty && !detector.remedy.isEmpty, "\(detector.name)")
      #expect(detector.kind != .attack || !detector.techniques.isEmpty, "\(detector.name) names no technique")
    }
  }
}
