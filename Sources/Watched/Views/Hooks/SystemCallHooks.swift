import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads what system calls lead to: from their table or, where that is for tracing only, through the code that finds them.
///
/// Source: arch/x86/entry/syscall_64.c.
struct SystemCallHooks: Sendable {
  private let table: (address: VirtualAddress, count: Int)
  /// The code that finds system calls, in bytes.
  private let dispatch: (address: VirtualAddress, count: Int)?

  /// Nil for a kernel that does not list its table.
  init?(kernel: Kernel) {
    let symbols = kernel.symbols
    guard let address = symbols.address(of: "sys_call_table") else { return nil }
    table = (address, min(Int(clamping: symbols.size(ofSymbolAt: address) ?? 0) / 8, 1024))
    dispatch = symbols.address(of: "x64_sys_call").map { address in
      (address, min(Int(clamping: symbols.size(ofSymbolAt: address) ?? 0), 1 << 16))
    }
  }

  func read(_ code: CodeMap.Snapshot, _ space: AddressSpace, _ table: inout HookTable) throws {
    let bytes = try space.read(self.table.address, count: self.table.count * 8)
    let reader = ByteReader(bytes.span.bytes)
    // Zeros are padding up to the next symbol.
    var entries: [(number: Int, function: VirtualAddress)] = []
    for number in 0..<self.table.count { entries.append((number, try reader.pointer(number * 8))) }
    entries.removeAll { $0.function.rawValue == 0 }
    guard let dispatch = self.dispatch else {
      table.hooks += entries.map { Hook(kind: .systemCall, name: "\($0.number)", code: code.place(of: $0.function)) }
      return
    }
    let calls = SystemCallSwitch(
      start: dispatch.address,
      bytes: try space.read(dispatch.address, count: dispatch.count))
    // A tracer that is the kernel's own is seen with the others.
    if let tracer = try calls.tracer() {
      let place = code.place(of: tracer)
      if place.owner != .kernel { table.hooks.append(Hook(kind: .systemCall, name: "any", code: place)) }
    }
    for (number, traced) in entries {
      do throws(MemoryFault) {
        let function = try calls.function(of: UInt32(number))
        let place = code.place(of: function)
        table.hooks.append(
          Hook(
            kind: .systemCall, name: "\(number)", code: place,
            isPatched: function != traced || !(place.symbol?.hasSuffix("+0x0") ?? false)))
      } catch {
        // One such instruction is on the way of many.
        if table.faults.last?.description != error.description { table.faults.append(error) }
      }
    }
  }
}
