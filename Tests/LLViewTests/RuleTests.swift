import Glibc
import KernelInfo
import Memory
import Monitor
import Paging
import Samples
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
      _ = try BoundMonitor([1, 2, 3], name: "sample", for: Self.kernel())
    }
  }

  // MARK: The sample kernel

  private static let page: UInt64 = 0xffff_8000_0000_0000

  /// `struct task` of 64 bytes: `u64 first; u32 pid; u32 …; 16: 3 bits, 5 bits "bits", 1 bit "flag"; 24: struct inner
  /// { u32 count; } inner; 32: union { u8 hidden; }`, and `struct item` of 24 bytes with its value at 16.
  private static func kernel() throws -> KernelNames {
    var btf = BTFWriter()
    let u8 = btf.integer("unsigned char", size: 1, signed: false)
    let u32 = btf.integer("unsigned int", size: 4, signed: false)
    let u64 = btf.integer("unsigned long", size: 8, signed: false)
    let inner = btf.structure("inner", size: 4, [.init(name: "count", type: u32, offset: 0)])
    let hidden = btf.structure("", size: 1, union: true, [.init(name: "hidden", type: u8, offset: 0)])
    _ = btf.structure(
      "task", size: 64,
      [
        .init(name: "first", type: u64, offset: 0), .init(name: "pid", type: u32, offset: 64),
        .init(name: "bits", type: u32, offset: 16 * 8 + 3, size: 5),
        .init(name: "flag", type: u32, offset: 17 * 8, size: 1),
        .init(name: "inner", type: inner, offset: 24 * 8), .init(name: "", type: hidden, offset: 32 * 8),
      ])
    _ = btf.structure("item", size: 24, [.init(name: "value", type: u32, offset: 16 * 8)])
    return KernelNames(release: "9.9.9-test", types: try TypeTable(btf.bytes, release: "9.9.9-test")) { name in
      switch name {
      case "variable": VirtualAddress(page + 8)
      case "counter": VirtualAddress(8)
      default: nil
      }
    }
  }

  private static let prologue = """
    #include "grass.h"
    KERNEL_STRUCTS
    struct inner { u32 count; };
    struct item { u32 value; };
    struct task { u32 pid; struct inner inner; u32 bits : 5; u32 flag : 1; u64 gone; union { u8 hidden; }; };
    struct task___old { u64 ancient; u32 pid; };
    struct task___wide { u64 pid; };
    struct nothing { int a; };
    END_KERNEL_STRUCTS
    extern u32 variable, counter, nowhere;
    extern u32 absent __attribute__((weak));
    extern void unknown_function(void);
    #define kernel_page ((char *)0xffff800000000000)
    static __attribute__((unused)) void emit(struct grass_run *run, u64 value) { *(u64 *)grass_emit(run, 1, 8) = value; }
    static __attribute__((noinline, unused)) u64 again(u64 n) { return n ? n * again(n - 1) : 1; }
    MONITOR(sample) {

    """

  private struct Outcome {
    var words: [UInt64]
    var faults: [UInt32]
  }

  /// Compiles and runs a monitor's body. The memory is four page tables and a page at 0xffff800000000000.
  @discardableResult
  private func run(_ body: String) throws -> Outcome {
    var name = Array("/tmp/grass-rule-XXXXXX".utf8CString)
    _ = try #require(mkdtemp(&name))
    let folder = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let source = folder + "/sample.c"
    let image = folder + "/memory.raw"
    defer {
      unlink(source)
      unlink(image)
      rmdir(folder)
    }
    try write(Array((Self.prologue + body + "\n}\n").utf8), to: source)
    // Physical memory: four tables at 0x1000 to 0x4000, the page at 0x5000.
    var memory = [UInt8](repeating: 0, count: 0x6000)
    func put(_ value: UInt64, _ offset: Int) {
      for byte in 0..<8 { memory[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    put(0x2003, 0x1000 + 256 * 8)  // Level 4, entry 256: the upper half's first.
    put(0x3003, 0x2000)
    put(0x4003, 0x3000)
    put(0x5003, 0x4000)
    put(0x1234, 0x5008)  // task.pid
    memory[0x5010] = 0b10110_001  // 3 other bits, then "bits".
    memory[0x5011] = 1  // flag
    memory[0x5018] = 77  // inner.count
    memory[0x5020] = 0x55  // hidden
    for item in 0..<3 { memory[0x5080 + item * 24 + 16] = UInt8(100 + item) }
    try write(memory, to: image)

    let front = FrontEnd(includePaths: [Self.monitors])
    let monitor = try NativeMonitor(
      BoundMonitor(try front.compile(source), name: "sample", for: Self.kernel()))
    let file = try #require(try MemoryImage.open(image).first)
    let space = AddressSpace(memory: file, format: .x86_64FourLevel, root: PhysicalAddress(0x1000))
    let result = monitor.run(on: WatchedMachine(file, space: space, slide: 0), budget: 10_000, capacity: 4096)
    return Outcome(
      words: result.records.map { record in
        let bytes = Array(record.bytes)
        return (try? ByteReader(bytes.span.bytes).u64(0)) ?? .max
      },
      faults: result.faults.map(\.code))
  }

  private static let monitors: String = {
    let parts = #filePath.split(separator: "/").dropLast(3)
    return "/" + parts.joined(separator: "/") + "/monitors"
  }()

  private func write(_ bytes: [UInt8], to path: String) throws {
    let file = try #require(fopen(path, "w"))
    defer { fclose(file) }
    #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
  }
}
