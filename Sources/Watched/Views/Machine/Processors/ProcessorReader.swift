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

  private let account: VirtualAddress
  private let accountSize: Int
  private let kinds: [Int]
  private let queue: VirtualAddress
  private let queueFields: FieldSelection
  private let running, switches, current: FieldSelection.Field
  private let taskFields: FieldSelection
  private let tid, name: FieldSelection.Field
  private let clock: ClockReader

  init(kernel: Kernel) throws {
    account = try kernel.symbol("kernel_cpustat", for: Self.self)
    accountSize = try kernel.types.structure("kernel_cpustat").size
    let size = accountSize
    kinds = try ["USER", "NICE", "SYSTEM", "IRQ", "SOFTIRQ", "STEAL"].map { kind in
      let index = try kernel.types.requiredEnumerator("CPUTIME_\(kind)")
      guard (0..<Int64(size / 8)).contains(index) else {
        throw KernelError(Self.subject, .inconsistent("CPUTIME_\(kind) is \(index)"))
      }
      return Int(index)
    }
    queue = try kernel.symbol("runqueues", for: Self.self)
    var fields = FieldSelection(try kernel.types.structure("rq"))
    running = try fields.want("nr_running")
    switches = try fields.want("nr_switches")
    current = try fields.want("curr")
    queueFields = fields
    fields = FieldSelection(try kernel.types.structure("task_struct"))
    tid = try fields.want("pid")
    name = try fields.want("comm")
    taskFields = fields
    clock = try ClockReader(kernel: kernel)
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace) throws -> ProcessorSample {
    var batch = ReadBatch<VirtualAddress>()
    let time = clock.add(to: &batch)
    let first = batch.entries.count
    for cpu in cpus { batch.add(cpu.address(of: account), count: accountSize) }
    space.read(&batch)
    var sample = ProcessorSample(uptime: try clock.read(time, batch).uptime)
    let queues = space.read(queueFields, at: cpus.map { $0.address(of: queue) })
    let tasks = space.read(
      taskFields, at: queues.indices.map { (try? queues.pointer($0, current)) ?? VirtualAddress(0) })
    for (index, cpu) in cpus.enumerated() {
      do throws(MemoryFault) {
        let reader = try batch.reader(first + index)
        var times: [UInt64] = []
        for kind in kinds { times.append(try reader.u64(kind * 8)) }
        sample.cpus.append(
          ProcessorState(
            number: cpu.number, times: times, running: try queues.load(index, running),
            contextSwitches: try queues.load(index, switches),
            currentTID: Int32(truncatingIfNeeded: try tasks.signed(index, tid)),
            currentName: try tasks.string(index, name)))
      } catch {
        sample.faults.append(error)
      }
    }
    return sample
  }
}
