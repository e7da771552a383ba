import Binding
import KernelInfo
import LinuxKernel
import Memory

/// The page for old system calls that all processes share: the last line of /proc/PID/maps.
///
/// Source: arch/x86/entry/vsyscall/vsyscall_64.c, `get_gate_vma`.
enum VirtualCallPage {
  private struct Space: KernelShape {
    static let type = "mm_struct"
    let flags = Field<UInt64>(optional: "context.flags")
  }

  /// How a process has it mapped; nil where it has not.
  static func permissions(of memory: ProcessRecord.Memory, _ kernel: Kernel) throws -> String? {
    guard kernel.symbols.address(of: "vsyscall_mode") != nil else { return nil }
    let mode = try kernel.number("vsyscall_mode")
    // MM_CONTEXT_HAS_VSYSCALL is bit 1 (arch/x86/include/asm/mmu.h).
    guard try kernel.read(Space.self, at: [memory.address])[0].flags >> 1 & 1 != 0 else { return nil }
    // The constants of the enumeration: EMULATE, XONLY, NONE.
    switch mode {
    case 0: return "r-xp"
    case 1: return "--xp"
    default: return nil
    }
  }
}
