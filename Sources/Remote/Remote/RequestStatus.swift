import CRegion

/// What a device says of a request: `enum grass_status`.
public struct RequestStatus: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public var rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }
  private init(_ status: grass_status) { rawValue = status.rawValue }

  /// It was answered.
  public static let ok = RequestStatus(GRASS_OK)
  /// There is no such operation.
  public static let badOperation = RequestStatus(GRASS_BAD_OPERATION)
  /// The record does not fit its slot, or the payload not what it announces.
  public static let badLength = RequestStatus(GRASS_BAD_LENGTH)
  /// The record's check does not hold.
  public static let badCheck = RequestStatus(GRASS_BAD_CHECK)
  /// The device does not walk page tables of that format.
  public static let badFormat = RequestStatus(GRASS_BAD_FORMAT)
  /// A range has unknown flags.
  public static let badRange = RequestStatus(GRASS_BAD_RANGE)
  /// The answer would not fit its slot.
  public static let tooLarge = RequestStatus(GRASS_TOO_LARGE)
  /// The device has no monitor of that name.
  public static let noMonitor = RequestStatus(GRASS_NO_MONITOR)
  /// A run has unknown flags.
  public static let badRun = RequestStatus(GRASS_BAD_RUN)
  /// A field is not zero that has to be.
  public static let badField = RequestStatus(GRASS_BAD_FIELD)
  /// The sequence number's epoch has no key.
  public static let badEpoch = RequestStatus(GRASS_BAD_EPOCH)
  /// The session's key has not the right that the request needs.
  public static let notAllowed = RequestStatus(GRASS_NOT_ALLOWED)
  /// The message is none of a handshake, or not the one that is due.
  public static let badHandshake = RequestStatus(GRASS_BAD_HANDSHAKE)
  /// There is no such key in the list, or there can be none, or no more.
  public static let badKey = RequestStatus(GRASS_BAD_KEY)

  private static let texts: [RequestStatus: String] = [
    .badOperation: "it does not know the operation", .badLength: "its length is not what it announces",
    .badCheck: "its check does not hold", .badRange: "a range has unknown flags",
    .tooLarge: "the answer would not fit its slot", .noMonitor: "there is no monitor of that name",
    .badRun: "a run has unknown flags", .badFormat: "it does not walk page tables of that format",
    .badField: "a field is not zero that has to be", .badEpoch: "there is no key for it",
    .notAllowed: "this key may not do that", .badHandshake: "the handshake failed",
    .badKey: "there is no such key in its list, or no room for another",
  ]

  public var description: String { Self.texts[self] ?? "status \(rawValue)" }
}
