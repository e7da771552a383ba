public import Region

/// A kind of link: how its addresses are written, and how one connects to a region and serves it there.
///
/// A value is an address of this kind. A link is a folder with such a type, and a line in the list of all kinds: from these
/// follow what addresses are understood, the help of all tools, what errors advise, and what `linkcheck` checks.
public protocol LinkKind: Hashable, Sendable, CustomStringConvertible {
  /// What stands before `://`, in lower case.
  static var scheme: String { get }
  /// How an address is written: `tcp://HOST:PORT`.
  static var form: String { get }
  /// What serving does, for help, after the form.
  static var serving: String { get }
  /// How memory of a device is reached, for help; nil where it is not.
  static var deviceMemory: String? { get }
  /// An address at which a process can serve itself on any machine, nil where that takes a device.
  static var local: String? { get }

  /// The address of which `rest` stands behind the scheme.
  ///
  /// - Throws: ``LinkSyntaxError``, which says what is wrong.
  init(parsing rest: Substring) throws(LinkSyntaxError)

  /// The file that the region has to lie in, nil where it may lie anywhere.
  var regionPath: String? { get }
  /// The host that the address leads to, nil where that is this machine.
  var host: String? { get }

  /// Connects to the region there, as ``LinkAddress/connect(slots:within:)`` says.
  func connect(slots: Int, within timeout: Duration) throws(LinkError) -> any Link
  /// Serves a region there, as ``LinkAddress/serve(_:keeper:)`` says.
  func serve(_ region: SharedRegion, keeper: any SlotKeeper) throws(LinkError) -> (any Responder)?
}

extension LinkKind {
  public var regionPath: String? { nil }
}

/// What is wrong with the text of an address.
public struct LinkSyntaxError: Error, Hashable, Sendable {
  public let why: String
  public init(_ why: String) { self.why = why }
}

/// All kinds of links.
public enum LinkKinds {
  /// In the order in which help lists them.
  public static let all: [any LinkKind.Type] = [SharedMemoryAddress.self, VerbsAddress.self, TCPAddress.self]

  /// How addresses are written: `shm:///PATH, verbs://HOST:PORT or tcp://HOST:PORT`.
  public static var forms: String { or(all.map { $0.form }) }

  /// Where to listen for a region in a device's memory.
  public static var formsForDevices: String {
    or(all.filter { $0.deviceMemory != nil }.map { "\($0.scheme)://" })
  }

  private static func or(_ words: [String]) -> String {
    guard let last = words.last, words.count > 1 else { return words.joined() }
    return words.dropLast().joined(separator: ", ") + " or " + last
  }
}
