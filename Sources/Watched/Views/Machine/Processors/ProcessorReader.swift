import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads each CPU's account of its time, and its run queue.
///
/// Source: fs/proc/stat.c, `show_stat`; kernel/sched/sched.h, `struct rq`.
struct ProcessorReader: KernelReader {
  static let subject = "the CPUs"

  private struct Account: KernelShape {
    static let type = "kernel_cpustat"
    let times = Field<[UInt64]>("cpustat")
  }

  private struct Queue: KernelShape {
    static let type = "rq"
    let running = Field<UInt64>("nr_running")
    let switches = Field<UInt64>("nr_switches")
    let current = Field<VirtualAddress>("curr")
  }

  private struct Task: KernelShape {
    static let type = "task_struct"
    let tid = Field<Int32>("pid")
    let name = Field<[UInt8]>("comm")
  }

  private let accountVariable, queueVariable: VirtualAddress
  private let account: Bound<Account>
  private let kinds: [Int]
  private let queue: Bound<Queue>
  private let task: Bound<Task>
  private let clock: ClockReader

  init(kernel: Kernel) throws {
    accountVariable = try kernel.symbol("kernel_cpustat", for: Self.self)
    queueVariable = try kernel.symbol("runqueues", for: Self.self)
    account = try Bound(kernel.types)
    let count = Int64(account.times.place.size / 8)
    kinds = try ["USER", "NICE", "SYSTEM", "IRQ", "SOFTIRQ", "STEAL"].map { kind in
      let index = try kernel.types.requiredEnumerator("CPUTIME_\(kind)")
      guard (0..<count).contains(index) else {
        throw KernelError(Self.subject, .inconsistent("CPUTIME_\(kind) is \(index)"))
      }
      return Int(index)
    }
    queue = try Bound(kernel.types)
    task = try Bound(kernel.types)
    clock = try ClockReader(kernel: kernel)
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace) throws -> ProcessorSample {
    var batch = ReadBatch<VirtualAddress>()
    let time = clock.add(to: &batch)
    let gathered = batch.add(account, at: cpus.map { $0.address(of: accountVariable) })
    space.read(&batch)
    let accounts = gathered.structs(in: batch)
    var sample = ProcessorSample(uptime: try clock.read(time, batch).uptime)
    let queues = space.read(queue, at: cpus.map { $0.address(of: queueVariable) })
    let tasks = space.read(task, at: queues.pointers(\.current))
    sample.cpus = queues.compactMap(&sample.faults) { (queue) throws(MemoryFault) in
      let times = try accounts[queue.index].times
      let task = tasks[queue.index]
      return ProcessorState(
        number: cpus[queue.index].number, times: kinds.map { times[$0] }, running: try queue.running,
        contextSwitches: try queue.switches, currentTID: try task.tid, currentName: try task.name)
    }
    return sample
  }
}
