import Glibc
import Host

/// Why a program cannot be run as if it were on the watched host.
public struct SandboxError: Error, Sendable {
  /// What could not be done.
  public let what: String
  /// The errno.
  public let code: Int32

  init(_ what: String, code: Int32) { (self.what, self.code) = (what, code) }
}

extension SandboxError: CustomStringConvertible {
  public var description: String {
    let advice =
      switch (what, code) {
      case ("starting its namespaces", EPERM), ("starting its namespaces", ENOSPC), ("naming its users", EPERM):
        "; may this user make namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)?"
      case ("mounting a proc of one's own", EPERM):
        "; in a container whose /proc has covered parts nobody may: run it on the machine itself"
      case ("having system calls answered", EBUSY), ("having system calls answered", EINVAL):
        "; it needs Linux 5.9, and no other program that answers calls above it"
      default: ""
      }
    return "the program cannot be run: \(what): \(SystemCall.describe(code))\(advice)"
  }
}
