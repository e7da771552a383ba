public import Region

/// Where a monitor is reached: an address of one of ``LinkKinds``.
public struct LinkAddress: Hashable, Sendable, CustomStringConvertible {
  /// The address as its kind has it.
  public let kind: any LinkKind

  public init(_ kind: any LinkKind) { self.kind = kind }

  /// Parses a URL.
  ///
  /// - Throws: ``LinkError/Reason/badAddress(_:)``, which says what is wrong with it.
  public init(_ text: String) throws(LinkError) {
    guard let separator = text.firstRange(of: "://") else {
      throw LinkError(text, .badAddress("it has no scheme"))
    }
    let scheme = text[..<separator.lowerBound].lowercased()
    guard let kind = LinkKinds.all.first(where: { $0.scheme == scheme }) else {
      throw LinkError(text, .badAddress("no link is called \"\(scheme)\""))
    }
    do throws(LinkSyntaxError) {
      self.kind = try kind.init(parsing: text[separator.upperBound...])
    } catch {
      throw LinkError(text, .badAddress(error.why))
    }
  }

  public var description: String { kind.description }

  public static func == (first: LinkAddress, second: LinkAddress) -> Bool { first.description == second.description }
  public func hash(into hasher: inout Hasher) { hasher.combine(description) }

  /// Connects to the region there.
  ///
  /// - Parameters:
  ///   - slots: how many slots to ask for; the owner may grant fewer, but at least one.
  ///   - timeout: how long connecting may take.
  /// - Returns: the link, which is the caller's.
  /// - Throws: ``LinkError`` with what failed: nobody answers, no slot is free, the region is another version's.
  public func connect(slots: Int = 4, within timeout: Duration = .seconds(5)) throws(LinkError) -> any Link {
    try kind.connect(slots: slots, within: timeout)
  }

  /// Starts to serve a region there.
  ///
  /// - Parameters:
  ///   - region: what is served. Kept until the responder ends.
  ///   - keeper: the device that answers in the region's slots.
  /// - Returns: what serves it, or nil where nothing has to be done: a region's file is there by itself.
  /// - Throws: ``LinkError`` where the address cannot be served: it is in use, not allowed, or has no such device.
  public func serve(
    _ region: SharedRegion, keeper: any SlotKeeper = KeylessSlots()
  ) throws(LinkError) -> (any Responder)? {
    try kind.serve(region, keeper: keeper)
  }
}
