import Binding
public import KernelViews
import LinuxKernel
import Memory

/// A thread of the kernel runs code that belongs to nothing.
public struct ForeignThread: Detector {
  public static let name = "foreign-thread"
  public static let kind = Finding.Kind.attack
  public static let summary = "A thread of the kernel was started to run code that belongs to nothing."
  public static let rule =
    "The function that a thread of the kernel was started with is one of the kernel's or of a module of the list."
  public static let looksLike = "A module that is being unloaded stops its threads first; both looks have to agree."
  public static let remedy = """
    Treat the host as taken over. See where the thread is: grassctl stack TID; keep the memory, and kill nothing.
    """
  public static let techniques = ["T1014", "T1036.004"]

  private struct Reader: KernelReader {
    static let subject = "the functions of the kernel's threads"

    struct Task: KernelShape {
      static let type = "task_struct"
      let flags = Field<UInt64>("flags")
      let thread = Field<VirtualAddress?>("worker_private", before: "5.17, e32cf5dfbe22", "set_child_tid")
    }

    struct Thread: KernelShape {
      static let type = "kthread"
      let function = Field<VirtualAddress?>("threadfn")
    }

    let task: Bound<Task>
    let thread: Bound<Thread>

    init(kernel: Kernel) throws { (task, thread) = try kernel.types.bind() }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let reader = try look.kernel.reader(Reader.self)
    let tasks = try look.tasks()
    let owners = try look.codeOwners()
    let space = look.kernel.addressSpace
    let image = look.kernel.found.imageRange
    var faults = owners.faults
    let found = space.read(reader.task, at: tasks.tasks.map(\.address)).compactMap(&faults) {
      (task) throws(MemoryFault) -> (task: KernelTask, thread: VirtualAddress)? in
      // PF_KTHREAD, include/linux/sched.h.
      guard try task.flags & 0x20_0000 != 0, let thread = try task.thread, thread.isKernels else {
        return nil
      }
      return (tasks.tasks[task.index], thread)
    }
    let sightings = space.read(reader.thread, at: found.map(\.thread)).compactMap(&faults) {
      (thread) throws(MemoryFault) -> Sighting? in
      // What the boot alone needed is part of the image, too.
      guard let function = try thread.function, owners.owner(of: function) == nil, !image.contains(function) else {
        return nil
      }
      let task = found[thread.index].task
      return Sighting(
        [.task(task)], .critical, .strong,
        "\(Subject.task(task).text), a thread of the kernel, runs code at \(function), which belongs to nothing",
        evidence: [
          .init(
            "the function that the thread was started with", at: function,
            expected: "one of the kernel or of a module of the list")
        ])
    }
    return Sightings(sightings, outOf: found.count, faults: faults)
  }
}

/// A task sleeps in code that belongs to nothing.
public struct ForeignFrame: Detector {
  public static let name = "foreign-frame"
  public static let kind = Finding.Kind.attack
  public static let summary = "A task sleeps in a call that came from code that belongs to nothing."
  public static let rule = """
    Each return address on the kernel stack of a task that does not run lies in code with an owner. Stacks are unwound by the kernel's \
    own tables; where those end, nothing is said.
    """
  public static let looksLike = """
    A module that is being unloaded: both looks have to agree. Trampolines of tracers, probes and BPF are known by their tables.
    """
  public static let remedy = """
    Treat the host as taken over. See the whole stack: grassctl stack TID; what code that is: grassctl read ADDRESS.
    """
  public static let techniques = ["T1014"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    // Only code that can be executed and has no owner can have been run without one.
    let strays = try look.ownerlessCode()
    guard !strays.isEmpty else { return Sightings() }
    let tasks = try look.tasks().tasks
    let table = try look.stacks()
    var sightings: [Sighting] = []
    for (task, stack) in zip(tasks, table.stacks) {
      var addresses = stack.frames.map(\.address)
      // Where the unwinding ended in such code.
      if case .broken(let fault) = stack.ending, case .virtual(let address) = fault.place { addresses.append(address) }
      guard let index = addresses.firstIndex(where: { address in strays.contains { $0.contains(address.rawValue) } })
      else { continue }
      let callee = index > 0 ? stack.frames[index - 1].place?.name : nil
      sightings.append(
        Sighting(
          [.task(task)], .critical, .strong,
          "\(Subject.task(task).text) sleeps in \(callee ?? "a call") that code at \(addresses[index]) made, which belongs to "
            + "nothing",
          evidence: [
            .init("frame \(index) of its stack", at: addresses[index], expected: "code with an owner")
          ], persists: [addresses[index].rawValue]))
    }
    return Sightings(sightings, outOf: tasks.count, faults: table.faults)
  }
}
