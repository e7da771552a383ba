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

/// Symbols, values and structs of a small Linux written in code.
struct ExpertViewTests {
  private func kernel(_ change: (inout SyntheticLinux) -> Void = { _ in }) throws -> Kernel {
    var linux = SyntheticLinux()
    change(&linux)
    return try Kernel(memory: linux.memory)
  }

  @Test func symbolsBothWays() throws {
    let map = try kernel().symbolMap()
    let address = try #require(map.address("init_task"))
    #expect(address.rawValue == Place.initTask)
    #expect(map.address("init_task+0x10") == address + 16)
    #expect(map.address("0x1000")?.rawValue == 0x1000 && map.address("ffff")?.rawValue == 0xffff)
    #expect(map.address("no such thing") == nil && map.address("+") == nil && map.address("init_task+zz") == nil)
    #expect(map.place(of: address + 5)?.description == "init_task+0x5/0x1000")
    #expect(map.place(of: VirtualAddress(0x1000)) == nil)
  }

  @Test func valuesByPath() throws {
    let kernel = try kernel()
    let task = VirtualAddress(Place.task(0))
    func number(_ path: String) throws -> UInt64? {
      switch try kernel.value(of: "task_struct", at: task, path: path).value {
      case .unsigned(let number): number
      case .signed(let number): UInt64(bitPattern: number)
      case .pointer(let address): address.rawValue
      default: nil
      }
    }
    #expect(try number(".pid") == 1)
    #expect(try number("pid") == 1)
    #expect(try number(".se.sum_exec_runtime") == 100)
    #expect(try number(".mm") == Place.memoryMap)
    #expect(
      try kernel.value(of: "task_struct", at: task, path: ".pid_links[1].next").address
        == task + Int((try kernel.types.structure("task_struct").field("pid_links").offset) + 16))
    for path in [".nothing", ".pid.x", ".comm[", "[0]", ".pid[0]", "..", "->", ".mm->total_vm", "pid comm"] {
      #expect(throws: KernelError.self) { try kernel.value(of: "task_struct", at: task, path: path) }
    }
    #expect(throws: KernelError.self) { try kernel.value(of: "task_struct", at: VirtualAddress(0), path: ".pid") }
    #expect(throws: KernelError.self) { try kernel.value(of: "no_struct", at: task) }
  }

  @Test func structsByName() throws {
    let kernel = try kernel()
    let tasks = try kernel.structs("task_struct", at: [VirtualAddress(Place.task(0)), VirtualAddress(0x10)])
    #expect(try tasks[0].get().text("comm") == "init" && tasks[0].get().signed("pid") == 1)
    #expect(throws: KernelError.self) { try tasks[1].get() }
    let shell = try kernel.struct("task_struct", at: VirtualAddress(Place.task(2)))
    #expect(try shell.follow("mm", to: "mm_struct").unsigned("total_vm") == 500)
    #expect(throws: KernelError.self) { try shell.unsigned("nothing") }
    #expect(try kernel.struct("task_struct", at: "init_task").text("comm") == "swapper/0")
  }
}
