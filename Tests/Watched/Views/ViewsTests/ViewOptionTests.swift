import Testing
import Views

struct ViewOptionTests {
  private enum Colour: String, CaseIterable, ViewOptionValue, ViewOptionDefault { case red, green }

  private struct Options: ViewOptions {
    @ViewOption(short: "T", help: "List every thread.") var threads = false
    @ViewOption(selects: true, help: "Only this process.") var onlyPid: Int32?
    @ViewOption(help: "Only this colour.") var colour: Colour?
    @ViewOption(isArgument: true, help: "Processes.") var pids: [Int32] = []

    func problem() -> String? { onlyPid == 13 ? "13 is not looked at" : nil }
  }

  @Test func namesAreThoseOfTheProperties() {
    #expect(Options().all.map(\.name) == ["threads", "only-pid", "colour", "pids"])
    #expect(Options().all.map(\.isFlag) == [true, false, false, false])
    #expect(Options().all.map(\.valueName) == ["yes|no", "number", "red|green", "number"])
  }

  @Test func textsBecomeValues() throws {
    let options = try Options([
      ("threads", "yes"), ("only-pid", "0x10"), ("colour", "green"), ("pids", "1"), ("pids", "-2"),
    ])
    #expect(options.threads && options.onlyPid == 16 && options.colour == .green && options.pids == [1, -2])
    #expect(options.selects)
    #expect(try !Options([("threads", "yes")]).selects)
    // Each instance has values of its own.
    #expect(!Options().threads)
  }

  @Test(arguments: [
    ("only-pid", "many", "--only-pid takes a number"), ("colour", "blue", "--colour takes red, green, and 'blue'"),
    ("size", "1", "there is no option 'size'; there are threads"), ("only-pid", "13", "13 is not looked at"),
    ("pids", "x", "<pids> takes a number"), ("only-pid", "99999999999", "takes a number of -2147483648"),
  ])
  func whatDoesNotFitIsRefused(_ name: String, _ text: String, _ why: String) {
    let error = #expect(throws: ViewOptionError.self) { try Options([(name, text)]) }
    #expect(error?.description.contains(why) == true)
  }
}

struct ViewFilterTests {
  @Test(arguments: [
    ("size > 10", ViewValue.unsigned(11), true), ("size>10", .unsigned(10), false), ("size >= 10", .unsigned(10), true),
    ("size < 1.5", .number(1.25), true), ("size <= 0x10", .unsigned(16), true), ("state = D", .text("D"), true),
    ("state != D", .text("D"), false), ("name ~ work", .text("kworker/0:1"), true), ("name~work", .text("sh"), false),
    ("list = a,b", .list([.text("a"), .text("b")]), true), ("up = yes", .bool(true), true),
    ("up = 1", .bool(true), true),
    // What is not known is neither less nor more than anything.
    ("size > 0", .none, false), ("size < 1", .absent, false), ("name = ", .none, true),
  ])
  func conditionsHold(_ condition: String, _ value: ViewValue, _ holds: Bool) throws {
    #expect(try ViewFilter(condition).holds(value) == holds)
  }

  @Test(arguments: ["size", "", "> 3", " = 3"]) func whatIsNoConditionIsRefused(_ text: String) {
    #expect(throws: ViewOptionError.self) { try ViewFilter(text) }
  }

  @Test func orderPutsTheUnknownLast() {
    let values: [ViewValue] = [.none, .unsigned(10), .text("9"), .unsigned(9), .absent]
    #expect(values.sorted { $0.precedes($1) }.prefix(2) != [.none, .absent])
    #expect(ViewValue.unsigned(9).precedes(.unsigned(10)) && !ViewValue.unsigned(10).precedes(.unsigned(9)))
    #expect(ViewValue.unsigned(9).precedes(.none) && !ViewValue.none.precedes(.unsigned(9)))
    #expect(ViewValue.signed(-1).precedes(.unsigned(0)) && ViewValue.text("a").precedes(.text("b")))
  }
}

struct ViewValueTests {
  @Test func bytesAreTextAndAllElseIsAList() {
    #expect(([0x61, 0xff] as [UInt8]).viewValue == .bytes([0x61, 0xff]))
    #expect(([] as [UInt8]).viewValue == .bytes([]) && ([] as [String]).viewValue == .list([]))
    #expect([1, -1].viewValue == .list([.signed(1), .signed(-1)]))
    #expect((nil as Int?).viewValue == .none && (1 as UInt8?).viewValue == .unsigned(1))
  }
}
