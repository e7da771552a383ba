import CRegion
public import Memory

/// What a device answers to info.
public struct DeviceInfo: Hashable, Sendable {
  /// The version of the protocol that it speaks.
  public let version: UInt64
  /// What it does.
  public let features: Features
  /// The physical memory that it sees, in ascending order without overlap.
  public let segments: [MemorySegment]
  /// Where the kernel's VMCOREINFO note was found, to be checked before it is believed; nil while unknown.
  public let kernelHint: PhysicalAddress?
  /// The device's clock in nanoseconds.
  public let clock: UInt64
  /// Requests answered, with an error, and first seen incomplete.
  public let served: UInt64
  public let refused: UInt64
  public let torn: UInt64
  /// The most bytes that one question for digests may be about.
  public let mostDigested: UInt64

  /// What a device does, a bit each: `enum grass_feature`.
  ///
  /// Bits that this version does not know may be set.
  public struct Features: OptionSet, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    private init(_ feature: grass_feature) { rawValue = UInt64(feature.rawValue) }

    /// It runs monitors.
    public static let monitors = Features(GRASS_FEATURE_MONITORS)
    /// It writes a line for each session.
    public static let lines = Features(GRASS_FEATURE_LINES)
    /// It writes findings.
    public static let findings = Features(GRASS_FEATURE_FINDINGS)
    /// It computes digests of memory.
    public static let digests = Features(GRASS_FEATURE_DIGESTS)
    public static let streams = Features(GRASS_FEATURE_STREAMS)
    /// Records are sealed under keys.
    public static let keys = Features(GRASS_FEATURE_KEYS)
    /// It keeps last words.
    public static let words = Features(GRASS_FEATURE_WORDS)
    /// It tells how the memory is read past it.
    public static let windows = Features(GRASS_FEATURE_WINDOWS)
    /// Many threads of it share an answer.
    public static let wide = Features(GRASS_FEATURE_WIDE)
    /// It can have the host's CPUs stand still.
    public static let pause = Features(GRASS_FEATURE_PAUSE)
  }
}
