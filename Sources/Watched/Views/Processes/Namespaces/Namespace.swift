public import LinuxKernel
public import Memory
public import TaskViews

/// A namespace, and the processes that are in it.
public struct Namespace: Sendable {
  public let kind: NamespaceKind
  public let id: NamespaceID
  /// Processes in it, those that have ended and await their parent not counted where they have left it.
  public internal(set) var processes = 0
  /// The process with the lowest id of them, nil where there is none: then a file, a mount, or another namespace keeps
  /// it.
  public internal(set) var first: KernelTask?
  /// The user namespace that owns it; of a user namespace its parent.
  public internal(set) var owner: NamespaceID?
}

/// The namespaces of a host.
public struct NamespaceTable: Faulted {
  /// In ascending order of their numbers.
  public internal(set) var namespaces: [Namespace] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
