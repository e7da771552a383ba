import Binding
import KernelInfo
public import LinuxKernel
public import Memory
import Paging

/// A kernel stack that somebody copied, and maybe only a part of it, when its task was still there.
public struct SavedStack: Sendable {
  public var tid, tgid: Int32
  public var comm: [UInt8]
  /// Where the whole stack lay.
  public var stack: Range<UInt64>
  /// Where the task had left its stack when it gave its CPU up; nil for one that ran.
  public var pointer: VirtualAddress?
  /// Where the copy starts.
  public var start: VirtualAddress
  public var bytes: [UInt8]
  /// Functions of which one is known to be on it, of a task that ran.
  public var passing: [String]

  public init(
    tid: Int32, tgid: Int32, comm: [UInt8], stack: Range<UInt64>, pointer: VirtualAddress?, start: VirtualAddress,
    bytes: [UInt8], passing: [String] = []
  ) {
    self.tid = tid
    self.tgid = tgid
    self.comm = comm
    self.stack = stack
    self.pointer = pointer
    self.start = start
    self.bytes = bytes
    self.passing = passing
  }
}

/// Where the text of a module lay that may be gone.
public struct SavedModule: Sendable {
  public var name: [UInt8]
  public var address: VirtualAddress
  public var text: Range<UInt64>

  public init(name: [UInt8], address: VirtualAddress, text: Range<UInt64>) {
    self.name = name
    self.address = address
    self.text = text
  }
}

extension Kernel {
  /// Unwinds stacks that were copied earlier.
  ///
  /// Where a task ran, its place was in its CPU's registers: then the stack is that of the innermost return address which leads
  /// whole to where the task entered the kernel, and its first frame is marked as a guess. So it is behind a frame of which the
  /// tables say nothing.
  ///
  /// - Parameters:
  ///   - stacks: what was copied.
  ///   - modules: where modules lay; nil for a kernel that is still there, which is asked.
  /// - Throws: ``KernelError`` where this kernel has no tables for unwinding.
  public func stacks(saved stacks: [SavedStack], modules: [SavedModule]?) throws(KernelError) -> StackTable {
    let map = try reader(CodeMap.self)
    let code =
      modules.map { modules in
        map.snapshot(
          of: modules.map {
            LoadedModule(
              name: $0.name, address: $0.address, parts: $0.text.isEmpty ? [] : [$0.text], tables: VirtualAddress(0),
              exports: VirtualAddress(0), exportCount: 0)
          })
      } ?? map.snapshot(in: addressSpace)
    return try reader(StackReader.self).read(stacks, isGone: modules != nil, code: code, in: addressSpace)
  }
}

extension StackReader {
  /// Values of segment registers in the kernel's mode (arch/x86/include/asm/segment.h).
  private static let codeSegment: UInt64 = 0x10
  private static let dataSegment: UInt64 = 0x18
  /// Below how many stacks that lead to the entry a function is looked for.
  private static let mostBridges = 16

  func read(_ stacks: [SavedStack], isGone: Bool, code: CodeMap.Snapshot, in space: AddressSpace) -> StackTable {
    var table = StackTable()
    table.faults = code.faults
    // Of modules that are gone the tables are, too.
    let modules = isGone ? [] : tables.moduleTables(of: code.modules, in: space, &table.faults)
    var known: [UInt64: Result<ORCEntry?, MemoryFault>] = [:]
    // What may be wrong with the tables themselves is wrong for all of them.
    for saved in stacks {
      var stack = KernelStack(tid: saved.tid, tgid: saved.tgid, comm: saved.comm, ending: .complete)
      if saved.bytes.isEmpty {
        stack.ending = .broken(
          MemoryFault(.virtual(VirtualAddress(saved.stack.lowerBound)), .inconsistent("a stack that could not be read"))
        )
      } else if let pointer = saved.pointer {
        leave(saved, at: pointer.rawValue, &stack, modules, code, in: space, &known)
      } else {
        guess(saved, from: saved.start.rawValue, &stack, modules, code, in: space, &known)
      }
      table.stacks.append(stack)
    }
    table.faults += code.symbolFaults
    return table
  }

  /// The stack of a task that gave its CPU up.
  private func leave(
    _ saved: SavedStack, at pointer: UInt64, _ stack: inout KernelStack, _ modules: [ORCTables.ModuleTable],
    _ code: CodeMap.Snapshot, in space: AddressSpace, _ known: inout [UInt64: Result<ORCEntry?, MemoryFault>]
  ) {
    let offset = Int(clamping: pointer &- saved.start.rawValue)
    let reader = ByteReader(saved.bytes.span.bytes)
    guard let bp = try? reader.u64(offset.addingClamped(frame.bp.offset)),
      let ip = try? reader.u64(offset.addingClamped(frame.caller.offset))
    else {
      stack.ending = .broken(
        MemoryFault(
          .virtual(VirtualAddress(pointer)), .inconsistent("a stack pointer outside what was kept of the stack")))
      return
    }
    var unwindings: [Unwinding?] = [
      Unwinding(
        start: saved.start.rawValue, bytes: saved.bytes, registers: registers, sp: pointer &+ UInt64(frame.size),
        bp: bp,
        ip: ip, isSignal: forkReturns.contains(ip))
    ]
    follow(&unwindings, modules, in: space, &known)
    guard let unwinding = unwindings[0] else { return }
    stack.frames = unwinding.addresses.map { Self.frame($0, code) }
    stack.ending = unwinding.ending ?? .complete
    guard case .broken = stack.ending else { return }
    if unwinding.sp >= saved.start.rawValue &+ UInt64(saved.bytes.count), unwinding.sp < saved.stack.upperBound {
      stack.ending = .broken(
        MemoryFault(.virtual(VirtualAddress(unwinding.sp)), .inconsistent("the rest of the stack was not kept")))
      return
    }
    // Behind what the tables do not know, what lies there may lead on.
    var rest = stack
    rest.frames = []
    guess(saved, from: unwinding.sp, &rest, modules, code, in: space, &known)
    if case .complete = rest.ending {
      stack.frames += rest.frames
      stack.ending = .complete
    }
  }

