import CodeViews
public import LinuxKernel
public import Views

/// A view of hooks of some kinds: they differ in nothing else.
public protocol HookView: KernelView where Row == Hook {
  static var kinds: Set<Hook.Kind> { get }
  static func isWanted(_ hook: Hook, _ options: Options) -> Bool
}

extension HookView {
  public static var group: ViewGroup { .integrity }
  public static var canBeEmpty: Bool { true }
  public static func isWanted(_ hook: Hook, _ options: Options) -> Bool { true }

  public static func columns(_ options: Options) -> [ViewColumn<Hook>] {
    [
      ViewColumn("KIND", "kind") { $0.kind.rawValue }.identity, ViewColumn("NAME", "name", \.name).identity,
      ViewColumn("NETNS", "netns", \.namespace),
      ViewColumn("PRIORITY", "priority", \.priority), ViewColumn("FUNCTION", "function") { $0.code.address }.identity,
      ViewColumn("OWNER", "owner") { $0.code.ownerName }.identity.bad { $0.code.owner == .unknown },
      ViewColumn("SYMBOL", "symbol") { $0.code.symbol },
      ViewColumn("TARGET", "target_symbol") { $0.target?.symbol }
        .shown { hook in hook.target.map { $0.symbol ?? "\($0.address)" } ?? "" },
      ViewColumn(json: "target", in: .address) { $0.target?.address },
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Hook> {
    let table = try kernel.hooks(kinds)
    return ViewRows(table.hooks.filter { isWanted($0, options) }, faults: table.faults)
  }
}

/// What system calls and interrupts lead to.
public struct SystemCallHookView: HookView {
  public struct Options: ViewOptions {
    @ViewOption(help: "List every entry, also those that lead where they should.") public var all = false
    public init() {}
  }

  public static let name = "hooks"
  public static let summary =
    "Checks what system calls and interrupts lead to: lists entries outside the kernel's own text."
  public static let discussion = """
    OWNER is kernel, a module in brackets, or ? for code that belongs to neither. Recent kernels find system calls by code \
    (x64_sys_call) and keep the table for tracing only: there each call is followed through the code, and listed as well \
    where it leads elsewhere than to a system call, or than the table says.
    """
  public static let kinds: Set<Hook.Kind> = [.systemCall, .interrupt]
  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] { [[], [("all", "yes")]] }
  public static func isWanted(_ hook: Hook, _ options: Options) -> Bool {
    options.all || hook.isPatched || hook.code.owner != .kernel
  }
}

/// The functions that netfilter calls for packets.
public struct NetfilterView: HookView {
  public typealias Options = NoOptions
  public static let name = "netfilter"
  public static let summary = "Lists the functions that netfilter calls for packets, in every network namespace."
  public static let kinds: Set<Hook.Kind> = [.netfilter]
}

/// The functions that ftrace calls.
public struct FTraceView: HookView {
  public typealias Options = NoOptions
  public static let name = "ftrace"
  public static let summary = "Lists the functions that ftrace calls when traced functions start."
  public static let kinds: Set<Hook.Kind> = [.ftrace]
}

/// The kernel's probes.
public struct KProbeView: HookView {
  public typealias Options = NoOptions
  public static let name = "kprobes"
  public static let summary = "Lists the kernel's probes: where they lie and what they call."
  public static let kinds: Set<Hook.Kind> = [.kprobe]
}

/// The tracepoints that are in use.
public struct TracepointView: HookView {
  public typealias Options = NoOptions
  public static let name = "tracepoints"
  public static let summary = "Lists the tracepoints that are in use, and what they call."
  public static let kinds: Set<Hook.Kind> = [.tracepoint]
}
