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
@_exported public import WaitingViews
