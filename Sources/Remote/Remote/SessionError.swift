public import Links

/// Why a device could not be asked, or its answer not be used.
public struct SessionError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The link ended; the session with it.
    case link(LinkError)
    /// The device did not answer in time, though the link works.
    case noAnswer
    /// Every copy of the answer that was read in time was torn or failed its check.
    case tornAnswer
    /// The device refused the request.
    case refused(RequestStatus)
    /// The answer does not fit the request.
    case badAnswer(String)
    /// What lies there is no region of this version.
    case notARegion
    /// The request needs more than a slot holds.
    case tooLarge
    /// The device lets only those in whose keys it knows, and this side has none.
    case needsKeys
    /// Sessions there carry no keys, and the way there can be listened to, or the host is known to have them.
    case hasNoKeys(String)
    /// The device did not prove the key that it was to have, or this side does not trust it.
    case untrusted(String)
    /// Nobody there completed the handshake.
    case handshakeFailed
    /// The device's list has no line for this side's key; with its fingerprint.
    case unknownKey(String)
    /// This side's key lacks a right: what it has, in words.
    case notAllowed(String)
    /// Nobody may read the memory past the device.
    case closedMemory
    /// The host does not stand still.
    case noPause
  }

  /// The address of the device.
  public var host: String
  public var reason: Reason

  public init(_ host: String, _ reason: Reason) {
    self.host = host
    self.reason = reason
  }

  public var description: String {
    switch reason {
    case .link(let error): error.description
    case .closedMemory:
      "device at \(host): its memory cannot be read past it over this link; that takes grassd --acquire-unsealed, on a processor, and RDMA or TCP"
    case .noPause:
      "device at \(host): its host does not stand still, or not all the time; somebody let it go on, or its QEMU does not answer grassd --qmp"
    case .noAnswer: "device at \(host): did not answer in time; it is stopped or overloaded"
    case .tornAnswer: "device at \(host): every answer read in time was damaged; something else writes its region"
    case .needsKeys:
      "device at \(host): lets in only whom it knows by a key, and you have none; make one with `grassctl key new`, and have its line "
        + "put into the host's authorized_keys"
    case .hasNoKeys(let why): "device at \(host): its sessions carry no keys, \(why)"
    case .untrusted(let why): "device at \(host): \(why)"
    case .handshakeFailed:
      "device at \(host): the handshake failed; something between alters it, or both sides are of different versions"
    case .unknownKey(let fingerprint):
      "device at \(host): does not know your key \(fingerprint); have the line that `grassctl key show` prints put into the host's "
        + "authorized_keys, or into its list by somebody with admin rights: `grassctl key add`"
    case .notAllowed(let rights):
      "device at \(host): your key may \(rights.isEmpty ? "do nothing there" : "\(rights) there"), and not this; ask whoever has admin rights for more"
    case .refused(.noMonitor):
      "device at \(host): has no monitor of that name; `grassctl run --list` names those it has"
    case .refused(.badRun): "device at \(host): does not know a flag of this run; it is of another version"
    case .refused(let status):
      "device at \(host): refused the request: \(status); both sides must be of the same version"
    case .badAnswer(let why): "device at \(host): sent an answer that cannot be: \(why)"
    case .notARegion: "device at \(host): has no region of this version; both sides must be of the same version"
    case .tooLarge: "device at \(host): the request does not fit its slots; ask for less, or give grassd larger ones"
    }
  }
}
