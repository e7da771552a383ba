import LinuxKernel
import Memory
import Output
import Testing
import Views

/// A view of nothing, to see how rows are written.
private enum Sample: KernelView {
  struct Item: Sendable {
    var name: [UInt8]
    var size: UInt64
    var isBroken = false
    var owner: String?
  }

  static let name = "sample", group = ViewGroup.host, summary = "Nothing."

  static func columns(_ options: NoOptions) -> [ViewColumn<Item>] {
    [
      ViewColumn("NAME", "name", \.name).identity,
      ViewColumn("SIZE", "bytes", in: .bytes, \.size).bad { $0.isBroken },
      ViewColumn("HALF", isRightAligned: true, text: { "\($0.size / 2)" }),
      ViewColumn(json: "owner", \.owner),
      ViewColumn(json: "broken") { $0.isBroken ? ViewValue.bool(true) : .absent },
    ]
  }

  static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Item> { ViewRows([]) }
  static func details(below row: Item, _ options: NoOptions) -> [String] { row.owner.map { ["owner: \($0)"] } ?? [] }
}

struct ViewFormatTests {
  private static let items = [
    Sample.Item(name: Array("b\u{1b}[2J".utf8), size: 5), Sample.Item(name: [0x61, 0xff], size: 1000, owner: "root"),
    Sample.Item(name: Array("c".utf8), size: 20, isBroken: true),
  ]

  private func text(_ change: (inout ViewFormat) throws -> Void) throws -> String {
    var format = ViewFormat()
    try change(&format)
    let rows = try format.arranged(Self.items, of: Sample.self, NoOptions())
    return try format.text(rows, of: Sample.self, NoOptions())
  }

  @Test func tableHasHeadingsAlignmentAndNoEscapes() throws {
    #expect(
      try text { _ in } == """
        NAME     SIZE HALF
        b\\x1b[2J    5    2
        a\\xff    1000  500
              owner: root
        c          20   10

        """)
  }

  @Test func rowsAreSortedAndLeftOut() throws {
    #expect(
      try text {
        $0.sort = "-size"; $0.columns = ["bytes"]
      } == "SIZE\n1000\n      owner: root\n  20\n   5\n")
    #expect(
      try text {
        $0.filters = [try ViewFilter("bytes < 100"), try ViewFilter("broken = 1")]; $0.hasHeader = false
      }
        == "c 20 10\n")
    #expect(throws: ViewOptionError.self) { try text { $0.sort = "weight" } }
    #expect(throws: ViewOptionError.self) { try text { $0.columns = ["weight"] } }
  }

  @Test func linesAreCutAndBadCellsColoured() throws {
    #expect(try text { $0.width = 10 }.split(separator: "\n").allSatisfy { $0.count <= 10 })
    #expect(try text { $0.width = 10 }.contains("a\\xff    …"))
    #expect(try text { $0.hasColour = true }.contains("\u{1b}[31m  20 \u{1b}[0m"))
    #expect(
      try !text {
        $0.hasColour = true; $0.columns = ["name"]
      }.contains("\u{1b}"))
  }

  @Test func jsonHasEveryKeyThatTheRowHas() throws {
    let json = String(decoding: try ViewFormat().json(Self.items, of: Sample.self, NoOptions()), as: UTF8.self)
    #expect(
      json == #"""
        [
        {"name": "b\u001b[2J", "bytes": 5, "owner": null},
        {"name": "a\udcff", "bytes": 1000, "owner": "root"},
        {"name": "c", "bytes": 20, "owner": null, "broken": true}
        ]

        """#)
  }
}
