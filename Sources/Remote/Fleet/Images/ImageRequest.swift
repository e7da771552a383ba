/// An image of a host that somebody or a rule asked for, and what became of it.
public struct ImageRequest: Hashable, Sendable {
  public enum State: String, CaseIterable, Sendable {
    /// Others are taken before it.
    case waiting
    case running
    /// The store has it.
    case done
    case failed
    /// Somebody ended it.
    case cancelled

    /// Whether nothing more becomes of it.
    public var isOver: Bool { self != .waiting && self != .running }
  }

  /// Its number in the database.
  public var number: Int64
  public var host: String
  /// Who asked; what a rule asks for has the rule's own words in ``rule``, and the service as who.
  public var who: String
  /// Why: what somebody wrote, or what a rule went by.
  public var reason: String
  /// The rule that asked; empty where somebody did.
  public var rule: String
  /// What is left out, in makedumpfile's numbers added up.
  public var level: Int
  public var state: State
  /// In seconds since 1970.
  public var asked: Double
  public var ended: Double?
  /// Bytes of memory that are in it, and that there are to be.
  public var done: UInt64 = 0
  public var total: UInt64 = 0
  /// The image's ID in the store or the name of its file, and bytes by which the store or folder grew; nil and 0 before it is whole.
  public var image: String?
  public var stored: UInt64 = 0
  /// Why there is no image, or what of it is missing.
  public var problem: String?
}
