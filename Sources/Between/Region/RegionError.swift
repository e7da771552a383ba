import CRegion
import Host

/// Why a region could not be made, opened or claimed.
public struct RegionError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// A system call failed, with this errno.
    case system(call: String, code: Int32)
    /// Sizes or slot count out of range.
    case badLayout
    /// Another live process owns the region at this path.
    case inUse
    /// The file is no region of this version.
    case notARegion
    /// Every slot is granted to a session that lives.
    case noFreeSlot
    /// There is no memory for the records of the slots to lend, with the errno.
    case noMemory(code: Int32)
    /// The device whose memory it lies in could not copy; with the device's reason.
    case device(String)
  }

  /// The region's path, or a name for one without a path.
  public var subject: String
  public var reason: Reason

  public init(_ subject: String, _ reason: Reason) {
    self.subject = subject
    self.reason = reason
  }

  public var description: String {
    switch reason {
    case .system(let call, let code):
      "shared region \(subject): \(call) failed: \(SystemCall.describe(code))"
    case .badLayout:
      "shared region \(subject): slot count must be 1 to \(GRASS_MAX_SLOTS), record sizes multiples of 64 from 128 bytes to 1 GiB, findings a multiple of 4 up to \(GRASS_MAX_FINDINGS)"
    case .inUse: "shared region \(subject): another grassd serves it; stop that one, or choose another path"
    case .notARegion:
      "shared region \(subject): is not a region of this version; give the path that grassd printed, of the same version"
    case .noMemory(let code):
      "shared region \(subject): there is no memory for a slot's records: \(SystemCall.describe(code)); free some in the file's file system, or have grassd make slots smaller by --response-size"
    case .device(let why): "shared region \(subject): \(why)"
    case .noFreeSlot:
      "shared region \(subject): all slots are taken by other sessions; end one of them, or give grassd more slots"
    }
  }
}
