import CRuntime
import Devices
import Memory
import Paging
import Records
import Testing

@testable import LLView

/// Each rule on a few lines of C, over a kernel of a few types and one page of memory.
struct RuleTests {
  // MARK: Fields

  @Test func fieldsGoWhereTheKernelHasThem() throws {
    // The declaration has only the second field, at 0; the kernel has it at 8.
    let result = try run("emit(run, ((struct task *)kernel_page)->pid);")
    #expect(result.words == [0x1234])
  }

  @Test func nestedAndAnonymousFields() throws {
    let result = try run(
      "struct task *t = (struct task *)kernel_page; emit(run, t->inner.count); emit(run, t->hidden);")
    #expect(result.words == [77, 0x55])
  }

  @Test func bitFieldsComeFromTheKernelsBits() throws {
    // Declared as bits 0 to 4 of a word; the kernel has them at bits 3 to 7 of its byte 16.
    let result = try run(
      "emit(run, ((struct task *)kernel_page)->bits); emit(run, ((struct task *)kernel_page)->flag);")
    #expect(result.words == [0b10110, 1])
  }

  @Test func questionsAboutFieldsAndTypes() throws {
    let result = try run(
      """
      emit(run, field_exists(struct task, pid)); emit(run, field_exists(struct task, gone));
      emit(run, field_offset(struct task, pid)); emit(run, type_size(struct task)); emit(run, type_exists(struct nothing));
      """)
    #expect(result.words == [1, 0, 8, 64, 0])
  }

  @Test func flavoursAreForOtherKernels() throws {
    let result = try run(
      """
      struct task___old *old = (struct task___old *)kernel_page;
      emit(run, field_exists(struct task___old, ancient) ? old->ancient : 5);
      emit(run, old->pid);
      """)
    #expect(result.words == [5, 0x1234])
  }

  @Test func arraysStepByTheKernelsSize() throws {
    // The second struct item starts 24 bytes after the first, where the declaration has 4 bytes.
    let result = try run(
      """
      struct task *t = (struct task *)kernel_page;
      struct item *items = (struct item *)((char *)t + 128);
      for (int i = 0; i < 3; i++) emit(run, items[i].value);
      """)
    #expect(result.words == [100, 101, 102])
  }

  @Test func aMissingFieldIsNamedWithMonitorAndKernel() throws {
    let error = try #require(throws: LLViewError.self) { try run("emit(run, ((struct task *)kernel_page)->gone);") }
    #expect("\(error)".contains("gone") && "\(error)".contains("task") && "\(error)".contains("9.9.9-test"))
    #expect(error.monitor == "sample")
  }

