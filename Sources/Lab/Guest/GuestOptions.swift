/// What guest to boot.
public struct GuestOptions: Sendable, Hashable {
  /// How deep the guest's page tables are.
  public enum Paging: Int, Sendable, CaseIterable {
    case fourLevel = 4
    case fiveLevel = 5
  }

  /// A label (`6.1`, `6.12-cloud`), a release, or the path of a vmlinuz.
  public var kernel: String
  /// RAM in MiB.
  public var memory: Int
  public var cpus: Int
  public var paging: Paging
  /// How many plain processes to start beside one of every kind; nil for no workload at all.
  public var sleepers: Int?
  /// What to append to the kernel's command line.
  public var commandLine: String

  public init(
    kernel: String = "6.1", memory: Int = 1024, cpus: Int = 2, paging: Paging = .fourLevel, sleepers: Int? = 20,
    commandLine: String = ""
  ) {
    self.kernel = kernel
    self.memory = memory
    self.cpus = cpus
    self.paging = paging
    self.sleepers = sleepers
    self.commandLine = commandLine
  }
}
