// Every view of a kernel, and what they stand on, by one import.
@_exported public import CodeViews
@_exported public import HookViews
@_exported public import KernelInfo
@_exported public import LinuxKernel
@_exported public import MachineViews
@_exported public import Memory
@_exported public import NetworkViews
@_exported public import Paging
@_exported public import ProcessViews
@_exported public import StorageViews
@_exported public import TaskViews
@_exported public import Views
@_exported public import WaitingViews

/// Every view, in the order in which help lists them.
///
/// What is in this list is a command of grassctl, is fuzzed, is looked at on busy guests, is measured and documented.
public enum KernelViews {
  public static let all: [any KernelView.Type] = [
    HostView.self, LogView.self, CPUInfoView.self,
    TaskView.self, MappingView.self, NamespaceView.self, ControlGroupView.self, StackView.self,
    TopView.self, FreeView.self, VMStatView.self, SlabView.self, PressureView.self, InterruptView.self, SwapView.self,
    OpenFileView.self, MountView.self, FileSystemView.self, CachedFileView.self,
    SocketView.self, NetworkView.self,
    TimerView.self, WorkQueueView.self, LockView.self,
    LsMod.self, ParameterView.self, SystemCallHookView.self, NetfilterView.self, FTraceView.self, KProbeView.self,
    TracepointView.self,
    BPFView.self,
    SymbolView.self, TypeView.self, SearchView.self,
  ]

  /// The view that is called `name`.
  public static func view(named name: String) -> (any KernelView.Type)? { all.first { $0.name == name } }
}
