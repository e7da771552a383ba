@_exported public import KernelViews

/// Every detector.
///
/// What is in this list is asked by checks, is documented, and is tried on quiet, broken and hostile memory.
public enum Detectors {
  public static let all: [any Detector.Type] = [
    Panic.self, Oops.self, KernelWarning.self, OutOfMemoryKill.self, Deadlock.self, HungTask.self,
    TaintVanished.self, HiddenModule.self, StolenCredentials.self, ForeignHook.self, HiddenProcess.self,
  ]

  /// The detector that is called `name`.
  public static func detector(named name: String) -> (any Detector.Type)? { all.first { $0.name == name } }
}
