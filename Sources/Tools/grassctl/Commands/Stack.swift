import ArgumentParser
import KernelViews
import Output

struct Stack: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the kernel stacks of tasks that do not run, with symbols.",
    discussion: """
      Innermost function first, as /proc/PID/stack, with the scheduler's own functions on top. Of a process all threads \
      are shown. A stack that does not follow from the kernel's own tables ends with what is wrong.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Argument(help: "Processes or threads.")
  var pids: [Int32] = []

  @Flag(help: "Every thread of the host.")
  var all = false

  func validate() throws {
    if pids.isEmpty != all { throw ValidationError("Give either process ids or --all: whose stacks?") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var table = try reporting { try kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false)) }
    if !all { table.tasks.removeAll { !pids.contains($0.tgid) && !pids.contains($0.tid) } }
    let missing = pids.filter { pid in !table.tasks.contains { $0.tgid == pid || $0.tid == pid } }
    let stacks = try reporting { try kernel.stacks(of: table.tasks) }
    if output.json {
      writeOutput(JSON.lines(stacks.stacks.map(Self.json)))
    } else {
      writeOutput(stacks.stacks.map(Self.text).joined(separator: "\n"))
    }
    if !missing.isEmpty {
      writeNote("there is no process or thread \(missing.map { "\($0)" }.joined(separator: ", "))")
      throw ExitStatus.partial
    }
    let broken = stacks.stacks.compactMap { stack in
      if case .broken(let fault) = stack.ending { fault } else { nil }
    }
    try reportFaults((all ? table.faults : []) + stacks.faults + broken)
  }

  private static func text(_ frame: KernelStack.Frame) -> String {
    let module = frame.module.map { " [\($0.printable)]" } ?? ""
    guard let place = frame.place else { return "\(frame.address)\(module)" }
    return Array(place.description.utf8).printable
  }

  private static func text(_ stack: KernelStack) -> String {
    let id = stack.tid == stack.tgid ? "\(stack.tid)" : "\(stack.tgid)/\(stack.tid)"
    var text = "\(id) \(stack.comm.printable)\n"
    for frame in stack.frames { text += "  \(Self.text(frame))\n" }
    switch stack.ending {
    case .complete: break
    case .running: text += "  (running)\n"
    case .released: text += "  (ended)\n"
    case .broken(let fault): text += "  (no further: \(fault))\n"
    }
    return text
  }

  private static func json(_ stack: KernelStack) -> JSON {
    var members: [(String, JSON)] = [
      ("pid", .integer(stack.tid)), ("tgid", .integer(stack.tgid)), ("comm", .bytes(stack.comm)),
      ("stack", .array(stack.frames.map { .string(text($0)) })),
      ("addresses", .array(stack.frames.map { .string("\($0.address)") })),
    ]
    switch stack.ending {
    case .complete: members.append(("ending", .string("complete")))
    case .running: members.append(("ending", .string("running")))
    case .released: members.append(("ending", .string("ended")))
    case .broken(let fault): members += [("ending", .string("broken")), ("error", .string("\(fault)"))]
    }
    return .object(members)
  }
}
