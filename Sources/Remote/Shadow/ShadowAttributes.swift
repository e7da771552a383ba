/// What `stat` says of an entry of the shadow.
public struct ShadowAttributes: Sendable, Equatable {
  public enum Kind: Sendable {
    case directory, file, link
    /// These are shown for what they are; opened, they would be this machine's.
    case pipe, socket, characterDevice, blockDevice
  }

  /// What only files of the host's own file systems have.
  public struct Details: Sendable, Equatable {
    /// Since 1970.
    public struct Time: Sendable, Equatable {
      public var seconds: Int64
      public var nanoseconds: UInt32
    }

    public var accessed, modified, changed: Time
    /// Units of 512 bytes.
    public var blocks: UInt64
    /// The numbers of the device that the file stands for.
    public var deviceMajor, deviceMinor: UInt32
  }

  public var kind: Kind
  /// The lower twelve bits of `st_mode`; nobody may write.
  public var permissions: UInt16
  public var uid: UInt32 = 0
  public var gid: UInt32 = 0
  /// All three times, in seconds since 1970, where there are no ``details``.
  public var time: Int64 = 0
  /// Bytes; zero for files that are made when they are opened, as in procfs.
  public var size: UInt64 = 0
  public var links: UInt32 = 1
  public var details: Details?
  /// Whether it is the same entry whoever asks, so that a system may remember it for ``lifetime``.
  public var isEverybodys = true

  /// Seconds for which what is known of an entry may be kept, about as long as processes are: time for a tool to go through a list.
  public static let lifetime = 0.25

  public init(_ kind: Kind, _ permissions: UInt16) {
    self.kind = kind
    self.permissions = permissions
  }
}
