import Memory
import Monitor
import Paging
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
    ("emit(run, 1); for (;;) ;", 9),
    ("emit(run, 1); u64 n = 0; while (n < ~0ul) { n += grass_lane(run); }", 9),
    ("emit(run, 1); emit(run, *(volatile u64 *)0x1000);", 6),
    ("emit(run, 1); emit(run, *(volatile u64 *)0);", 6),
    ("emit(run, 1); emit(run, *(volatile u64 *)0x9000000000000000);", 1),
    ("emit(run, 1); emit(run, *(volatile u64 *)0xffffaaaaaaaa0000);", 2),
    ("emit(run, 1); emit(run, *(volatile u64 *)(kernel_page + 1));", 5),
    ("emit(run, 1); *(volatile u64 *)(kernel_page + 8 * grass_lanes(run)) = 1;", 7),
    ("emit(run, 1); u64 own[4]; own[grass_lanes(run) + 9] = 3; emit(run, own[grass_lanes(run)]);", 8),
    ("emit(run, 1); for (;;) emit(run, 1);", 10),
    ("emit(run, 1); emit(run, 7 / grass_lane(run));", 11),
  ])
  func faultsMarkTheResult(_ source: String, _ fault: UInt32) throws {
    let result = try run(source)
    #expect(result.faults == [fault])
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
    #expect(result.faults.allSatisfy { $0.code == 10 })
  }

  @Test func copiesCrossPagesAndStopAtFaults() throws {
    let result = try run(
      "u64 own[2]; __builtin_memcpy(own, kernel_page + 8, 16); emit(run, own[0] & 0xffffffff); emit(run, own[1] & 255);"
    )
    #expect(result.words == [0x1234, 0xb1])
    #expect(try run("u64 own[2]; __builtin_memcpy(own, (void *)0x10, 16); emit(run, own[0]);").faults == [6])
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
