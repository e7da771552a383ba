/// What is known of a host's life, in one word.
public enum HostState: String, CaseIterable, Sendable {
  /// Its device looks, and its kernel goes on.
  case alive
  /// CPUs or tasks of it do not get on, others do.
  case stuck
  /// No CPU of it does anything, or its hypervisor does not run them.
  case still
  /// Its kernel panicked.
  case panic
  /// There is no way to its device.
  case unreachable
  /// The way is there, and its device says nothing.
  case silent
  /// Something in its memory is not what its kernel shows: signs of an attack.
  case lying
  /// Its device looks and its kernel goes on, but its own agent does not answer Prometheus: nobody else can tell that from a dead host.
  case agentDead = "agent-dead"
  /// Its own agent answers Prometheus, but its device does not: the host lives, and nobody looks into it.
  case unseen

  /// How soon somebody has to look: 0 is the soonest.
  public var rank: Int {
    switch self {
    case .panic: 0
    case .lying: 1
    case .still: 2
    case .stuck: 3
    case .agentDead: 4
    case .silent: 5
    case .unreachable: 6
    case .unseen: 7
    case .alive: 8
    }
  }

  /// What it means, for people.
  public var meaning: String {
    switch self {
    case .alive: "the device looks, and the kernel goes on"
    case .stuck: "CPUs or tasks do not get on, others do"
    case .still: "no CPU does anything"
    case .panic: "the kernel panicked"
    case .unreachable: "there is no way to the device"
    case .silent: "the way is there, and the device says nothing"
    case .lying: "the memory is not what the kernel shows: signs of an attack"
    case .agentDead: "the kernel goes on, and the host's own agent does not answer"
    case .unseen: "the host's own agent answers, and its device does not"
    }
  }

  /// Whether nothing is seen of the host from here.
  var isBlind: Bool { self == .unreachable || self == .silent || self == .unseen }
}
