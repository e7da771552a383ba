public import CRegion
public import Memory

/// What runs the monitor: a processor or a GPU that reads the watched memory and answers in the region.
public protocol Device: AnyObject, Sendable {
  /// What it is, for people.
  var description: String { get }

  /// Says where the watched kernel's VMCOREINFO note lies, for the answers to info; zero for nowhere.
  func setKernelHint(_ address: PhysicalAddress)

  /// Takes other memory in the place of what it reads: the same file in another layout, when a kernel has told which is right.
  /// Monitors are withdrawn. A GPU begins with a kernel, and so with the right one.
  func setSegments(_ segments: [MappedSegment])

  /// Gives up its monitors: the kernel that they are bound to is gone. The run at work, if any, ends before.
  func withdrawMonitors()

  /// Takes monitors in the place of those it had. Requests wait in their slots meanwhile; none is lost.
  func load(_ program: MonitorProgram, for kernel: KernelMapping) throws(DeviceError)

  /// Hands over a change of a finding that a detector beside the device found; the device writes it into its log with its next
  /// tick. One thread at a time may do so.
  ///
  /// - Returns: false where it cannot be taken now, since no detectors run or what was handed over before waits yet.
  func hand(_ finding: grass_finding_content) -> Bool

  /// Says how many detectors beside the device are suspended, for the lines of sessions.
  func setSuspended(_ count: Int)

  /// Takes what the hypervisor of the watched guest says, for its detectors and for who asks to pause it.
  func setHypervisor(_ state: HypervisorState)

  /// Whether a session wants the host's CPUs to stand still now; asked where ``setHypervisor(_:)`` is called.
  var wantsPause: Bool { get }

  /// Has sessions with the right to be told how they read the memory past the device; called once, before any link serves.
  ///
  /// - Returns: false where this device cannot.
  func openMemory() -> Bool

  /// Whether the session that has this slot has asked for that, and still may: false from the moment on at which it has ended.
  func wantsWindows(_ slot: Int) -> Bool

  /// Tells it; nil where it is not known yet, which is so for whoever has the slot next.
  func setWindows(_ windows: [grass_memory_window]?, for slot: Int)

  /// Looks at every slot once on the caller's thread, where the device can be had so and is not at work: for links
  /// whose owner's side is software anyway, and need not wait for another thread to be scheduled.
  func assist()

  /// Has the device forget the sessions that had these slots, before they are lent anew; returns once it has.
  func release(_ slots: Range<Int>)

  /// Makes the list of keys this one; those that are in it no more lose their sessions.
  func setKeys(_ lines: [grass_key_line])

  /// Its own public key, 32 bytes, which a GPU's changes with each program where none was given; nil where it has no keys.
  var publicKey: [UInt8]? { get }

  /// What happened to keys and sessions next, nil where nothing did since. One thread at a time may ask.
  func takeKeyEvent() -> KeyEvent?

  /// Number of the newest finding, 0 while there is none; nil where the region's beacon says it.
  func newestFinding() -> UInt64?

  /// The keys of what it says to all, 32 bytes each, by generation; empty where all who reach the region may read that.
  func groupKeys() -> [UInt64: [UInt8]]

  /// Why the device has ended by itself, nil as long as it has not.
  func failure() -> DeviceError?

  /// Stops the monitor and says so in the beacon. A second call does nothing.
  func stop()
}

/// What the hypervisor of a watched guest says of it.
public enum HypervisorState: UInt64, Sendable {
  /// There is none, or it is not asked, or does not answer.
  case unknown
  /// It runs the guest's CPUs.
  case runs
  /// It does not, since somebody wants it so.
  case paused

  /// `enum grass_hypervisor`.
  var raw: UInt64 {
    switch self {
    case .unknown: UInt64(GRASS_HYPERVISOR_UNKNOWN.rawValue)
    case .runs: UInt64(GRASS_HYPERVISOR_RUNS.rawValue)
    case .paused: UInt64(GRASS_HYPERVISOR_PAUSED.rawValue)
    }
  }
}

extension Device {
  public func assist() {}
  public func release(_ slots: Range<Int>) {}
  public func setKeys(_ lines: [grass_key_line]) {}
  public var publicKey: [UInt8]? { nil }
  public func takeKeyEvent() -> KeyEvent? { nil }
  public func newestFinding() -> UInt64? { nil }
  public func groupKeys() -> [UInt64: [UInt8]] { [:] }
  public func hand(_ finding: grass_finding_content) -> Bool { false }
  public func setSuspended(_ count: Int) {}
  public func setHypervisor(_ state: HypervisorState) {}
  public var wantsPause: Bool { false }
  public func openMemory() -> Bool { false }
  public func wantsWindows(_ slot: Int) -> Bool { false }
  public func setWindows(_ windows: [grass_memory_window]?, for slot: Int) {}
  public func setSegments(_ segments: [MappedSegment]) {}
  public func withdrawMonitors() {}
}