  @Test func aFieldOfAnotherSizeIsNamed() throws {
    let error = try #require(throws: LLViewError.self) {
      try run("emit(run, ((struct task___wide *)kernel_page)->pid);")
    }
    #expect("\(error)".contains("4 bytes") && "\(error)".contains("8 bytes"))
  }

  // MARK: Globals

  @Test func kernelVariablesAreBound() throws {
    #expect(try run("emit(run, variable);").words == [0x1234])
    // Per CPU: kallsyms gives an offset, to which the processor's base is added.
    #expect(try run("emit(run, *(u32 *)((char *)&counter + (u64)kernel_page));").words == [0x1234])
    #expect(try run("emit(run, &absent != 0);").words == [0])
  }

  @Test func aMissingSymbolIsNamed() throws {
    let error = try #require(throws: LLViewError.self) { try run("emit(run, nowhere);") }
    #expect("\(error)".contains("nowhere") && "\(error)".contains("9.9.9-test"))
  }

  // MARK: What ends a run

  @Test(arguments: [
    ("emit(run, 1); for (;;) ;", GRASS_FAULT_BUDGET),
    ("emit(run, 1); u64 n = 0; while (n < ~0ul) { n += grass_lane(run); }", GRASS_FAULT_BUDGET),
    ("emit(run, 1); emit(run, *(volatile u64 *)0x1000);", GRASS_FAULT_WILD),
    ("emit(run, 1); emit(run, *(volatile u64 *)0);", GRASS_FAULT_WILD),
    ("emit(run, 1); emit(run, *(volatile u64 *)0x9000000000000000);", GRASS_FAULT_NOT_CANONICAL),
    ("emit(run, 1); emit(run, *(volatile u64 *)0xffffaaaaaaaa0000);", GRASS_FAULT_NOT_PRESENT),
    ("emit(run, 1); emit(run, *(volatile u64 *)(kernel_page + 1));", GRASS_FAULT_UNALIGNED),
    ("emit(run, 1); *(volatile u64 *)(kernel_page + 8 * grass_lanes(run)) = 1;", GRASS_FAULT_STORE),
    ("emit(run, 1); u64 own[4]; own[grass_lanes(run) + 9] = 3; emit(run, own[grass_lanes(run)]);", GRASS_FAULT_BOUNDS),
    ("emit(run, 1); for (;;) emit(run, 1);", GRASS_FAULT_FULL),
    ("emit(run, 1); emit(run, 7 / grass_lane(run));", GRASS_FAULT_DIVISION),
  ])
  func faultsMarkTheResult(_ source: String, _ fault: grass_fault) throws {
    let result = try run(source)
    #expect(result.faults == [fault.rawValue])
    // What came before stays.
    #expect(result.words.first == 1)
  }

  /// Were it, a lane at work elsewhere could take the same room twice: a GPU's lanes run at once.
  @Test func roomForRecordsIsNeverGivenBack() throws {
    let monitor = try SampleKernel.monitor(
      """
      u32 lane = grass_lane(run);
      u64 *record = grass_emit(run, 1 + lane, lane == 0 ? 1000 : lane < 3 ? 40 : 8);
      *record = lane;
      """)
    // The first could never fit. The second fits; the third does not, and the 16 bytes that are left are nobody's.
    let result = try SampleKernel.run(monitor, lanes: 4, capacity: 64)
    #expect(result.words == [1])
    #expect(result.records.map(\.kind) == [2])
    #expect(result.faults.map(\.lane) == [0, 2, 3])
    #expect(result.faults.allSatisfy { $0.code == GRASS_FAULT_FULL.rawValue })
  }

  @Test func copiesCrossPagesAndStopAtFaults() throws {
    let result = try run(
      "u64 own[2]; __builtin_memcpy(own, kernel_page + 8, 16); emit(run, own[0] & 0xffffffff); emit(run, own[1] & 255);"
    )
    #expect(result.words == [0x1234, 0xb1])
    #expect(
      try run("u64 own[2]; __builtin_memcpy(own, (void *)0x10, 16); emit(run, own[0]);").faults == [
        GRASS_FAULT_WILD.rawValue
      ])
  }

  // MARK: Waves

  /// Here nothing is mapped linearly, so fields are copied one by one.
  @Test func fieldsThatAreLoadedTogetherAreWhatTheyAreAlone() throws {
    let loads =
      "struct task *t = (struct task *)kernel_page; u64 a = t->pid, b = t->inner.count, c = t->hidden, d = t->flag;"
    #expect(try run(loads + "emit(run, a); emit(run, b); emit(run, c); emit(run, d);").words == [0x1234, 77, 0x55, 1])
    // The last one is on a page that is not there.
    let torn = loads.replacing("kernel_page", with: "(kernel_page + 0xfe0)")
    #expect(
      try run(torn + "emit(run, a); emit(run, b); emit(run, c); emit(run, d);").faults == [
        GRASS_FAULT_NOT_PRESENT.rawValue
      ])
    let unaligned = loads.replacing("kernel_page", with: "(kernel_page + 2)")
    #expect(try run(unaligned + "emit(run, a + b + c + d);").faults == [GRASS_FAULT_UNALIGNED.rawValue])
  }

  @Test func loadsThatDoNotDependOnEachOtherGoOutTogether() throws {
    let text = try translated(
      """
        %x = load i32, ptr %t, align 4
        %q = getelementptr i8, ptr %t, i64 8
        %y = load i64, ptr %q, align 8
        %s = add i64 %y, 1
        %r = getelementptr i8, ptr %t, i64 16
        %z = load i64, ptr %r, align 8
        %n = inttoptr i64 %z to ptr
        %w = load i64, ptr %n, align 8
      """)
    // One check for three fields of one thing, one for what a field names.
    #expect(text.components(of: "call ptr @grass_reach(") == 1 && text.components(of: "call ptr @grass_load_at(") == 1)
    // All three come before the first use of one.
    let use = try #require(text.firstRange(of: "%s = add"))
    #expect(String(text[..<use.lowerBound]).components(of: "load volatile") == 3)
  }

  @Test(arguments: [
    "call void @grass_next(ptr %run, i64 0, i64 0)", "store i64 0, ptr %o, align 8",
    "%v = load volatile i64, ptr %t, align 8",
  ])
  func nothingIsMovedOver(_ barrier: String) throws {
    let text = try translated(
      """
        %x = load i64, ptr %t, align 8
        \(barrier)
        %q = getelementptr i8, ptr %t, i64 8
        %y = load i64, ptr %q, align 8
      """)
    #expect(!text.contains("call ptr @grass_reach("))
    let first = try #require(text.firstRange(of: "%x = load")), second = try #require(text.firstRange(of: "%y = load"))
    let between = text[first.upperBound..<second.lowerBound]
    #expect(
      between.contains(barrier.hasPrefix("call") ? "@grass_next" : barrier.hasPrefix("store") ? "store i64 0" : "%v ="))
  }

  /// What the rule makes of a monitor's instructions; `%t` and `%o` are addresses of which nothing is known.
  private func translated(_ body: String) throws -> String {
    let text = """
      target datalayout = "\(Target.neutralLayout)"
      declare i64 @grass_argument(ptr, i32)
      declare void @grass_next(ptr, i64, i64)
      define void @sample(ptr %run) {
        %a = call i64 @grass_argument(ptr %run, i32 0)
        %t = inttoptr i64 %a to ptr
        %b = call i64 @grass_argument(ptr %run, i32 1)
        %o = inttoptr i64 %b to ptr
      \(body)
        ret void
      }
      """
    let module = try IRModule(Array(text.utf8), name: "sample")
    let entry = try #require(module.functions.first { $0.name == "sample" })
    try Translation(monitor: "sample", context: module.context, entry: entry).apply(in: module)
    try module.verify(name: "sample")
    return module.text
  }

  // MARK: Stages

  @Test func itemsAreGivenToTheLanesOfTheNextStage() throws {
    let result = try run(
      """
      if (grass_stage(run) == 0) { grass_next(run, 1, 2); grass_next(run, 3, 4); emit(run, grass_item(run, 0)); }
      else if (grass_lane(run) == 63) emit(run, grass_item(run, 0) * 100 + grass_item(run, 1) * 10 + grass_stage(run));
      if (grass_stage(run) && grass_lanes(run) != 64) emit(run, 7);
      """)
    #expect(result.words == [0, 121, 341] && result.faults.isEmpty)
  }

  @Test func stagesEnd() throws {
    // Each leaves work for a next one.
    let result = try run("if (grass_lane(run) == 0) { emit(run, grass_stage(run)); grass_next(run, 0, 0); }")
    #expect(result.words == Array(0..<16) && result.faults.isEmpty)
  }

  @Test func moreItemsThanThereIsRoomForMarkTheResult() throws {
    let result = try run(
      "if (grass_stage(run) == 0) for (int i = 0; i < 1100; i++) grass_next(run, i, 0);"
        + "if (grass_stage(run) == 1) grass_next(run, 0, 0);"
        + "if (grass_stage(run) == 2 && grass_lane(run) == 0 && grass_item(run, 0)) emit(run, 1);")
    #expect(
      result.words.isEmpty && result.faults.count == 8 && result.faults.allSatisfy { $0 == GRASS_FAULT_FULL.rawValue })
  }

  // MARK: What is refused

  @Test(arguments: [
    ("((struct task *)kernel_page)->pid = 3;", "stores to field 'pid'"),
    ("variable = 3;", "stores to a variable of the kernel"),
    ("emit(run, again(3));", "calls itself"),
    ("unknown_function();", "unknown_function"),
    ("emit(run, ((u64 (*)(void))kernel_page)());", "through a pointer"),
    ("static u64 kept; emit(run, kept++);", "kept"),
    ("struct task whole = *(struct task *)kernel_page; emit(run, whole.pid);", "whole kernel struct"),
    ("char big[100000]; big[grass_lane(run)] = 1; emit(run, big[grass_lanes(run)]);", "16 KiB"),
    ("__builtin_trap();", "llvm.trap"),
    ("__sync_fetch_and_add((u64 *)kernel_page, 1);", "atomic"),
  ])
  func refusals(_ source: String, _ why: String) throws {
    let error = try #require(throws: LLViewError.self) { try run(source) }
    #expect("\(error)".contains(why), "\(error)")
  }

  @Test func garbageIsNoModule() throws {
    #expect(throws: LLViewError.self) {
      _ = try BoundMonitor([1, 2, 3], name: "sample", for: SampleKernel.names())
    }
  }

  private struct Outcome {
    var words: [UInt64]
    var faults: [UInt32]
  }

  /// Compiles and runs a monitor's body.
  @discardableResult
  private func run(_ body: String) throws -> Outcome {
    let result = try SampleKernel.run(try SampleKernel.monitor(body))
    return Outcome(words: result.words, faults: result.faults.map(\.code))
  }
}

extension MonitorResult {
  /// The first word of each record.
  var words: [UInt64] {
    records.map { record in
      let bytes = Array(record.bytes)
      return (try? ByteReader(bytes.span.bytes).u64(0)) ?? .max
    }
  }
}

extension String {
  fileprivate func components(of part: String) -> Int { ranges(of: part).count }
}
