import Detection
import Testing

struct DetectorTests {
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
