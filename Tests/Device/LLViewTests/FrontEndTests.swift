import Foundation
import LLView
import Testing

struct FrontEndTests {
  @Test func namesComeFromFiles() {
    #expect(FrontEnd.name(of: "a/b/ps.c") == "ps")
    #expect(FrontEnd.name(of: "ps.tar.c") == "ps")
  }

  /// The documentation's example, in a folder where nothing else lies.
  @Test func aMonitorCompilesWhereverItLies() throws {
    let folder = try Folder()
    let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../docs/developers.md")
    let text = try String(contentsOf: page.standardizedFileURL, encoding: .utf8)
    let example = try #require(text.split(separator: "```c\n").dropFirst().first?.split(separator: "```").first)
    #expect(try FrontEnd().compile(folder.write(String(example), "load.c")).starts(with: Array("BC".utf8)))
    let source = """
      #include "records/ps.h"
      #include "tasks.h"
      MONITOR(first) {
        struct task_struct *task = task_of_lane(run);
        if (!task) return;
        struct grass_ps_task *record = grass_emit(run, GRASS_PS_TASK, sizeof *record);
        record->pid = task->pid;
      }
      """
    #expect(try FrontEnd().compile(folder.write(source, "first.c")).starts(with: Array("BC".utf8)))
  }

  @Test func soDoesOneInSwift() throws {
    let folder = try Folder()
    _ = try folder.write(
      """
      #include "window.h"
      KERNEL(s32 first_pid(void), init_task.pid)
      #ifndef __swift__
      void elsewhere_lane(struct grass_lane_state *run);
      MONITOR(elsewhere) { elsewhere_lane(run); }
      #endif
      """, "elsewhere.h")
    let source = """
      @c(elsewhere_lane) public func elsewhere(run: OpaquePointer) {
        grass_emit(run, 1, 8)?.storeBytes(of: first_pid(), as: Int32.self)
      }
      """
    #expect(try FrontEnd().compile(folder.write(source, "elsewhere.swift")).starts(with: Array("BC".utf8)))
  }

  /// What lies beside a monitor comes before what the compiler has.
  @Test func ownHeadersComeFirst() throws {
    let folder = try Folder()
    _ = try folder.write("#error of my own", "kernel.h")
    let error = #expect(throws: LLViewError.self) {
      try FrontEnd().compile(folder.write("#include \"kernel.h\"", "mine.c"))
    }
    #expect("\(error as Any)".contains("of my own"))
  }

  private final class Folder {
    private let url = FileManager.default.temporaryDirectory.appending(path: "grass-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func write(_ text: String, _ name: String) throws -> String {
      let file = url.appending(path: name)
      try Data(text.utf8).write(to: file)
      return file.path
    }
  }
}
