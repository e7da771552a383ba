import KernelInfo
import KernelViews
import Memory
import Samples
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

private typealias Place = SyntheticLinux.Place

/// A small Linux that lists functions alone: what leads to its tasks is found by its form, or refused.
struct VariableSearchTests {
  private func kernel(_ change: (inout SyntheticLinux) -> Void = { _ in }) throws -> Kernel {
    var linux = SyntheticLinux(listsData: false)
    change(&linux)
    return try Kernel(memory: linux.memory)
  }

  /// The text of the refusal.
  private func refusal(_ change: (inout SyntheticLinux) -> Void) -> String {
    let error = #expect(throws: KernelError.self) { try kernel(change) }
    return error?.description ?? ""
  }

  @Test func variablesAreFound() throws {
    let kernel = try kernel()
    #expect(!kernel.found.listsVariables)
    #expect(kernel.symbols.address(of: "init_task")?.rawValue == Place.initTask)
    #expect(kernel.symbols.address(of: "init_pid_ns")?.rawValue == Place.pidNamespace)
    #expect(kernel.symbols.address(of: "init_uts_ns")?.rawValue == Place.names)
    #expect(kernel.symbols.address(of: "page_offset_base")?.rawValue == Place.bases)
    #expect(kernel.symbols.address(of: "vmemmap_base")?.rawValue == Place.bases + 16)
    #expect(kernel.symbols.address(of: "prb")?.rawValue == nil)
    let table = try kernel.tasks(TaskQuery(includesThreads: true))
    #expect(table.faults.isEmpty && table.tasks.map(\.tid) == SyntheticLinux.pidNumbers)
    // What is not found is refused by its name.
    let error = #expect(throws: KernelError.self) { try kernel.log() }
    #expect(error?.description.contains("lists no symbol prb") == true)
    #expect(throws: KernelError.self) { try kernel.modules() }
  }

  @Test func firstTaskWhoseListDoesNotClose() {
    let link = SyntheticLinux(listsData: false).offset("task_struct", "tasks")
    for (task, field, value) in [
      (Place.initTask, "tasks.next", Place.task(0)), (Place.initTask, "tasks.prev", 0),
      (Place.task(1), "tasks.next", Place.task(1) + link), (Place.task(1), "tasks.prev", Place.initTask + link),
      (Place.task(2), "tasks.next", .max), (Place.initTask, "pid", 1), (Place.initTask, "mm", 0x1000),
      (Place.initTask, "group_leader", Place.task(0)), (Place.initTask, "real_parent", 0),
    ] as [(UInt64, String, UInt64)] {
      let text = refusal { $0.set("task_struct", at: task, [field: value]) }
      #expect(text.contains("no first task"), "\(field): \(text)")
    }
  }

  @Test func namesOfTheFirstTaskEverywhere() throws {
    let names = Array("swapper/0\0swapper\0".utf8)
    let text = (0..<0x1_0000).map { names[$0 % names.count] }
    let kernel = try kernel { $0.put(text, at: SyntheticKernel.base + 0xc_0000) }
    #expect(kernel.symbols.address(of: "init_task")?.rawValue == Place.initTask)
    // More of them than are looked at.
    _ = refusal { linux in
      linux.set("task_struct", at: Place.initTask, ["pid": 7])
      linux.put(text, at: SyntheticKernel.base + 0xc_0000)
    }
  }

  @Test func namespacesThatDisagree() {
    for (structure, place, field) in [
      ("nsproxy", Place.namespaces, "pid_ns_for_children"), ("pid", Place.firstPID, "numbers.ns"),
      ("task_struct", Place.initTask, "thread_pid"), ("task_struct", Place.initTask, "nsproxy"),
    ] {
      for value in [0, Place.names, Place.task(0), .max] as [UInt64] {
        let text = refusal { $0.set(structure, at: place, [field: value]) }
        #expect(text.contains("the variables of Linux"), "\(text)")
      }
    }
  }

  @Test func basesThatLie() {
    let direct = SyntheticKernel.directMap
    for bases in [
      [0, 0, 0], [direct, direct, direct], [direct + 1 << 30, direct + 1 << 38, Place.memoryMapStart],
      [direct, direct + 1 << 38, direct + 1 << 41], [.max, .max, .max],
    ] as [[UInt64]] {
      let text = refusal { $0.put(bases.flatMap { bytes($0) }, at: Place.bases) }
      #expect(text.contains("page tables"), "\(text)")
    }
    // Hundreds of them, of which one holds.
    #expect(throws: Never.self) {
      try kernel { linux in
        for index in 0..<1000 as Range<UInt64> {
          linux.put(
            bytes(direct + index << 30, direct + 1 << 45, direct + 1 << 46),
            at: SyntheticKernel.base + 0xc_0000 + index * 24)
        }
      }
    }
  }
}
