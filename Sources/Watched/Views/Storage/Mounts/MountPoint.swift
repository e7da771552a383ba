/// A mounted file system, as /proc/PID/mountinfo describes it.
public struct MountPoint: Sendable {
  public let id: Int
  /// The id of the mount that it is mounted on.
  public let parentID: Int
  /// The device's numbers.
  public let major: UInt64
  public let minor: UInt64
  /// Which part of the file system is mounted: a path in it.
  public let root: [UInt8]
  /// Where, as seen from the process's own root.
  public let mountPoint: [UInt8]
  /// `ro` or `rw`, `nosuid`, `relatime` and so on: what holds for this mount alone.
  public let options: [String]
  /// The group of mounts that it shares what is mounted under it with.
  public let sharedGroup: Int?
  /// The group from which it receives what is mounted there.
  public let masterGroup: Int?
  /// The nearest group that this process can see from which that comes, where it is another one.
  public let propagatesFrom: Int?
  public let isUnbindable: Bool
  /// `tmpfs`, `fuse.sshfs`.
  public let fileSystem: [UInt8]
  /// What is mounted: a device, or whatever was named.
  public let source: [UInt8]
  /// What holds for the file system wherever it is mounted, as far as all file systems have it: those that a file system
  /// prints by code of its own (`size=`, `mode=`) are not among them.
  public let superOptions: [String]
}
