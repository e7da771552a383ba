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

  private static func document(_ path: String) throws -> String {
    let root = #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined()
    return try String(contentsOfFile: root + "/" + path, encoding: .utf8)
  }

  @Test func readmeNamesEveryView() throws {
    let readme = try Self.document("README.md")
    let groups = ViewReference.groups(KernelViews.all)
    #expect(readme.contains(groups), "README's table lacks what `grassctl reference --readme` prints:\n\(groups)")
    for view in KernelViews.all { #expect(groups.contains("`\(view.name)`")) }
  }

  @Test func referenceOfKeysIsThatOfTheList() throws {
    let isSame = try Self.document("docs/json.md") == ViewReference.keys(KernelViews.all)
    #expect(isSame, "write it anew: swift run grassctl reference > docs/json.md")
  }

  /// Each sample is taken as its command line has it, so that scripts and tests look at the same.
  @Test func commandLinesAreThoseOfTheSamples() throws {
    let subject = ViewSubject(process: 7, text: "words")
    for view in KernelViews.all {
      let lines = view.commandLines(subject)
      #expect(lines.count == view.samples(subject).count && lines.allSatisfy { $0.first == view.name })
      for sample in view.samples(subject) { _ = try view.accepts(sample) }
    }
    #expect(MappingView.commandLines(subject) == [["maps", "7"]])
    #expect(TopView.commandLines(subject) == [["top", "--interval=0"]])
    #expect(WorkQueueView.commandLines(subject) == [["workqueues", "--queues"]])
  }
}

extension KernelView {
  fileprivate static func accepts(_ sample: [(name: String, text: String)]) throws -> Options { try Options(sample) }
}
