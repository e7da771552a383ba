import Foundation
import Testing

@testable import Lab

struct BreakTests {
  @Test func namesAreUniqueAndOfSmallLettersAndHyphens() {
    let names = Breaks.all.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { $0.allSatisfy { $0.isLowercase || $0.isNumber || $0 == "-" } })
  }

  @Test func saysWhatHasToBeFound() {
    for one in Breaks.all {
      #expect(one.detectors.isEmpty == (one.kind == .quiet), "\(one.name)")
      #expect(one.within > 0 && one.summary.hasSuffix("."), "\(one.name)")
    }
  }

  /// What scripts ask of the module and of the program is in the tables of their sources.
  @Test(arguments: Breaks.all.map(\.name))
  func isKnownToWhatDoesIt(_ name: String) throws {
    let one = try Breaks.named(name)
    let script = [one.preparation, one.deed].map { deed in
      switch deed {
      case .script(let script), .sent(let script): script
      default: ""
      }
    }.joined(separator: "\n")
    for (word, file) in [("break.ko what=", "break.c"), ("breaker ", "breaker.c")] {
      for part in script.components(separatedBy: word).dropFirst() {
        let asked = part.prefix { $0.isLowercase || $0.isNumber || $0 == "-" }
        // Where the program is copied, or its errors are read.
        if asked.isEmpty { continue }
        #expect(try source(file).contains("{\"\(asked)\", "), "\(asked)")
      }
    }
  }

  private func source(_ name: String) throws -> String {
    let url = try Initramfs.resourceURL(name)
    return try String(contentsOf: url, encoding: .utf8)
  }
}
