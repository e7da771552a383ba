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

  /// How soon somebody has to look: 0 is the soonest.
  public var rank: Int {
    switch self {
    case .panic: 0
    case .lying: 1
    case .still: 2
    case .stuck: 3
    case .silent: 4
    case .unreachable: 5
    case .alive: 6
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
    }
  }
}
