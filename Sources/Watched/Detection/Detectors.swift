@_exported public import KernelViews

/// Every detector.
///
/// What is in this list is asked by checks, is documented, and is tried on quiet, broken and hostile memory.
public enum Detectors {
  public static let all: [any Detector.Type] = [
    Panic.self, Oops.self, KernelWarning.self, OutOfMemoryKill.self, Deadlock.self, OrphanedLock.self, LockConvoy.self,
    HungTask.self, WorkQueueStall.self, StuckModule.self, DeadKernelThread.self, FilesExhausted.self,
    TasksExhausted.self,
    DescriptorsExhausted.self, AcceptQueueFull.self, StalledRequest.self, FrozenFileSystem.self, FullFileSystem.self,
    ForkBomb.self, CPUStarvation.self, ConsoleStuck.self,
    HardwareError.self, DriverError.self, StoppedInit.self, StuckTransmitter.self, TCPMemoryExhausted.self,
    ControlGroupFull.self,
    OutOfMemoryAhead.self, SlabLeak.self, VirtualMemoryLeak.self, UnaccountedMemory.self,
    TaintVanished.self, HiddenModule.self, StolenCredentials.self, SharedCredentials.self, BrokenConfinement.self,
    MarkedTask.self, TracedProcess.self, ForeignHook.self, HiddenProcess.self, HelperPath.self, ReleaseAgent.self,
    OwnerlessCode.self, WritableCode.self, ChangedText.self, ChangedData.self, RedirectedTables.self,
    ForeignOperations.self, ForeignThread.self,
    ForeignFrame.self,
    HiddenProgram.self, Miner.self, FilelessProcess.self, PreloadedLibrary.self, ReverseShell.self, PacketSocket.self,
    KernelThreadImpostor.self, InjectedCode.self, StolenCapabilities.self,
    DefenceOff.self, AlteredIdentity.self, AlteredMemoryRanges.self, BPFAbuse.self,
    ClockSource.self, ClockJump.self, OfflineCPU.self, LinkDown.self, RouteGone.self, ReadOnlyFileSystem.self,
    KexecLoaded.self, ServiceGone.self,
    NewModule.self, NewProgram.self, LoweredDefence.self,
    // Those that only devices can ask.
    Stopped.self, Paused.self, HardLockup.self, SoftLockup.self, SoftInterruptLivelock.self, InterruptStorm.self,
    StolenTime.self,
    RCUStall.self, SuspendedDetector.self, LostMemory.self,
    SilentDevice.self, KeyChange.self, RefusedKey.self, KeyUse.self,
  ]

  /// The detector that is called `name`.
  public static func detector(named name: String) -> (any Detector.Type)? { all.first { $0.name == name } }
}
