import Foundation
import KernelInfo
import KernelViews
import Lab
import LinuxKernel
import Memory
import Testing

extension OwnGuestTests {
  /// Registers that CPUs save when their kernel dies, as images have them.
  @Suite(.serialized) struct RegistersTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// What is looked at of x86-64's `struct elf_prstatus`.
    private struct Status {
      let pid: Int
      let instruction, stack: UInt64
      let segment: UInt64

      init(_ bytes: [UInt8]) throws {
        let reader = ByteReader(bytes.span.bytes)
        pid = Int(try reader.u32(32))
        func register(_ number: Int) throws -> UInt64 { try reader.u64(112 + 8 * number) }
        (instruction, segment, stack) = (try register(16), try register(17), try register(19))
      }
    }

    /// All CPUs but the one that panics save theirs where the kernel was told to; one is in a program, one in the kernel.
    @Test(arguments: ["6.1", "6.12"]) func anImageHasWhatCPUsSaved(_ kernel: String) throws {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-registers-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      func image(_ format: String) throws -> String {
        let path = folder.appendingPathComponent("image.\(UUID().uuidString)").path
        let dump = try grassctl.run(
          ["dump", "--level", "31", "--format", format, "--memory", guest.memoryPath, "-o", path])
        #expect(dump.status == 0, "\(dump.errors)")
        return path
      }
      let guest = try Guest(
        GuestOptions(kernel: kernel, memory: 512, cpus: 3, sleepers: 3, commandLine: "crash_kexec_post_notifiers"))
      defer { guest.shutDown() }
      let alive = try image("elf")
      #expect(try !runProgram("readelf", ["-n", alive]).contains("NT_PRSTATUS"))
      // One for each CPU, of which the panic takes one.
      let busy = try guest.run("for cpu in 0 1 2; do (while :; do :; done) > /dev/null 2>&1 & echo $!; done")
      let burners = Set(busy.text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) })
      try #require(burners.count == 3, "\(busy.text)")
      try guest.send("echo c > /proc/sysrq-trigger")
      try guest.waitForConsole("end Kernel panic")

      let path = try image("elf")
      let notes = try runProgram("readelf", ["-n", path])
      #expect(notes.matches(of: /CORE\s+0x00000150\s+NT_PRSTATUS/).count == 2, "\(notes)")
      #expect(notes.contains("VMCOREINFO"))
      let core = try Kernel(memory: try #require(try MemoryImage.openReadable(path).first))
      let saved = core.savedRegisters()
      #expect(saved.count == 2 && Set(saved.keys).isSubset(of: 0..<3))
      // As they lie in the file: the notes come first.
      let head = try FileHandle(forReadingFrom: URL(filePath: path)).read(upToCount: 1 << 20) ?? Data()
      for status in saved.values { #expect(head.range(of: Data(status)) != nil) }
      let statuses = try saved.values.map(Status.init)
      let pids = Set(try core.tasks().tasks.map { Int($0.tid) })
      for status in statuses {
        #expect(status.pid == 0 || pids.contains(status.pid), "\(status)")
        if status.segment & 3 == 3 {
          #expect(status.instruction < 1 << 47 && status.stack < 1 << 47, "\(status)")
        } else {
          let name = core.symbols.symbol(containing: VirtualAddress(status.instruction))
          #expect(name != nil && status.stack >= 0xffff_8000_0000_0000, "\(status)")
        }
      }
      #expect(statuses.contains { burners.contains($0.pid) }, "\(statuses), \(burners)")

      let kdump = try FileHandle(forReadingFrom: URL(filePath: try image("kdump"))).readToEnd() ?? Data()
      for status in saved.values { #expect(kdump.range(of: Data(status)) != nil) }
    }
  }
}
