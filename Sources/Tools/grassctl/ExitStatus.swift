import ArgumentParser

/// What grassctl's exit status says.
///
/// Bad usage ends with 64, as everywhere.
enum ExitStatus {
  /// The answer is whole.
  static let success = ExitCode(0)
  /// The answer is there, and marked as not whole.
  static let partial = ExitCode(1)
  /// The host could not be reached, or stopped answering.
  static let unreachable = ExitCode(2)
  /// The memory could not be opened, or no kernel or no such view was found in it.
  static let unreadable = ExitCode(3)
  /// The host was reached and is dead, or some of its CPUs are.
  static let dead = ExitCode(4)

  /// Something is wrong with the host: a finding of warning or critical.
  static let found = ExitCode(5)

  static let help = """
    Exit status: 0 the answer is whole; 1 it is partial, as standard error says; 2 the host does not answer; \
    3 the memory cannot be opened, or no kernel is found in it; 4 the host is dead \
    (only life says so); 5 something is wrong with it (only check says so); 64 bad usage.
    """
}
