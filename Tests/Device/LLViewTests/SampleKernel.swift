import Devices
import Glibc
import KernelInfo
import Memory
import Paging
import Records
import Samples
import Testing

@testable import LLView

/// A kernel of a few types and one page of memory, and monitors of a few lines of C for it.
enum SampleKernel {
  static let page: UInt64 = 0xffff_8000_0000_0000

  /// `struct task` of 64 bytes: `u64 first; u32 pid; u32 …; 16: 3 bits, 5 bits "bits", 1 bit "flag"; 24: struct inner
  /// { u32 count; } inner; 32: union { u8 hidden; }`, and `struct item` of 24 bytes with its value at 16.
  static func names(release: String = "9.9.9-test") throws -> KernelNames {
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
    return KernelNames(release: release, types: try TypeTable(btf.bytes, release: release)) { name in
      switch name {
      case "variable": VirtualAddress(page + 8)
      case "counter": VirtualAddress(8)
      default: nil
      }
    }
  }

  static let prologue = """
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
    static __attribute__((unused)) void emit(struct grass_lane_state *run, u64 value) { *(u64 *)grass_emit(run, 1, 8) = value; }
    static __attribute__((noinline, unused)) u64 again(u64 n) { return n ? n * again(n - 1) : 1; }

    """

  /// A monitor whose body is given, bound to the sample kernel.
  static func monitor(_ body: String, name: String = "sample", release: String = "9.9.9-test") throws -> BoundMonitor {
    let folder = try TestFolder()
    defer { withExtendedLifetime(folder) {} }
    let source = folder.path + "/\(name).c"
    try folder.write(Array((prologue + "MONITOR(\(name)) {\n" + body + "\n}\n").utf8), to: "\(name).c")
    let front = FrontEnd(includePaths: [monitors])
    return try BoundMonitor(try front.compile(source), name: name, for: names(release: release))
  }

  /// Runs a monitor over the sample kernel's memory.
  static func run(
    _ monitor: BoundMonitor, lanes: Int = 1, arguments: [UInt64] = [], capacity: Int = 4096
  ) throws -> MonitorResult {
    let folder = try TestFolder()
    try folder.write(memory, to: "memory.raw")
    let file = try #require(try MemoryImage.open(folder.path + "/memory.raw").first)
    let space = AddressSpace(memory: file, format: .x86_64FourLevel, root: root)
    return try NativeMonitor(monitor).run(
      on: WatchedMachine(file, space: space, slide: 0), lanes: lanes, budget: 10_000, arguments: arguments,
      capacity: capacity)
  }

  /// Physical memory: four tables at 0x1000 to 0x4000, and the page at 0xffff800000000000, at 0x5000.
  static let memory: [UInt8] = {
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
    // A list that never comes back to its head at 0x200: 0x210 and 0x220 name each other.
    put(page + 0x210, 0x5200)
    put(page + 0x220, 0x5210)
    put(page + 0x210, 0x5220)
    return memory
  }()

  static let root = PhysicalAddress(0x1000)

  static let monitors: String = {
    let parts = #filePath.split(separator: "/").dropLast(4)
    return "/" + parts.joined(separator: "/") + "/monitors"
  }()
}

/// A folder that goes with its files when nobody needs it any more.
final class TestFolder {
  let path: String
  private var files: [String] = []

  init() throws {
    var name = Array("/tmp/grass-test-XXXXXX".utf8CString)
    _ = try #require(mkdtemp(&name))
    path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func write(_ bytes: [UInt8], to name: String) throws {
    files.append(name)
    let file = try #require(fopen(path + "/" + name, "w"))
    defer { fclose(file) }
    #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
  }

  deinit {
    for file in files { unlink(path + "/" + file) }
    rmdir(path)
  }
}