  /// The stack that begins with the first word from `from` on which is a return address, and from which the tables lead to
  /// where the task entered the kernel.
  ///
  /// Where a function is known to be on it and that one does not lead through it, the function may hang on its frame pointer, which
  /// nobody knows: it is looked for right below what was found, where its return address must be.
  private func guess(
    _ saved: SavedStack, from: UInt64, _ stack: inout KernelStack, _ modules: [ORCTables.ModuleTable],
    _ code: CodeMap.Snapshot, in space: AddressSpace, _ known: inout [UInt64: Result<ORCEntry?, MemoryFault>]
  ) {
    let start = saved.start.rawValue
    let first = Int((min(max(from, start) &- start, UInt64(saved.bytes.count)) + 7) & ~7)
    /// Those that lead to the entry, the innermost first; nil where none does.
    func whole(before end: Int, _ bridge: UInt64?) -> [(offset: Int, unwinding: Unwinding)] {
      let candidates = candidates(saved, first..<max(first, end), bridge, code)
      var unwindings = candidates.map { Optional($0.unwinding) }
      follow(&unwindings, modules, in: space, &known)
      if bridge == nil { stack.frames = unwindings.compactMap { $0?.addresses.first }.map { Self.guessed($0, code) } }
      return zip(candidates, unwindings).compactMap { candidate, unwinding in
        guard let unwinding, case .complete = unwinding.ending, unwinding.addresses.count > 1 else { return nil }
        return (candidate.offset, unwinding)
      }
    }
    func passes(_ unwinding: Unwinding) -> Bool {
      unwinding.addresses.contains { address in
        code.symbol(at: VirtualAddress(address &- 1)).map { saved.passing.contains($0.name) } ?? false
      }
    }
    let all = whole(before: saved.bytes.count, nil)
    var found = (all.first { passes($0.unwinding) } ?? all.first)?.unwinding
    if !saved.passing.isEmpty, found.map(passes) == false {
      for below in all.prefix(Self.mostBridges) {
        let bridged = whole(before: below.offset, start &+ UInt64(below.offset) &- 8)
        guard let best = bridged.first(where: { passes($0.unwinding) }) else { continue }
        found = best.unwinding
        break
      }
    }
    guard let found else {
      // Nothing leads there: all that may be a return address is shown, as such.
      stack.ending = .broken(
        MemoryFault(
          .virtual(saved.start),
          .inconsistent("no return address on it leads to where the task entered the kernel; all there are are shown")))
      return
    }
    stack.frames = found.addresses.map { Self.frame($0, code) }
    for index in [0] + found.bridged where index < stack.frames.count { stack.frames[index].isGuess = true }
    stack.ending = .complete
  }

  private static func guessed(_ address: UInt64, _ code: CodeMap.Snapshot) -> KernelStack.Frame {
    var frame = frame(address, code)
    frame.isGuess = true
    return frame
  }

  /// What may be unwound: from each word in a part of a stack that may be a return address.
  private func candidates(
    _ saved: SavedStack, _ part: Range<Int>, _ bridge: UInt64?, _ code: CodeMap.Snapshot
  ) -> [(offset: Int, unwinding: Unwinding)] {
    let start = saved.start.rawValue
    let reader = ByteReader(saved.bytes.span.bytes)
    func word(_ offset: Int) -> UInt64 { (try? reader.u64(offset)) ?? 0 }
    var candidates: [(offset: Int, unwinding: Unwinding)] = []
    for offset in stride(from: part.lowerBound, to: min(part.upperBound, saved.bytes.count - 7), by: 8) {
      let ip = word(offset)
      // A pointer to a function is none of these.
      guard code.isCode(VirtualAddress(ip &- 1)), code.symbol(at: VirtualAddress(ip))?.offset != 0 else { continue }
      // What an interrupt leaves: the instruction, the segments about the flags, and the stack.
      if word(offset + 8) == Self.codeSegment, word(offset + 32) == Self.dataSegment,
        saved.stack.contains(word(offset + 24))
      {
        candidates.append(
          (
            offset,
            Unwinding(
              start: start, bytes: saved.bytes, registers: registers, sp: word(offset + 24), bp: 0, ip: ip,
              isSignal: true, bridge: bridge)
          ))
      }
      candidates.append(
        (
          offset,
          Unwinding(
            start: start, bytes: saved.bytes, registers: registers, sp: start &+ UInt64(offset) &+ 8, bp: 0, ip: ip,
            isSignal: false, bridge: bridge)
        ))
    }
    return candidates
  }
}

extension Int {
  /// The sum, or the greatest number where it would overflow.
  fileprivate func addingClamped(_ other: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
