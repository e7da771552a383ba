public import Region

/// A region's file on this machine: `shm:///PATH`.
public struct SharedMemoryAddress: LinkKind {
  public static let scheme = "shm", form = "shm:///PATH", serving = "makes a region there"
  public static let deviceMemory: String? = nil
  public static var local: String? { "shm:///dev/shm/grass-\(UInt64.random(in: 0 ... .max))" }

  public let path: String
  public var regionPath: String? { path }
  public var host: String? { nil }
  public var description: String { "shm://\(path)" }

  public init(path: String) { self.path = path }

  public init(parsing rest: Substring) throws(LinkSyntaxError) {
    guard rest.hasPrefix("/"), rest.count > 1, !rest.hasSuffix("/") else {
      throw LinkSyntaxError("after shm:// comes the absolute path of a file")
    }
    path = String(rest)
  }

  public func connect(slots: Int, within timeout: Duration) throws(LinkError) -> any Link {
    try SharedMemoryLink(path: path, slots: slots)
  }

  public func serve(_ region: SharedRegion, keeper: any SlotKeeper) throws(LinkError) -> (any Responder)? {
    guard region.device != nil else { return nil }
    throw LinkError(
      description,
      .region(
        "a region in a device's memory has no file; listen at \(LinkKinds.formsForDevices), or leave it in host memory")
    )
  }
}

extension LinkAddress {
  /// A region's file on this machine.
  public static func sharedMemory(path: String) -> LinkAddress { LinkAddress(SharedMemoryAddress(path: path)) }
}
