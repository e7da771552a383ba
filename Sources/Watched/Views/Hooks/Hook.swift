import Binding
public import CodeViews
public import LinuxKernel
public import Memory

/// A place where the kernel calls code that can be exchanged.
public struct Hook: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    /// What system calls lead to: the kernel's table of them or, in kernels that keep it for tracing only, its switch.
    case systemCall = "syscall"
    /// Entries of the interrupt descriptor table.
    case interrupt = "idt"
    case netfilter, ftrace, kprobe, tracepoint
  }

  public var kind: Kind
  /// What is hooked: a number of a system call or a vector, a chain or a direction of a device, a handler's role,
  /// a tracepoint.
  public var name: String
  /// What is called.
  public var code: CodePlace
  /// The inode number of the network namespace, of netfilter's hooks.
  public var namespace: UInt64?
  /// Of netfilter's hooks the number by which those of a chain are ordered, the lowest first.
  public var priority: Int32?
  /// Of probes the place that is probed.
  public var target: CodePlace?
  /// Whether a switch leads elsewhere than the kernel was built to.
  public var isPatched = false
}

/// The hooks of a host, and what could not be read of them.
public struct HookTable: Faulted {
  public var hooks: [Hook] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The hooks of the given kinds.
  ///
  /// Cost: a few round trips a kind where the memory is remote, and three for each module that is called.
  public func hooks(_ kinds: Set<Hook.Kind>) throws(KernelError) -> HookTable {
    let map = try reader(CodeMap.self)
    return try read(with: HookReader.self) { reader in
      let code = map.snapshot(in: addressSpace)
      var table = HookTable(faults: code.faults)
      try reader.read(kinds, code, in: addressSpace, into: &table)
      table.faults += code.symbolFaults
      return table
    }
  }
}
