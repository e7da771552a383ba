import CLinux
import CSandbox
import Glibc
import Host

/// The filter that stops calls: BPF, as the kernel takes it.
enum CallFilter {
  /// The filter of `calls`; all others pass.
  ///
  /// Calls of 32-bit programs, which are numbered otherwise, fail with ENOSYS.
  ///
  /// - Throws: ``SandboxError``.
  static func bytes(_ calls: [TrappedCall]) throws(SandboxError) -> [UInt8] {
    guard let filter = seccomp_init(grass_seccomp_allow()) else { throw SandboxError("the filter", code: ENOMEM) }
    defer { seccomp_release(filter) }
    try check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, grass_seccomp_error(UInt16(ENOSYS))))
    // A tree by numbers, so that calls that are not stopped pass after few steps; libseccomp before 2.5 has lists only.
    _ = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)
    for call in calls {
      let number = seccomp_syscall_resolve_name(call.name)
      // __NR_SCMP_ERROR: what this libseccomp does not know, no program here can call by name.
      guard number >= 0 else { continue }
      for conditions in call.cases.isEmpty ? [[]] : call.cases {
        let arguments = conditions.map(\.comparison)
        try check(
          seccomp_rule_add_array(filter, grass_seccomp_notify(), number, UInt32(arguments.count), arguments))
      }
    }
    return try exported(filter)
  }

  /// The calls by their numbers.
  static func byNumber(_ calls: [TrappedCall]) -> [TrappedCall?] {
    // No kernel has as many; of what is unknown here the number is below zero.
    var all = [TrappedCall?](repeating: nil, count: 1024)
    for call in calls {
      let number = Int(seccomp_syscall_resolve_name(call.name))
      if all.indices.contains(number) { all[number] = call }
    }
    return all
  }

  private static func exported(_ filter: scmp_filter_ctx) throws(SandboxError) -> [UInt8] {
    let file = grass_memfd_create("filter", GRASS_MEMFD_PLAIN)
    guard file >= 0 else { throw SandboxError("the filter", code: errno) }
    defer { close(file) }
    try check(seccomp_export_bpf(filter, file))
    let size = Int(lseek(file, 0, SEEK_END))
    var bytes = [UInt8](repeating: 0, count: max(0, size))
    guard pread(file, &bytes, bytes.count, 0) == bytes.count else { throw SandboxError("the filter", code: errno) }
    return bytes
  }

  private static func check(_ result: Int32) throws(SandboxError) {
    guard result == 0 else { throw SandboxError("the filter of system calls", code: -result) }
  }
}

extension TrappedCall.Condition {
  fileprivate var comparison: scmp_arg_cmp {
    switch self {
    case .notEqual(let index, let value):
      scmp_arg_cmp(arg: UInt32(index), op: SCMP_CMP_NE, datum_a: value, datum_b: 0)
    case .atLeast(let index, let value):
      scmp_arg_cmp(arg: UInt32(index), op: SCMP_CMP_GE, datum_a: value, datum_b: 0)
    case .masked(let index, let mask, let value):
      scmp_arg_cmp(arg: UInt32(index), op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
    }
  }
}
