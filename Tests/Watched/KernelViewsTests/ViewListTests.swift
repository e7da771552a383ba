import Foundation
import KernelViews
import Testing

/// What follows from the list of views, beside the views themselves.
struct ViewListTests {
  @Test func everyViewHasANameOfItsOwnAndOneLine() {
    let names = KernelViews.all.map { $0.name }
    #expect(Set(names).count == names.count)
    for view in KernelViews.all {
      #expect(!view.summary.isEmpty && !view.summary.contains("\n") && view.summary.hasSuffix("."), "\(view.name)")
      #expect(KernelViews.view(named: view.name) != nil)
    }
    #expect(KernelViews.view(named: "no-such-view") == nil)
  }

  /// A key stands for one column in each section, and what is no key has a heading.
  @Test func columnsAreTold() throws {
    for view in KernelViews.all {
      let columns = view.allColumns
      #expect(!columns.isEmpty, "\(view.name)")
      #expect(columns.allSatisfy { $0.isInTable || $0.isInJSON }, "\(view.name)")
    }
  }

  @Test func readmeNamesEveryView() throws {
    let root = #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined()
    let readme = try String(contentsOfFile: root + "/README.md", encoding: .utf8)
    for view in KernelViews.all {
      #expect(readme.contains("`\(view.name)`") || readme.contains("`\(view.name) "), "README lacks \(view.name)")
    }
  }
}
