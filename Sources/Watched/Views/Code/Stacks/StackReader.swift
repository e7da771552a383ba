import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging
public import TaskViews

/// Unwinds the kernel stacks of tasks that do not run, all of them side by side.
///
/// A task that gives its CPU up leaves an `inactive_task_frame` at `thread.sp`; from there the kernel's own tables say
/// where each caller's frame is.
///
/// Source: arch/x86/kernel/unwind_orc.c, `__unwind_start` and `unwind_next_frame`.
struct StackReader: KernelReader {
  static let subject = "the kernel stacks"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let stack = Field<UInt64>("stack")
    let sp = Field<UInt64>("thread.sp")
    let onCPU = Field<UInt64>(optional: "on_cpu")
    let voluntary = Field<UInt64>("nvcsw")
    let involuntary = Field<UInt64>("nivcsw")

    /// What tells a task that ran meanwhile.
    static func state(of task: Reading<Task>) throws(MemoryFault) -> [UInt64] {
      [try task.stack, try task.sp, try task.onCPU, try task.voluntary, try task.involuntary]
    }
  }

  /// What a task leaves at the top of its stack.
  struct Frame: KernelShape {
    static let type = "inactive_task_frame"
    let bp = Place("bp")
    let caller = Place("ret_addr")
  }

  private let task: Bound<Task>
  let frame: Bound<Frame>
  let registers: Registers
  private let stackSize: UInt64
  let forkReturns: Set<UInt64>
  let tables: ORCTables

  /// Where registers lie in `pt_regs`.
  struct Registers: Sendable {
    let ip, sp, bp, cs, r10, r13, di, dx, ax: UInt64

    init(_ types: TypeTable) throws(KernelInfoError) {
      let layout = try types.structure("pt_regs")
      func offset(_ name: String) throws(KernelInfoError) -> UInt64 { UInt64(try layout.field(name).offset) }
      ip = try offset("ip")
      sp = try offset("sp")
      bp = try offset("bp")
      cs = try offset("cs")
      r10 = try offset("r10")
      r13 = try offset("r13")
      di = try offset("di")
      dx = try offset("dx")
      ax = try offset("ax")
    }
  }

  /// More frames than a stack has room for in practice; the kernel itself shows 64 (fs/proc/base.c).
  private static let mostFrames = 512
  /// Frames of all stacks together: tasks that share stacks must not take all memory here.
  private static let frameBudget = 1 << 21
  /// So many stacks are held at a time.
  private static let atOnce = 1024

  init(kernel: Kernel) throws {
    let types = kernel.types
    task = try Bound(types)
    frame = try Bound(types)
    registers = try Registers(types)
    // THREAD_SIZE is a macro; the first task's stack has it.
    let ends = [("__start_init_task", "__end_init_task"), ("__start_init_stack", "__end_init_stack")]
    let sizes = ends.compactMap { start, end -> UInt64? in
      guard let start = kernel.symbols.address(of: start), let end = kernel.symbols.address(of: end) else { return nil }
      return end.rawValue &- start.rawValue
    }
    stackSize = sizes.first { (1 << 13...1 << 16).contains($0) && $0 & ($0 - 1) == 0 } ?? 1 << 14
    forkReturns = Set(
      ["ret_from_fork", "ret_from_fork_asm"].flatMap { kernel.symbols.addresses(of: $0) }.map(\.rawValue))
    tables = try kernel.reader(ORCTables.self)
  }

  /// The unwinding of one stack.
  struct Unwinding: Sendable {
    /// The stack from `start` on, copied.
    let start: UInt64
    let bytes: [UInt8]
    let registers: Registers
    private(set) var sp: UInt64
    private(set) var bp: UInt64
    private(set) var ip: UInt64
    private(set) var isSignal: Bool
    private var saved: (address: UInt64, isFull: Bool)?
    private var savedBefore: UInt64?
    /// What to take for a frame pointer that is not known: 0 stands for one.
    private let bridge: UInt64?
    private(set) var addresses: [UInt64] = []
    /// Which of the addresses were found by the bridge.
    private(set) var bridged: [Int] = []
    private(set) var ending: KernelStack.Ending?

    init(
      start: UInt64, bytes: [UInt8], registers: Registers, sp: UInt64, bp: UInt64, ip: UInt64, isSignal: Bool,
      bridge: UInt64? = nil
    ) {
      self.bridge = bridge
      self.start = start
      self.bytes = bytes
      self.registers = registers
      self.sp = sp
      self.bp = bp
      self.ip = ip
      self.isSignal = isSignal
      arrive()
    }

    /// What the entry for the frame is looked up with: a call returns to the instruction behind it, which may belong to
    /// another function.
    var lookup: UInt64 { isSignal ? ip : ip &- 1 }

    private func word(_ address: UInt64) throws(MemoryFault) -> UInt64 {
      let (offset, overflow) = address.subtractingReportingOverflow(start)
      guard !overflow, offset < UInt64(bytes.count), address & 7 == 0 else {
        throw MemoryFault(.virtual(VirtualAddress(address)), .inconsistent("a frame outside the task's stack"))
      }
      return try ByteReader(bytes.span.bytes).u64(Int(offset))
    }

    /// A register as it was saved on entry; partial frames have only what the CPU itself saves.
    private func register(_ offset: UInt64) throws(MemoryFault) -> UInt64? {
      if let saved, saved.isFull { return try word(saved.address &+ offset) }
      if let savedBefore { return try word(savedBefore &+ offset) }
      return nil
    }

    private func needed(_ offset: UInt64) throws(MemoryFault) -> UInt64 {
      guard let value = try register(offset) else {
        throw MemoryFault(
          .virtual(VirtualAddress(ip)), .inconsistent("a frame that needs a register which was not saved"))
      }
      return value
    }

    /// Ends where the task came from user mode, or the address is none of code; else notes the frame.
    private mutating func arrive() {
      if let saved, let selector = try? word(saved.address &+ registers.cs), selector & 3 == 3 {
        ending = .complete
      } else if ip < 0xffff_ffff_8000_0000 {
        // The image and all modules lie in the last 2 GiB (Documentation/arch/x86/x86_64/mm.rst).
        ending = .broken(MemoryFault(.virtual(VirtualAddress(ip)), .inconsistent("a return to where no code is")))
      } else if addresses.count >= StackReader.mostFrames {
        ending = .broken(
          MemoryFault(
            .virtual(VirtualAddress(sp)), .inconsistent("a stack of more than \(StackReader.mostFrames) frames")))
      } else {
        addresses.append(ip)
      }
    }

    /// Goes on to the caller's frame.
    mutating func step(_ found: Result<ORCEntry?, MemoryFault>) {
      guard ending == nil else { return }
      do throws(MemoryFault) {
        try advance(try found.get() ?? .framePointer)
      } catch {
        ending = .broken(error)
      }
    }

    private mutating func advance(_ entry: ORCEntry) throws(MemoryFault) {
      let place = MemoryFault.Place.virtual(VirtualAddress(ip))
      switch entry.kind {
      case .undefined: throw MemoryFault(place, .inconsistent("code that says nothing of its stack"))
      case .endOfStack:
        ending = .complete
        return
      case .call, .registers, .partialRegisters: break
      }
      if let bridge, bp == 0, entry.spRegister == .bp || entry.spRegister == .bpIndirect {
        bp = bridge
        bridged.append(addresses.count)
      }
      let distance = UInt64(bitPattern: Int64(entry.spOffset))
      var frame: UInt64
      switch entry.spRegister {
      case .sp: frame = sp &+ distance
      case .bp: frame = bp &+ distance
      case .spIndirect: frame = try word(sp) &+ distance
      case .bpIndirect: frame = try word(bp &+ distance)
      case .r10: frame = try needed(registers.r10)
      case .r13: frame = try needed(registers.r13)
      case .di: frame = try needed(registers.di)
      case .dx: frame = try needed(registers.dx)
      case .ax: frame = try needed(registers.ax)
      case .undefined, .previousSP: throw MemoryFault(place, .inconsistent("a frame that hangs on no register"))
      }
      let before = (sp: sp, saved: saved)
      switch entry.kind {
      case .registers:
        ip = try word(frame &+ registers.ip)
        sp = try word(frame &+ registers.sp)
        saved = (frame, true)
        savedBefore = nil
      case .partialRegisters:
        // Only the end of pt_regs is there.
        let start = frame &- registers.ip
        ip = try word(start &+ registers.ip)
        sp = try word(start &+ registers.sp)
        if let saved = before.saved, saved.isFull { savedBefore = saved.address }
        saved = (start, false)
      default:
        ip = try word(frame &- 8)
        sp = frame
        saved = nil
        savedBefore = nil
      }
      isSignal = entry.isSignal
      let bpDistance = UInt64(bitPattern: Int64(entry.bpOffset))
      switch entry.bpRegister {
      case .undefined: if let value = try register(registers.bp) { bp = value }
      case .previousSP: bp = try word(frame &+ bpDistance)
      case .bp: bp = try word(bp &+ bpDistance)
      default: throw MemoryFault(place, .inconsistent("a frame pointer that hangs on no register"))
      }
      arrive()
      // A caller's frame lies above. What it had in user mode is another stack.
      if ending == nil, sp <= before.sp {
        addresses.removeLast()
        throw MemoryFault(place, .inconsistent("a stack that goes back to where it has been"))
      }
    }
  }

  // MARK: Reading

  func read(_ tasks: [KernelTask], code: CodeMap.Snapshot, in space: AddressSpace) -> StackTable {
    var table = StackTable()
    table.faults = code.faults
    let modules = tables.moduleTables(of: code.modules, in: space, &table.faults)
    var known: [UInt64: Result<ORCEntry?, MemoryFault>] = [:]
    var budget = Self.frameBudget
    for first in stride(from: 0, to: tasks.count, by: Self.atOnce) {
      let part = Array(tasks[first..<min(first + Self.atOnce, tasks.count)])
      guard budget > 0 else {
        table.faults.append(
          MemoryFault(.virtual(part[0].address), .inconsistent("stacks of more than \(Self.frameBudget) frames")))
        break
      }
      var (unwindings, endings) = begin(part.map(\.address), in: space)
      follow(&unwindings, modules, in: space, &known)
      for (index, task) in part.enumerated() {
        var stack = KernelStack(
          tid: task.tid, tgid: task.tgid, comm: task.comm,
          ending: unwindings[index]?.ending ?? endings[index] ?? .released)
        stack.frames = (unwindings[index]?.addresses ?? []).map { Self.frame($0, code) }
        budget -= stack.frames.count
        table.stacks.append(stack)
      }
    }
    table.faults += code.symbolFaults
    return table
  }

  /// Follows all stacks to their ends, side by side.
  func follow(
    _ unwindings: inout [Unwinding?], _ modules: [ORCTables.ModuleTable], in space: AddressSpace,
    _ known: inout [UInt64: Result<ORCEntry?, MemoryFault>]
  ) {
    while true {
      let open = unwindings.indices.filter { unwindings[$0].map { $0.ending == nil } ?? false }
      if open.isEmpty { break }
      let wanted = Set(open.compactMap { unwindings[$0]?.lookup }).filter { known[$0] == nil }
      known.merge(tables.entries(for: wanted.sorted(), modules: modules, in: space)) { _, new in new }
      for index in open {
        guard let lookup = unwindings[index]?.lookup else { continue }
        unwindings[index]?.step(known[lookup] ?? .success(nil))
      }
    }
  }

  /// The symbol is that of the call, the distance that of the return address, as the kernel prints it (`%pB`).
  static func frame(_ address: UInt64, _ code: CodeMap.Snapshot) -> KernelStack.Frame {
    let call = VirtualAddress(address &- 1)
    let place = code.symbol(at: call).map { place in
      SymbolPlace(
        name: place.name, type: place.type, address: place.address, size: place.size, offset: place.offset &+ 1,
        module: place.module)
    }
    return KernelStack.Frame(address: VirtualAddress(address), place: place, module: code.moduleName(of: call))
  }

  /// Copies the stacks, and again those whose tasks ran meanwhile.
  private func begin(
    _ addresses: [VirtualAddress], in space: AddressSpace
  ) -> (unwindings: [Unwinding?], endings: [KernelStack.Ending?]) {
    var unwindings = [Unwinding?](repeating: nil, count: addresses.count)
    var endings = [KernelStack.Ending?](repeating: nil, count: addresses.count)
    var open = Array(addresses.indices)
    for _ in 0..<3 where !open.isEmpty {
      let before = space.read(task, at: open.map { addresses[$0] })
      var batch = ReadBatch<VirtualAddress>()
      var copied: [(position: Int, start: UInt64)] = []
      for (position, index) in open.enumerated() {
        do throws(MemoryFault) {
          endings[index] = nil
          let (base, sp) = (try before[position].stack, try before[position].sp)
          if try before[position].onCPU != 0 {
            endings[index] = .running
          } else if base == 0 {
            endings[index] = .released
          } else {
            let top = base &+ stackSize
            guard base >> 63 == 1, top > base, sp & 7 == 0, sp >= base, sp < top, top - sp > UInt64(frame.size) else {
              throw MemoryFault(.virtual(VirtualAddress(sp)), .inconsistent("a stack pointer outside the task's stack"))
            }
            batch.add(VirtualAddress(sp), count: Int(top - sp))
            copied.append((position, sp))
          }
        } catch {
          endings[index] = .broken(error)
        }
      }
      space.read(&batch)
      let after = space.read(task, at: copied.map { addresses[open[$0.position]] })
      var again: [Int] = []
      for (entry, (position, start)) in copied.enumerated() {
        let index = open[position]
        do throws(MemoryFault) {
          if try Task.state(of: before[position]) != Task.state(of: after[entry]) {
            endings[index] = .running
            again.append(index)
            continue
          }
          let reader = try batch.reader(entry)
          let ip: UInt64 = try reader.u64(frame.caller.offset)
          unwindings[index] = Unwinding(
            start: start, bytes: reader.copy(), registers: registers, sp: start &+ UInt64(frame.size),
            bp: try reader.u64(frame.bp.offset), ip: ip, isSignal: forkReturns.contains(ip))
        } catch {
          endings[index] = .broken(error)
        }
      }
      TornReads.add(again.count)
      open = again
    }
    return (unwindings, endings)
  }
}

extension Kernel {
  /// The kernel stacks of `tasks`. One of a task that ran while its stack was copied is copied again, and if it goes on
  /// running told to be running.
  ///
  /// Cost: three round trips, about four for each frame of the deepest stack, and three for each module that one is in.
  public func stacks(of tasks: [KernelTask]) throws(KernelError) -> StackTable {
    let code = try reader(CodeMap.self).snapshot(in: addressSpace)
    return try reader(StackReader.self).read(tasks, code: code, in: addressSpace)
  }
}
